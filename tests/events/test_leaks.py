"""Side tables that know the future: planted columns, honest ones, and the real file that taught us."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.events.logs import schema
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.events.leaks import audit_side_tables, find_suspects
from upnext.events.log import EventLog, LogRows
from upnext.events.split import TEST, TRAIN

NUM_ITEMS = 1500
DAY = 86_400_000


class World:
    """A log whose items have a popularity, and columns that know of the past, of the future, or of neither."""

    def __init__(self, seed: int, is_news: bool = False) -> None:
        rng = np.random.default_rng(seed)
        popularity = np.exp(rng.normal(size=NUM_ITEMS)) * 12
        released = rng.uniform(0, 30, NUM_ITEMS) if is_news else np.zeros(NUM_ITEMS)
        item = np.repeat(np.arange(NUM_ITEMS), rng.poisson(popularity))
        days = released[item] + (rng.exponential(2, len(item)) if is_news else rng.uniform(0, 30, len(item)))
        item, days = item[days < 30], days[days < 30]
        order = np.argsort(days)
        self.dense, self.time_ms = item[order] + 2, (days[order] * DAY).astype(np.int64)
        self.part = np.where(days[order] < 23, TRAIN, TEST).astype(np.int8)
        whole, train = (
            np.bincount(rows, minlength=NUM_ITEMS).astype(float) for rows in (item, self.dense[self.part == TRAIN] - 2)
        )
        noise = np.exp(rng.normal(0, 0.7, NUM_ITEMS))
        unknown = whole.copy()
        unknown[rng.random(NUM_ITEMS) < 0.3] = np.nan
        self.honest = {
            "length": rng.normal(size=NUM_ITEMS),
            "constant": np.ones(NUM_ITEMS),
            "past": train,
            "past_and_noise": train * noise,
            "budget": np.log(popularity) + rng.normal(0, 3, NUM_ITEMS),  # goes with popularity, a little
            "released": np.round(released, 1),
        }
        self.leaking = {
            "whole": whole,
            "later": whole - train,
            "whole_and_noise": whole * noise,
            "backwards": -whole,
            "with_gaps": unknown,
        }

    def suspects(self, columns: dict[str, NDArray[Any]], has_times: bool = True) -> set[str]:
        found = find_suspects(columns, self.dense, self.time_ms if has_times else None, self.part)
        return {suspect.column for suspect in found}

    def log(self) -> EventLog:
        """All of it by one user, in the order of time."""
        count = len(self.dense)
        zeros = np.zeros(count, np.int64)
        rows = LogRows(zeros + 2, self.dense, self.dense, self.time_ms, np.arange(count), zeros - 1, zeros - 1, {})
        return EventLog(schema(contexts={}, feedback={}, views={}), rows, np.array([0, 0, 0, count]))


@pytest.fixture(scope="module")
def world() -> World:
    return World(0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("is_news", [False, True], ids=["films", "news"])
def test_planted_columns(seed: int, is_news: bool) -> None:
    """In news an item lives two days: its date tells how much of its life is ahead, and stays honest."""
    world = World(seed, is_news)
    assert world.suspects(world.honest) == set()
    found = world.suspects(world.leaking | {"whole_and_noise_count": world.leaking["whole_and_noise"]})
    assert found >= {"whole", "later", "backwards", "with_gaps"}
    assert is_news or found >= {"whole_and_noise", "whole_and_noise_count"}


def test_without_times_the_counts_alone_speak(world: World) -> None:
    assert world.suspects(world.honest, has_times=False) == set()
    assert world.suspects(world.leaking, has_times=False) == set(world.leaking)


def test_a_name_lowers_what_is_asked_of_the_numbers(world: World) -> None:
    rng = np.random.default_rng(5)
    weak = world.leaking["whole"] * np.exp(rng.normal(0, 1.3, NUM_ITEMS))
    assert world.suspects({"weak": weak, "watch_cnt": weak, "avgWeak": weak, "countess": weak}) == {
        "watch_cnt",
        "avgWeak",
    }
    assert world.suspects({"length_cnt": world.honest["length"]}) == set()


def test_few_rows_say_nothing(world: World) -> None:
    few = np.where(np.arange(NUM_ITEMS) < 49, world.leaking["whole"], np.nan)
    assert world.suspects({"whole": few}) == set()
    assert find_suspects({}, world.dense, None, world.part) == []


def test_the_strongest_comes_first_with_its_evidence(world: World) -> None:
    found = find_suspects(world.leaking, world.dense, world.time_ms, world.part)
    assert found[0].column == "later"
    assert found[0].correlation == pytest.approx(1)
    assert found[0].partial == pytest.approx(1)
    evidence = "rank correlation with held-out events 1.00, given the training part 1.00"
    assert str(found[0]) == f"later ({evidence}, {found[0].num_rows:,} rows)"


def audit(world: World, table: dict[str, Any], declared: list[str], allowed: list[str], owner: str = "item") -> Any:
    return audit_side_tables(world.log(), world.part, {owner: pa.table(table)}, {owner: declared}, allowed)


def test_the_audit_warns_and_refuses_what_is_declared(world: World) -> None:
    table: dict[str, Any] = {
        "title": ["a"] * NUM_ITEMS,
        "length": world.honest["length"],
        "plays": world.leaking["whole"],
    }
    (finding,) = audit(world, table, ["length"], [])
    assert (finding.check, finding.level, finding.count) == ("columns of items", "warning", 1)
    assert finding.message.startswith("1 of 2 look like aggregates of the future: plays (rank correlation with")
    with pytest.raises(BadConfig) as caught:
        audit(world, table, ["length", "plays"], [])
    assert "the item feature 'plays' looks like an aggregate of the future: plays (rank" in str(caught.value)
    assert (
        "remove it from prepare.source.items.features, or, if it holds at any time, set prepare.allow_leaks = "
        in str(caught.value)
    )
    (finding,) = audit(world, table, ["length", "plays"], ["plays"])
    assert (finding.level, finding.count) == ("note", 1)
    assert finding.message.endswith("; allowed by prepare.allow_leaks: plays")
    with pytest.raises(BadConfig, match=r"allow_leaks names 'playz', which no side table has; columns: length, plays"):
        audit(world, table, [], ["playz"])


def test_numbers_in_text_and_categories_are_looked_at(world: World) -> None:
    plays = world.leaking["whole"].astype(int)
    table = {"plays": [None if number % 7 == 0 else str(number) for number in plays], "is_hit": plays > 20}
    (finding,) = audit(world, table, [], [])
    assert finding.count == 2
    assert audit(world, {"title": ["1", "two"] * (NUM_ITEMS // 2), "row2": [None] * NUM_ITEMS}, [], []) == []
    assert audit(world, {"row": list(range(NUM_ITEMS))}, [], []) == []  # what stands for a table without columns


def test_a_name_alone_is_a_note(world: World) -> None:
    table = {"num_words": world.honest["length"], "length": world.honest["length"]}
    (finding,) = audit(world, table, ["num_words"], [])
    assert (finding.level, finding.count) == ("note", 1)
    assert finding.message.endswith("by their names these may be counts: num_words")
    (finding,) = audit(world, {"length": world.honest["length"]}, [], [])
    assert (finding.level, finding.count) == ("ok", 0)


def test_users_are_looked_at_too(world: World) -> None:
    log = world.log()
    zeros = np.zeros(len(world.dense), np.int64)
    rows = LogRows(world.dense, zeros + 2, zeros, world.time_ms, zeros, zeros - 1, zeros - 1, {})
    tables = {"user": pa.table({"visits": world.leaking["whole"]})}
    (finding,) = audit_side_tables(EventLog(log.schema, rows, log.offsets), world.part, tables, {}, [])
    assert (finding.check, finding.level) == ("columns of users", "warning")


@pytest.mark.parametrize("seed", range(3))
def test_averages_over_the_test_period_are_found_though_they_follow_no_count(seed: int) -> None:
    """How much of a video is played depends on its length, which is honest, and on more."""
    world, rng = World(seed), np.random.default_rng(100 + seed)
    length = rng.normal(size=NUM_ITEMS)
    liking = 1 / (1 + np.exp(length + rng.normal(size=NUM_ITEMS)))
    item, is_trained = world.dense - 2, world.part == TRAIN
    played = rng.beta(2 * liking[item] + 0.1, 2.1 - 2 * liking[item]).astype(np.float32)
    observed = rng.random(len(item)) < 0.8
    feedback = {"played": FlatColumn(np.where(observed, played, np.float32(0)), observed)}

    def mean(of: NDArray[np.bool_]) -> NDArray[np.float64]:
        counts = np.bincount(item[of], minlength=NUM_ITEMS)
        return np.where(counts > 0, np.bincount(item[of], played[of], NUM_ITEMS) / np.maximum(counts, 1), np.nan)

    elsewhere = liking + rng.normal(0, 0.05, NUM_ITEMS)  # counted by many more people, at any time
    columns = {
        "length": length,
        "noise": rng.normal(size=NUM_ITEMS),
        "avg_before": mean(observed & is_trained),
        "before": mean(observed & is_trained),
        "whole": mean(observed),
        "later": -mean(~is_trained),
        "avg_elsewhere": elsewhere,
    }
    assert not find_suspects(columns, world.dense, world.time_ms, world.part)
    found = find_suspects(columns, world.dense, world.time_ms, world.part, feedback)
    assert {suspect.column for suspect in found} == {"whole", "later", "avg_elsewhere"}
    assert found[0].column == "later"
    assert str(found[0]).startswith("later (rank correlation with held-out mean played -")
    nobody = {"played": FlatColumn(np.zeros(len(item), np.float32), np.zeros(len(item), np.bool_))}
    assert not find_suspects(columns, world.dense, world.time_ms, world.part, nobody)


@pytest.mark.data
def test_kuairand_counts_are_found_and_honest_columns_pass(data_folder):
    """The published item table, read as a table of one's own; train on April, test on May."""
    folder = data_folder / "kuairand-pure"
    items = pl.read_parquet(folder / "item_features.parquet")
    read = ["video_id", "time_ms", "long_view", "is_like"]
    log = pl.concat([pl.read_parquet(file, columns=read) for file in sorted(folder.glob("log_*"))])
    number = dict(zip(items["video_id"], range(2, items.height + 2), strict=True))
    dense = np.array([number[video] for video in log["video_id"]])
    time_ms = log["time_ms"].to_numpy()
    part = np.where(time_ms <= time_ms[:94_784].max(), TRAIN, TEST).astype(np.int8)
    numeric = [name for name, dtype in items.schema.items() if dtype.is_numeric()]
    columns = {name: items[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in numeric}
    everywhere = np.ones(len(log), np.bool_)
    feedback = {name: FlatColumn(log[name].cast(pl.Float32).to_numpy(), everywhere) for name in read[2:]}
    # Shares, such as likes per view, follow no count.
    shown = columns["show_cnt"]
    with np.errstate(all="ignore"):
        shares = {
            f"{name}_rate": columns[f"{name}_cnt"] / shown for name in ("like", "complete_play", "long_time_play")
        }
    found = find_suspects(shares, dense, time_ms, part, feedback)
    assert {(suspect.column, suspect.held_out) for suspect in found} == {
        ("like_rate", "mean is_like"),
        ("complete_play_rate", "mean long_view"),
        ("long_time_play_rate", "mean long_view"),
    }
    suspects = {suspect.column for suspect in find_suspects(columns, dense, time_ms, part, feedback)}
    counted = {name for name in numeric if name.endswith(("_cnt", "_num"))} | {
        "counts",
        "play_progress",
        "play_duration",
    }
    assert suspects >= {"show_cnt", "play_cnt", "like_cnt", "counts", "play_progress", "play_duration"}
    assert suspects <= counted | {"comment_stay_duration"}
    assert len(counted - suspects) <= len(counted) // 20
    assert not suspects & {"video_duration", "upload_date", "author_id", "music_id", "server_width", "server_height"}
