"""A release ranked by trees over counts: pages, batches and tables agree, and what is posted counts at once, once."""

import asyncio
import csv
import io
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from tests.end_to_end.test_tiny_project import upnext
from tests.serving.counts import DAY_MS, DAYS, NUM_ITEMS, START_MS, alone, make, posted, rows_between, user_id
from tests.serving.projects import Published
from tests.serving.server import ServerProcess
from upnext.base.artifacts import Workspace
from upnext.base.errors import BadArtifact, BadConfig, BadData
from upnext.base.ids import FIRST
from upnext.commands.forget import forget
from upnext.commands.project import workspace_of
from upnext.commands.score import score_table
from upnext.evaluation.feedback import predict_feedback
from upnext.events.log import EventLog
from upnext.features.aggregates import NOTHING, Aggregate
from upnext.features.catalogue import Catalogue
from upnext.features.online_aggregates import Asked, answer
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.models.boosted import Boosted
from upnext.preparation.candidate_features import candidate_features
from upnext.serving.changes import Change
from upnext.serving.columns import columns_of
from upnext.serving.counted import Counted, split_by_user
from upnext.serving.everyone import recommend_everyone
from upnext.serving.generate import Rollout, generate
from upnext.serving.histories import LiveEvent
from upnext.serving.pasts import Pasts
from upnext.serving.rank import candidates_of
from upnext.serving.recommend import Query, recommend
from upnext.serving.release import AGGREGATES, Release
from upnext.serving.retrieve import make_request
from upnext.serving.service import Service

AFTER_MS = START_MS + (DAYS + 1) * DAY_MS
HOME: dict[str, str | float] = {"surface": "home"}


Start: TypeAlias = Callable[[Published], Service]


def columns_at(service: Service, item_id: str, time_ms: int) -> dict[str, float]:
    """What the ranker reads of an item for a new visitor, NaN where nothing was observed; once posts are taken in."""
    asyncio.run(service.recommend(Query("nobody", time_ms)))
    assortment = service.histories.assortment
    request = make_request(service.release, np.array([time_ms]), np.array([1]), [HOME])
    pasts = Pasts.join([service.histories.as_events([])])
    columns = columns_of(service.histories, assortment, pasts, request)
    assert columns is not None
    items = torch.tensor([[assortment.dense(item_id)]])
    features = columns.given_to(candidates_of(assortment, items), slice(None)).features
    return {name: float(c.values[0, 0]) if c.observed[0, 0] else math.nan for name, c in features.items()}


def aggregates_of(release: Release) -> list[Aggregate]:
    assert isinstance(release.ranker, Boosted)
    return release.ranker.aggregates


def scored(workspace: Path, folder: Path, table: pa.Table) -> pa.Table:
    pq.write_table(table, folder / "asked.parquet")
    score_table(workspace, folder / "asked.parquet", folder / "out.parquet", False, True, Console(file=io.StringIO()))
    return pq.read_table(folder / "out.parquet")


def utilities(table: pa.Table) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = table["trees.like"].to_numpy() + 0.5 * table["trees.played"].to_numpy()
    return found


def test_a_table_has_the_scores_of_evaluation(counts: Published, tmp_path: Path) -> None:
    own = alone(counts, tmp_path / "workspace")
    folder = Workspace(own.workspace).current("log", "log").folder
    log, catalogue, people = EventLog.open(folder / "log"), Catalogue.load(folder), People.load(folder)
    asked = np.arange(0, len(log), 7)
    model = Release.load(own.release).ranker
    assert isinstance(model, Boosted)
    read = candidate_features(model.aggregates, log, asked, catalogue.items.features, people.features.columns)
    expected = predict_feedback(model, log, asked, read)
    surfaces = Vocabulary.load(folder / "context.surface.vocabulary.arrow")
    battery = log.rows.columns["context.battery"]
    table = pa.table(
        {
            "user_id": people.vocabulary.externals(log.rows.user[asked]),
            "item_id": catalogue.vocabulary.externals(log.rows.item[asked]),
            "time_ms": log.rows.time_ms[log.request_start[asked]],
            "surface": surfaces.externals(log.rows.columns["context.surface"].values[asked]),
            "battery": pa.array(battery.values[asked], mask=~battery.observed[asked]),
        }
    )
    found = scored(own.workspace, tmp_path, table)
    assert found.column_names[-4:] == ["now.score", "trees.like", "trees.played", "trees.utility"]
    for name in ("like", "played"):
        np.testing.assert_allclose(found[f"trees.{name}"].to_numpy(), expected[name], atol=1e-5)


