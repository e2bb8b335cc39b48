"""What a ranker reads online is what the log says: a log is published, its people go on, and both are asked alike."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.serving.counts import (
    DAY_MS,
    DAYS,
    NUM_ITEMS,
    NUM_USERS,
    START_MS,
    alone,
    posted,
    prepared_with_posted,
    rows_between,
    user_id,
)
from tests.serving.projects import Published
from upnext.base.batches import Candidates, Column, Request
from upnext.base.schema import context_column, feature_column
from upnext.events.log import EventLog
from upnext.features.aggregates import NOTHING, Questions, compute_aggregates
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.models.boosted import Boosted
from upnext.preparation.candidate_features import past_of
from upnext.serving.columns import columns_of
from upnext.serving.intake import PostedEvents, check_event
from upnext.serving.pasts import Pasts
from upnext.serving.rank import candidates_of, expected_utility
from upnext.serving.recommend import Query
from upnext.serving.retrieve import encode, make_request
from upnext.serving.service import Service

NUM_REQUESTS, CHUNKS, BATCH, C = 10_000, 10, 500, 8
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]

END_MS = START_MS + DAYS * DAY_MS


@pytest.fixture
def own(counts: Published, tmp_path: Path) -> Published:
    return alone(counts, tmp_path / "workspace")


@pytest.fixture
def serve(own: Published) -> Iterator[Callable[[], Service]]:
    """Serve the release on the workspace's own live store; the next service follows the one before."""
    services: list[Service] = []

    def start() -> Service:
        for service in services:
            service.close()
        services[:] = [Service(own.release, own.workspace / "live")]
        return services[0]

    yield start
    for service in services:
        service.close()


@dataclass(frozen=True)
class Asking:
    """Requests by number: who, when, on which surface (none where empty), and for which items."""

    user: list[str]
    time_ms: Ints
    surface: list[str]
    item: list[list[str]]

    def between(self, begin: int, end: int) -> "Asking":
        some = slice(begin, end)
        return Asking(self.user[some], self.time_ms[some], self.surface[some], self.item[some])


def asking(events: list[dict[str, Any]]) -> Asking:
    """Requests in the order of time, some of them at the very instant of an event."""
    rng = np.random.default_rng(11)
    time_ms = rng.integers(END_MS, END_MS + 3 * DAY_MS, NUM_REQUESTS)
    some = rng.random(NUM_REQUESTS) < 0.2
    time_ms[some] = rng.choice([event["when"] for event in events], int(some.sum()))
    return Asking(
        [user_id(int(number)) for number in rng.integers(0, NUM_USERS + 30, NUM_REQUESTS)],
        np.sort(time_ms),
        [str(one) for one in rng.choice(["home", "search", ""], NUM_REQUESTS)],
        [[f"i{item:02d}" for item in rng.choice(NUM_ITEMS, C, replace=False)] for _ in range(NUM_REQUESTS)],
    )


def online(service: Service, asked: Asking) -> tuple[dict[str, Column], Floats]:
    """The columns and utilities of candidates (B, C), as a page has them."""
    release, histories = service.release, service.histories
    pasts = Pasts.join([events for events, _ in histories.read(asked.user)])
    users = np.array([release.users.dense(user) for user in asked.user])
    contexts = [{"surface": surface} if surface else {} for surface in asked.surface]
    request = make_request(release, asked.time_ms, users, contexts)
    items = torch.tensor([[histories.assortment.dense(item) for item in row] for row in asked.item])
    columns = columns_of(histories, histories.assortment, pasts, request)
    assert columns is not None
    candidates = columns.given_to(candidates_of(histories.assortment, items), slice(None))
    return dict(candidates.features), utility_of(service, request, candidates)


def utility_of(service: Service, request: Request, candidates: Candidates) -> Floats:
    ranker = service.release.ranker
    assert isinstance(ranker, Boosted)
    weights = {name: torch.full((len(request),), weight) for name, weight in {"like": 1.0, "played": 0.5}.items()}
    state = encode(ranker, Pasts.join([service.histories.as_events([])] * len(request)))
    return expected_utility(ranker.components, ranker.predict(state, request, candidates), weights).numpy()


