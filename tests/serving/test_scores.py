"""A release whose ranker asks other models: what it is told online is what a log of everything tells it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.serving.counts import (
    DAY_MS,
    DAYS,
    NUM_ITEMS,
    START_MS,
    alone,
    make,
    posted,
    prepared_with_posted,
    rows_between,
    user_id,
)
from tests.serving.projects import Published
from tests.serving.test_counts import HOME, scored
from upnext.base.artifacts import Workspace
from upnext.base.batches import Column, FlatColumn, SequenceBatch, State
from upnext.commands.project import load_project
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.models.argus import ARGUS
from upnext.models.build import load_any
from upnext.pipeline.told import Scorers, Told
from upnext.serving.chain import states_of, with_scores
from upnext.serving.changes import Change
from upnext.serving.columns import columns_of
from upnext.serving.everyone import recommend_everyone
from upnext.serving.generate import Rollout, generate
from upnext.serving.histories import LiveEvent
from upnext.serving.intake import PostedEvent, check_event
from upnext.serving.pasts import Pasts
from upnext.serving.rank import candidates_of
from upnext.serving.recommend import Query, recommend
from upnext.serving.retrieve import encode, make_request
from upnext.serving.service import Service

Start: TypeAlias = Callable[[Published], Service]

END_MS = START_MS + DAYS * DAY_MS
AFTER_MS = END_MS + 2 * DAY_MS
MORE = """
[pretrain.argus]
hold_back = "4d"
model = { kind = "argus", width = 8, layers = 1, max_length = 12 }
training = { epochs = 1 }

[rank.first]
kind = "boosted"
scores = ["argus", "now"]
hold_back = "2d"
aggregates = [{ by = ["user"] }, { by = ["item"], what = "mean", feedback = "like" }]
training = { trees = 10, least_in_leaf = 20 }