def test_pages_batches_and_tables_agree(counts: Published, start: Start, tmp_path: Path) -> None:
    service = start(counts)
    users = [user_id(number) for number in range(5)]
    pages = recommend(service.release, service.histories, [Query(user, AFTER_MS, 10, HOME) for user in users])
    blocks = recommend_everyone(service.release, service.histories, AFTER_MS, 10, HOME)
    of_all = {
        int(u): (i, s) for block in blocks for u, i, s in zip(block.users, block.items, block.scores, strict=True)
    }
    for user, page in zip(users, pages, strict=True):
        items, values = of_all[service.release.users.dense(user)]
        assert page.rows[0].items == items.tolist()
        np.testing.assert_allclose(page.rows[0].scores, values, atol=1e-6)
        assert page.rows[0].scores == sorted(page.rows[0].scores, reverse=True)
        assert "in the order of the utility that trees expects" in page.rows[0].reason
    externals = service.histories.assortment.externals(np.array(pages[0].rows[0].items))
    table = {"user_id": [users[0]] * 10, "item_id": externals, "time_ms": [AFTER_MS] * 10, "surface": ["home"] * 10}
    service.close()
    own = alone(counts, tmp_path / "workspace")
    found = scored(own.workspace, tmp_path, pa.table(table))
    np.testing.assert_allclose(utilities(found), pages[0].rows[0].scores, atol=1e-5)


def test_what_is_posted_counts_at_once_and_once(counts: Published, start: Start) -> None:
    service = start(counts)

    def counted() -> dict[str, float]:
        return columns_at(service, "i05", AFTER_MS)

    def post(feedback: dict[str, float]) -> None:
        of_guests = [
            LiveEvent(f"guest {n}", "i05", AFTER_MS - 1000 - n, f"g{n}", context=HOME, feedback=feedback)
            for n in range(50)
        ]
        asyncio.run(service.accept(of_guests))

    before = counted()
    post({"like": 1.0})
    after = counted()
    assert after["item.count"] == before["item.count"] + 50
    assert after["item.recency"] == 1000 < before["item.recency"]
    assert after["item.like.mean.48h"] > before["item.like.mean.48h"]
    assert after["item.played.mean"] == before["item.played.mean"]
    post({"like": 0.0})  # the same ids again, and other words: the first ones stay
    assert counted() == after
    service = start(counts)  # a restart
    assert counted() == after


def test_a_killed_server_counts_what_it_acknowledged(counts: Published, tmp_path: Path, start: Start) -> None:
    own = alone(counts, tmp_path / "workspace")
    rows = rows_between(np.random.default_rng(8), 60, AFTER_MS - DAY_MS, AFTER_MS, 20)
    events = [posted(row, f"k{number}") for number, row in enumerate(rows)]
    with ServerProcess(own.workspace) as server, httpx.Client(base_url=server.address, trust_env=False) as http:
        for begin in range(0, len(events), 10):
            assert http.post("/v1/events", json={"events": events[begin : begin + 10]}).status_code == 201
        assert http.get("/v1/recommendations", params={"user_id": "u1", "surface": "home"}).json()["fallback"] is False
        server.kill()
    restarted = Service(own.release, own.workspace / "live")
    found = [columns_at(restarted, f"i{number:02d}", AFTER_MS) for number in range(NUM_ITEMS)]
    restarted.close()
    with counts.file.with_name("events.csv").open() as file:
        everything = [*csv.DictReader(file), *rows]
    for number, columns in enumerate(found):
        told = [row for row in everything if row["what"] == f"i{number:02d}"]
        likes = {row["event"]: float(row["like"]) for row in told}  # the last row of an event says what came of it
        assert columns["item.count"] == len(likes)
        late = {row["event"] for row in told if int(row["when"]) >= AFTER_MS - 2 * DAY_MS}
        if late:
            rate = np.mean([likes[event] for event in late])
            assert columns["item.like.mean.48h"] == pytest.approx(rate, abs=1e-6)