def logged(folder: Path, model: Boosted, asked: Asking) -> dict[str, Column]:
    """The same columns from a log that holds everything, each of them looked up by its name."""
    log, catalogue, people = EventLog.open(folder / "log", "fully"), Catalogue.load(folder), People.load(folder)
    surfaces = Vocabulary.load(folder / "context.surface.vocabulary.arrow")
    B = len(asked.user)
    item = catalogue.vocabulary.encode([one for row in asked.item for one in row])
    user = np.repeat(people.vocabulary.encode(asked.user), C)
    surface = np.repeat([surfaces.dense(one) if one else NOTHING for one in asked.surface], C)
    firsts = {name: (c.values, c.observed) for name, c in catalogue.items.features.items()}
    firsts |= {name: (v[:, 0], o[:, 0]) for name, (v, o) in firsts.items() if v.dim() > 1}
    keys = {"user": np.where(user < 2, NOTHING, user), "item": item, "surface": surface}
    keys |= {n: np.where(firsts[n][1].numpy(), firsts[n][0].numpy(), NOTHING)[item] for n in ("author", "genres")}
    past = past_of(model.aggregates, log, catalogue.items.features)
    answers = compute_aggregates(model.aggregates, past, Questions(keys, np.repeat(asked.time_ms, C)))
    found: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]
    found = {name: (values, ~np.isnan(values)) for name, values in answers.items()}
    found |= {feature_column("item", name): (v.numpy()[item], o.numpy()[item]) for name, (v, o) in firsts.items()}
    country = people.features.columns["country"]
    found[feature_column("user", "country")] = (country.values.numpy()[user], country.observed.numpy()[user])
    found[context_column("surface")] = (surface, surface != NOTHING)
    found[context_column("battery")] = (np.zeros(B * C), np.zeros(B * C, bool))
    found["hour_of_day"] = (np.repeat(asked.time_ms, C) % DAY_MS / 3_600_000, np.ones(B * C, bool))
    return {
        name: Column(torch.from_numpy(values).reshape(B, C), torch.from_numpy(observed).reshape(B, C))
        for name, (values, observed) in found.items()
        if name in model.features
    }


def post(service: Service, rows: list[dict[str, Any]], numbers: list[int]) -> None:
    """Post rows as clients do, as JSON; then let the service take them in, which it does before the next page."""
    body = msgspec.json.encode({"events": [posted(row, f"e{n}") for row, n in zip(rows, numbers, strict=True)]})
    events = msgspec.json.decode(body, type=PostedEvents).events
    checked = [check_event(event, service.histories.assortment, f"events[{n}]") for n, event in enumerate(events)]

    async def send() -> None:
        await service.accept(checked)
        await service.recommend(Query("nobody", END_MS))

    asyncio.run(send())


def test_online_equals_the_log(own: Published, serve: Callable[[], Service]) -> None:
    rng = np.random.default_rng(5)
    following = rows_between(np.random.default_rng(4), 2400, END_MS, END_MS + 3 * DAY_MS, NUM_USERS + 20)
    late = rows_between(np.random.default_rng(6), 60, START_MS, END_MS, NUM_USERS)  # told long after it happened
    events = [*late, *sorted(following, key=lambda row: int(row["when"]))]
    whole = asking(following)
    chunk_of = np.minimum((whole.time_ms - END_MS) * CHUNKS // (3 * DAY_MS), CHUNKS - 1)
    service = serve()
    found: list[tuple[dict[str, Column], Floats]] = []
    done = 0
    for chunk in range(CHUNKS):
        until_ms = END_MS + 3 * DAY_MS * (chunk + 1) // CHUNKS if chunk < CHUNKS - 1 else END_MS + 9 * DAY_MS
        until = sum(row["when"] < until_ms for row in events)
        numbers = list(range(done, until))
        again = rng.choice(max(1, done), min(done, 20), replace=False).tolist()  # a client that is not sure repeats
        post(service, [events[n] for n in numbers + again], numbers + again)
        done = until
        if chunk == CHUNKS // 2:
            service = serve()  # a restart: what was posted is read from the live store
        first, last = np.searchsorted(chunk_of, (chunk, chunk + 1)).tolist()
        found += [online(service, whole.between(at, min(at + BATCH, last))) for at in range(first, last, BATCH)]
    service.close()
    model, folder = service.release.ranker, prepared_with_posted(own).folder
    assert isinstance(model, Boosted)
    expected = logged(folder, model, whole)
    assert set(expected) == set(model.features)
    for name, column in expected.items():
        parts = [columns[name] for columns, _ in found]
        values, observed = (torch.cat([getattr(part, of) for part in parts]) for of in ("values", "observed"))
        assert torch.equal(observed, column.observed), name
        known = values[observed].double(), column.values[observed].double()
        torch.testing.assert_close(*known, rtol=1e-6, atol=1e-6, msg=name)
    nothing = torch.zeros((NUM_REQUESTS, C), dtype=torch.int64)
    request = Request(torch.from_numpy(whole.time_ms), nothing[:, 0])
    utility = utility_of(service, request, Candidates(nothing, nothing, nothing == 0, expected))
    assert utility.std() > 0.05
    np.testing.assert_allclose(np.concatenate([scores for _, scores in found]), utility, atol=1e-5)
