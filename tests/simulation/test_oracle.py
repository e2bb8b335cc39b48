"""The oracle: it is right, it reads the past only, and it survives a trip over the disk."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from upnext.base.errors import BadArtifact, BadBatch, NotFound
from upnext.simulation.files import Truth, read_truth, write
from upnext.simulation.oracle import Oracle
from upnext.simulation.settings import DAY_MS
from upnext.simulation.truth import MEMORY
from upnext.simulation.world import Simulation


def last_days(service: Simulation, surface: str, most: int = 400) -> pl.DataFrame:
    """Watched rows of the last four days."""
    recent = pl.col("time_ms") >= service.config.end_ms - 4 * DAY_MS
    return service.events.filter(recent & (pl.col("played") >= 0.5) & (pl.col("surface") == surface)).head(most)


def ask(oracle: Oracle, rows: pl.DataFrame) -> np.ndarray:
    columns = [rows[name].to_list() for name in ("user_id", "surface", "device")]
    return oracle.scores(columns[0], rows["time_ms"].to_numpy(), columns[1], columns[2])


def ndcg(scores: np.ndarray, oracle: Oracle, rows: pl.DataFrame) -> float:
    target = np.array([oracle.item_ids.index(item) for item in rows["item_id"]])
    rank = (scores > np.take_along_axis(scores, target[:, None], axis=1)).sum(axis=1)
    return float(np.mean(np.where(rank < 10, 1 / np.log2(rank + 2), 0)))


@pytest.mark.parametrize("surface", ["search", "home", "browse"])
def test_the_oracle_beats_shuffled_oracles_and_popularity(service: Simulation, surface: str) -> None:
    oracle = Oracle.from_simulation(service)
    rows = last_days(service, surface)
    scores = ask(oracle, rows)
    assert scores.shape == (len(rows), 300)
    assert scores.dtype == np.float32
    right = ndcg(scores, oracle, rows)
    shuffled = ndcg(np.random.default_rng(0).permutation(scores), oracle, rows)
    watched = service.events.filter((pl.col("played") >= 0.5) & (pl.col("time_ms") < rows["time_ms"].min()))
    count = dict(watched["item_id"].value_counts().iter_rows())
    popular = np.array([[count.get(item, 0) for item in oracle.item_ids]] * len(rows))
    assert right > 1.5 * shuffled
    assert right > 1.5 * ndcg(popular, oracle, rows)


def test_organic_scores_are_calibrated(service: Simulation) -> None:
    """If p is the law of the choice, the mean of p(chosen) is the mean of sum_i p_i^2."""
    oracle = Oracle.from_simulation(service)
    rows = service.events.filter((pl.col("surface") == "search") & (pl.col("played") >= 0.5)).tail(3000)
    p = np.exp(ask(oracle, rows).astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    target = np.array([oracle.item_ids.index(item) for item in rows["item_id"]])
    assert p[np.arange(len(rows)), target].mean() == pytest.approx((p**2).sum(axis=1).mean(), rel=0.1)


def test_memory_is_the_watched_past(service: Simulation) -> None:
    oracle = Oracle.from_simulation(service)
    heaviest = int(np.bincount(service.watches.user).argmax())
    user_id = service.users["user_id"][heaviest]
    mine = service.events.filter((pl.col("user_id") == user_id) & (pl.col("played") >= 0.5))
    for time_ms in [service.config.start_ms, *mine["time_ms"].gather([0, 1, 5, -1]).to_list(), service.config.end_ms]:
        past = mine.filter(pl.col("time_ms") < time_ms)["item_id"].to_list()[-MEMORY:]
        expected = [300] * (MEMORY - len(past)) + [oracle.item_ids.index(item) for item in past]
        assert oracle.memory(np.array([heaviest]), np.array([time_ms]))[0].tolist() == expected


def test_later_plays_change_nothing(service: Simulation) -> None:
    rows = last_days(service, "search", 40).unique("user_id", keep="last", maintain_order=True)
    watches = service.watches
    at = dict(zip(rows["user_id"], rows["time_ms"], strict=True))
    moment = np.array([at.get(user_id, service.config.end_ms) for user_id in service.users["user_id"]])
    later = watches.time_ms >= moment[watches.user]
    assert later.sum() >= len(rows)
    item_ids, user_ids = service.items["item_id"].to_list(), service.users["user_id"].to_list()
    before = ask(Oracle.from_simulation(service), rows)
    changed = replace(watches, item=np.where(later, (watches.item + 7) % 300, watches.item))
    np.testing.assert_array_equal(ask(Oracle(Truth(service.world, changed, item_ids, user_ids)), rows), before)
    earlier = replace(watches, item=np.where(later, watches.item, (watches.item + 7) % 300))
    assert not np.allclose(ask(Oracle(Truth(service.world, earlier, item_ids, user_ids)), rows), before)


def test_a_trip_over_the_disk(service: Simulation, tmp_path: Path) -> None:
    write(service, tmp_path / "a")
    write(service, tmp_path / "b")
    names = ["events.parquet", "items.parquet", "truth.npz", "users.parquet"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert pl.read_parquet(tmp_path / "a" / "events.parquet").equals(service.events)
    assert read_truth(tmp_path / "a").world.config == service.config
    rows = pl.concat([last_days(service, surface, 5) for surface in ("search", "home", "browse")])
    from_disk = ask(Oracle.from_folder(tmp_path / "a"), rows)
    np.testing.assert_array_equal(from_disk, ask(Oracle.from_simulation(service), rows))


def test_a_missing_or_damaged_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"holds no truth\.npz"):
        Oracle.from_folder(tmp_path)
    (tmp_path / "truth.npz").write_bytes(b"nonsense")
    with pytest.raises(BadArtifact, match="cannot be read"):
        Oracle.from_folder(tmp_path)
    np.savez(tmp_path / "truth.npz", header=np.array('{"format": 99}'))
    with pytest.raises(BadArtifact, match="has format 99; this version reads 1"):
        Oracle.from_folder(tmp_path)


def test_wrong_requests_are_refused(service: Simulation) -> None:
    oracle = Oracle.from_simulation(service)
    now = np.array([service.config.end_ms])
    with pytest.raises(NotFound, match="user 'nobody' was never simulated"):
        oracle.scores(["nobody"], now, ["home"], ["tv"])
    with pytest.raises(BadBatch, match="surface 'attic' is unknown; allowed: search, home, browse"):
        oracle.scores(["u00000"], now, ["attic"], ["tv"])
    with pytest.raises(BadBatch, match="device 'radio' is unknown"):
        oracle.scores(["u00000"], now, ["home"], ["radio"])
    with pytest.raises(BadBatch, match="got 2 users, 1 times"):
        oracle.scores(["u00000", "u00001"], now, ["home"], ["tv"])
    assert oracle.scores([], np.zeros(0, dtype=np.int64), [], []).shape == (0, 300)


@pytest.mark.parametrize("surface", ["search", "home", "browse"])
def test_expected_feedback_is_calibrated(service: Simulation, surface: str) -> None:
    """Feedback is as frequent as expected, in all and where much or little of it is expected."""
    oracle = Oracle.from_simulation(service)
    rows = service.events.filter(pl.col("surface") == surface).tail(6000)
    columns = [rows[name].to_list() for name in ("user_id", "surface", "device", "item_id")]
    shuffled = np.random.default_rng(0).permutation(len(rows))  # titles in any order, each with its request
    case = np.argsort(shuffled)
    asked = [[column[place] for place in shuffled] for column in columns[:3]]
    times = rows["time_ms"].to_numpy()[shuffled]
    expected = oracle.expected_feedback(asked[0], times, asked[1], asked[2], case, columns[3])
    for name in ("click", "played", "like", "dislike"):
        observed = rows[name].to_numpy().astype(float)
        for part in np.array_split(np.argsort(expected[name], kind="stable"), 3):
            error = observed[part].std() / math.sqrt(len(part)) + 1e-9
            assert abs(observed[part].mean() - expected[name][part].mean()) < 4 * error + 0.02
    with pytest.raises(NotFound, match="item 'x' was never simulated"):
        oracle.expected_feedback(asked[0][:1], times[:1], asked[1][:1], asked[2][:1], np.array([0]), ["x"])