def test_counts_of_many_posts_are_those_of_all_at_once(counts: Published, start: Start) -> None:
    service = start(counts)
    release, histories = service.release, service.histories
    ranker = release.ranker
    assert isinstance(ranker, Boosted)
    _, others = split_by_user(ranker.aggregates)
    rng = np.random.default_rng(2)
    events = EventLog.open(Workspace(counts.workspace).current("log", "log").folder / "log").events
    counted, step = Counted([ranker], None, histories.assortment), 0
    while step < len(events):
        size = int(rng.integers(1, 900))
        counted.observe(events.take(slice(step, step + size)), histories.assortment)
        sizes = [len(live.events) for live in counted._live]
        assert all(before > after for before, after in pairwise(sizes))
        step += size
    assert len(counted._live) <= 3
    keys = {"item": np.arange(FIRST, 40)[None], "surface": np.array([[2]]), "user": np.array([[0]])}
    keys |= {name: histories.counted._items.keys(keys["item"], -2)[name] for name in ("author", "genres")}  # type: ignore[union-attr]
    asked = Asked(keys, np.array([START_MS + 5 * DAY_MS]))
    assert release.aggregates is not None
    at_once, bit_by_bit = (
        answer(others, runs, asked) for runs in ([release.aggregates], [live.run for live in counted._live])
    )
    for name, values in at_once.items():
        np.testing.assert_allclose(bit_by_bit[name], values, rtol=1e-6, err_msg=name)


def test_a_new_item_counts_by_its_features_also_when_they_change(counts: Published, start: Start) -> None:
    service = start(counts)
    assortment = service.histories.assortment

    def tell(*changes: Change) -> None:
        asyncio.run(service.change(changes))

    def of(item_id: str) -> dict[str, float]:
        return columns_at(service, item_id, AFTER_MS)

    tell(Change("new 1", {"author": "a1"}), Change("new 2", {"author": "nobody yet"}))
    assert of("new 1")["author.like.mean"] == of("i01")["author.like.mean"] > 0
    assert math.isnan(of("new 2")["author.like.mean"])
    assert of("new 1")["item.count"] == 0
    events = [
        LiveEvent(f"guest {number}", "new 1", AFTER_MS - 1000, f"n{number}", context=HOME, feedback={"like": 1.0})
        for number in range(3)
    ]
    asyncio.run(service.accept(events))
    raised = of("i01")["author.like.mean"]
    assert (of("new 1")["item.count"], of("new 1")["item.recency"], of("i01")["item.count"] > 3) == (3, 1000, True)
    tell(Change("new 1", {"author": "nobody yet"}))
    assert of("new 2")["author.like.mean"] == 1
    assert of("i01")["author.like.mean"] < raised
    assert service.histories.assortment is not assortment


def test_whom_and_what_the_release_never_met_is_like_nothing(counts: Published, start: Start) -> None:
    service = start(counts)
    strange: dict[str, str | float] = {"surface": "a surface of tomorrow"}
    event = LiveEvent("guest", "i05", AFTER_MS - 1000, "x", context=strange, feedback={"like": 1.0})
    asyncio.run(service.accept([event]))
    query = [Query(user, AFTER_MS, 20, context) for user in ("guest", "other") for context in (strange, {})]
    (guest, guest_nowhere, other, _) = recommend(service.release, service.histories, query)
    assert guest.rows[0].scores == guest_nowhere.rows[0].scores
    assert len(other.rows[0].items) == 20


def test_a_lag_holds_for_counts_too(counts: Published, start: Start, tmp_path: Path) -> None:
    own = alone(counts, tmp_path / "workspace")
    make(own, ['publish.lag="2h"'])
    late = start(own)
    assert late.release.settings.lag == 2 * 3_600_000
    found, item = columns_at(late, "i05", AFTER_MS), late.histories.assortment.dense("i05")
    folder = Workspace(own.workspace).current("log", "log").folder
    log = EventLog.open(folder / "log")
    last = log.rows.time_ms[(log.rows.item == item) & (log.rows.time_ms < AFTER_MS - 2 * 3_600_000)].max()
    assert found["item.recency"] == AFTER_MS - 2 * 3_600_000 - last
    assert found["hour_of_day"] == pytest.approx(AFTER_MS % DAY_MS / 3_600_000)