[rank.last]
kind = "boosted"
scores = ["first"]
vectors = ["argus"]
aggregates = [{ by = ["author"], what = "mean", feedback = "like" }]
training = { trees = 10, least_in_leaf = 20 }
"""
SETTINGS = ['publish.retriever="argus"', 'publish.ranker="last"', 'publish.popular="now"']


@pytest.fixture(scope="module")
def asking(counts: Published, tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("scores")
    file = folder / "project.toml"
    file.write_text(counts.file.read_text() + MORE)
    published = Published(file, folder / "workspace")
    make(published, SETTINGS)
    return published


def told_online(
    service: Service, users: list[str], times: list[int], contexts: list[dict[str, Any]], item_ids: list[str]
) -> dict[str, Column]:
    """Everything that the last ranker is told of an item each, (B, 1), as a page tells it."""
    release, histories = service.release, service.histories
    everything = Pasts.join([events for events, _ in histories.read(users)])
    time_ms = np.array(times)
    dense = np.array([release.users.dense(user) for user in users])
    request = make_request(release, time_ms, dense, contexts)
    items = torch.tensor([[histories.assortment.dense(item)] for item in item_ids])
    columns = columns_of(histories, histories.assortment, everything, request)
    assert columns is not None
    candidates = columns.given_to(candidates_of(histories.assortment, items), slice(None))
    known = everything.before(time_ms).below(len(release.catalogue))
    with torch.inference_mode():
        states = states_of(release, lambda model: encode(model, known))
        return dict(with_scores(release, states, request, candidates).features)


def told_offline(own: Published, rows_of: Callable[[EventLog, Catalogue], np.ndarray]) -> dict[str, FlatColumn]:
    """The same of rows of the log that holds what was posted."""
    folder = prepared_with_posted(own).folder
    log, catalogue, people = EventLog.open(folder / "log", "fully"), Catalogue.load(folder), People.load(folder)
    project = load_project(own.file, [f"workspace={own.workspace}", *SETTINGS])
    release = Workspace(own.workspace).current("release", "release").folder
    readers = dict(project.rank)
    names = ("argus", "now", "first", "last")
    models = {name: load_any(release / "models" / name, catalogue.items) for name in names}
    scorers = Scorers(readers, models, log, catalogue.items)
    rows = rows_of(log, catalogue)
    told = Told.of_rows(log, rows, catalogue.items, people.features.columns, scorers)
    return told.to("last", project.rank["last"].aggregates)


def test_the_release_lists_what_its_ranker_asks_in_order(asking: Published, start: Start) -> None:
    listed = json.loads((asking.release / "scorers.json").read_text())["scorers"]
    assert listed == [
        {"name": "argus", "scores": True, "vectors": True},
        {"name": "now", "scores": True, "vectors": False},
        {"name": "first", "scores": True, "vectors": False},
    ]
    release = start(asking).release
    assert list(release.ordering) == ["argus", "now", "first", "last"]
    assert release.scorers[0].model is release.retriever  # loaded once


def test_online_equals_a_log_of_everything(asking: Published, tmp_path: Path) -> None:
    own = alone(asking, tmp_path / "workspace")
    service = Service(own.release, own.workspace / "live")
    shown = rows_between(np.random.default_rng(4), 1200, END_MS, END_MS + 2 * DAY_MS, 30)
    # One item of a request: until it is in a log, a server takes each posted event for a request of its own.
    following = list({row["shown"]: row for row in shown}.values())
    following = list({(row["who"], row["when"]): row for row in following}.values())
    told = [
        check_event(PostedEvent(**posted(row, f"e{n}")), service.histories.assortment, "event")
        for n, row in enumerate(following)
    ]
    asyncio.run(service.accept(told))
    asyncio.run(service.recommend(Query("nobody", AFTER_MS)))  # it takes them in
    some = following[::3]
    online = told_online(
        service,
        [row["who"] for row in some],
        [row["when"] for row in some],
        [posted(row, "")["context"] for row in some],
        [row["what"] for row in some],
    )
    service.close()

    def rows_of(log: EventLog, catalogue: Catalogue) -> np.ndarray:
        people = People.load(prepared_with_posted(own).folder)
        users = people.vocabulary.encode([row["who"] for row in some])
        items = catalogue.vocabulary.encode([row["what"] for row in some])
        found = []
        for user, item, row in zip(users, items, some, strict=True):
            (place,) = np.flatnonzero(
                (log.rows.user == user) & (log.rows.item == item) & (log.rows.time_ms == row["when"])
            )
            found.append(place)
        return np.array(found)

    offline = told_offline(own, rows_of)
    assert {"argus.like", "argus.user_vector", "argus.item_vector", "now.score", "first.like"} <= offline.keys()
    for name in (
        "argus.like",
        "argus.played",
        "argus.user_vector",
        "argus.item_vector",
        "now.score",
        "first.like",
        "author.like.mean",
    ):
        values = online[name].values[:, 0].numpy()
        np.testing.assert_allclose(values, offline[name].values, atol=1e-5, rtol=1e-5, err_msg=name)
        assert np.nanstd(values) > 0


def test_posted_events_change_scores_at_once(asking: Published, start: Start) -> None:
    service = start(asking)

    def scores(user: str) -> dict[str, float]:
        told = told_online(service, [user], [AFTER_MS], [HOME], ["i05"])
        return {name: float(told[name].values[0, 0]) for name in ("argus.like", "now.score", "first.like")}

    before = {user: scores(user) for user in ("u1", "u2")}
    events = [
        LiveEvent("u1", "i05", AFTER_MS - 1000 - n, f"n{n}", context=HOME, feedback={"like": 1.0}) for n in range(8)
    ]
    asyncio.run(service.accept(events))
    asyncio.run(service.recommend(Query("nobody", AFTER_MS)))
    after = {user: scores(user) for user in ("u1", "u2")}
    assert after["u1"]["argus.like"] != before["u1"]["argus.like"]
    assert after["u2"]["argus.like"] == before["u2"]["argus.like"]
    assert int(after["u2"]["now.score"]) == 8  # of the day before


def test_pages_batches_and_tables_agree_and_the_encoder_runs_once(
    asking: Published, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(asking)
    users, calls = [user_id(number) for number in range(5)], list[int]()
    run = ARGUS.encode

    def counted(self: ARGUS, histories: SequenceBatch) -> State:
        calls.append(len(histories))
        return run(self, histories)

    monkeypatch.setattr(ARGUS, "encode", counted)
    pages = recommend(service.release, service.histories, [Query(user, AFTER_MS, 10, HOME) for user in users])
    assert calls == [5]
    blocks = recommend_everyone(service.release, service.histories, AFTER_MS, 10, HOME)
    of_all = {
        int(u): (i, s) for block in blocks for u, i, s in zip(block.users, block.items, block.scores, strict=True)
    }
    for user, page in zip(users, pages, strict=True):
        items, values = of_all[service.release.users.dense(user)]
        assert page.rows[0].items == items.tolist()
        np.testing.assert_allclose(page.rows[0].scores, values, atol=1e-6)
    externals = service.histories.assortment.externals(np.array(pages[0].rows[0].items))
    table = {"user_id": [users[0]] * 10, "item_id": externals, "time_ms": [AFTER_MS] * 10, "surface": ["home"] * 10}
    service.close()
    own = alone(asking, tmp_path / "workspace")
    found = scored(own.workspace, tmp_path, pa.table(table))
    assert {"argus.score", "argus.like", "now.score", "first.like", "last.like"} <= set(found.column_names)
    worth = found["last.like"].to_numpy() + 0.5 * found["last.played"].to_numpy()
    np.testing.assert_allclose(worth, pages[0].rows[0].scores, atol=1e-5)


def test_a_new_item_is_ranked_and_a_rollout_goes_through_all(asking: Published, start: Start) -> None:
    service = start(asking)
    asyncio.run(service.change([Change("new 1", {"author": "a1", "genres": ["g1"]})]))
    event = LiveEvent("guest", "new 1", AFTER_MS - 1000, "n", context=HOME, feedback={"like": 1.0})
    asyncio.run(service.accept([event]))
    page, _ = asyncio.run(service.recommend(Query("guest", AFTER_MS, NUM_ITEMS, HOME)))
    assert page.fallback_reason is None
    assert page.rows[0].scores == sorted(page.rows[0].scores, reverse=True)
    told = told_online(service, ["guest"], [AFTER_MS], [HOME], ["new 1"])
    assert told["now.score"].values.item() >= 1
    assert told["argus.item_vector"].values.abs().any()
    imagined = generate(service.release, service.histories, Rollout("u1", AFTER_MS, k=2, context=HOME))
    assert all(0 < event.expected["like"] < 1 for event in imagined)