def test_rolled_out_events_count_for_their_user(hours: Published, tmp_path: Path, start: Start) -> None:
    own, settings = alone(hours, tmp_path / "workspace"), ['publish.ranker="trees"', 'rank.trees.kind="boosted"']
    by = '[{by=["user"],what="mean",feedback="like"},{by=["user","family"]},{by=["user"],what="recency"}]'
    make(own, [*settings, f"rank.trees.aggregates={by}", "publish.surfaces={}"])
    service = start(own)
    rollout = Rollout("u11", AFTER_MS, k=4, step_ms=3_600_000, context=HOME)
    imagined = generate(service.release, service.histories, rollout)
    assert len({event.expected["like"] for event in imagined}) == 4
    for number, event in enumerate(imagined):
        item_id = service.histories.assortment.describe(event.item)["item_id"]
        (page,) = recommend(service.release, service.histories, [Query("u11", event.time_ms, 40, HOME)])
        scores = dict(zip(page.rows[0].items, page.rows[0].scores, strict=True))
        assert event.expected["like"] == pytest.approx(scores[event.item], abs=1e-6)
        told = LiveEvent("u11", item_id, event.time_ms, f"n{number}", context=HOME, feedback=event.feedback)
        asyncio.run(service.accept([told]))


def test_forgetting_takes_a_user_out_of_the_counts(counts: Published, tmp_path: Path) -> None:
    own = Published(counts.file, tmp_path / "workspace")
    shutil.copytree(counts.workspace, own.workspace)
    gone, release = "u0", Release.load(own.release)
    before = item_counts(release)
    release.histories.close()
    forget(workspace_of(own.file, [f"workspace={own.workspace}"]), [gone], Console(file=io.StringIO()))
    make(own)
    with counts.file.with_name("events.csv").open() as file:
        table = list(csv.DictReader(file))
    for number, (old, new) in enumerate(zip(before, item_counts(Release.load(own.release)), strict=True)):
        told = {row["event"]: row["who"] for row in table if row["what"] == f"i{number:02d}"}
        of_item = list(told.values())  # an amended event counts once
        assert (old, new) == (len(of_item), len(of_item) - of_item.count(gone))
    assert 0 < sum(before) < len(table)


def item_counts(release: Release) -> list[float]:
    dense = np.array([[release.catalogue.vocabulary.dense(f"i{number:02d}") for number in range(NUM_ITEMS)]])
    counted = [one for one in aggregates_of(release) if one.name == "item.count"]
    assert release.aggregates is not None
    nothing = dict.fromkeys(("author", "genres", "surface"), np.array([[NOTHING]]))
    asked = Asked({"item": dense} | nothing, np.array([AFTER_MS]))
    values: list[float] = answer(counted, [release.aggregates], asked)["item.count"][0].tolist()
    return values


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["publish.page_context={}"], "the page does not say its 'surface': nothing would be counted"),
        (["publish.utility={stars=1}"], "gives a weight to 'stars'"),
        (['publish.ranker="forest"'], "publish.ranker is 'forest'; the models are ['now', 'trees']"),
        (['publish.retriever="trees"'], "publish.retriever is 'trees', a model of [rank]: it retrieves nothing"),
        (['publish.popular="trees"'], "publish.popular is 'trees', a model of [rank]"),
        (['rank.trees.feedback=["played"]'], "does not foresee the feedback 'like'"),
    ],
)
def test_bad_settings_are_explained(counts: Published, tmp_path: Path, settings: list[str], words: str) -> None:
    own = alone(counts, tmp_path / "workspace")
    with pytest.raises((BadConfig, BadData)) as error:
        make(own, settings)
    assert words in str(error.value)


def test_a_context_that_the_page_does_not_say_is_refused_before_training(counts: Published, tmp_path: Path) -> None:
    own = alone(counts, tmp_path / "workspace")
    settings = (f"workspace={own.workspace}", "publish.page_context={}", "rank.trees.training.trees=21")
    done = upnext("run", own.file, *(part for one in settings for part in ("--set", one)))
    assert done.returncode == 2
    assert "does not say its 'surface'" in " ".join(done.stderr.split())
    assert "rank trees" not in done.stdout


def test_damaged_counts_are_told(counts: Published, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(counts.release, folder)
    (folder / AGGREGATES / "times_ms.npy").unlink()
    with pytest.raises(BadArtifact):
        Release.load(folder)
