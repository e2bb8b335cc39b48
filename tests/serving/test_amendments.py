"""Amendments that are posted: several posts tell of one event, in histories, in counts and in the next log."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.preparation.logs import DAY, START, config_of, meaning, prepared, segments, write_events
from tests.preparation.test_append import OLD
from tests.serving.asking import NOW as REFRESH_MS
from tests.serving.asking import ids, past, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import Published
from tests.serving.test_counts import AFTER_MS, columns_at
from tests.serving.test_posted_flow_back import put
from tests.serving.test_refresh import refreshed
from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import parse_config
from upnext.pipeline import pretrain, publish
from upnext.pipeline.pretrain import PretrainConfig
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.release import Release, ReleaseSettings
from upnext.serving.service import Service
from upnext.serving.states import Refreshed
from upnext.store.embedded import LmdbStore

NOW = (START + 5 * DAY) * 1000


def test_a_like_amends_the_play_before_it(client: Client, service: Service) -> None:
    (item,) = ids(rows(client, "u", k=1)["for-you"])
    play = {"user_id": "u", "item_id": item, "interaction_id": 7, "time_ms": NOW, "feedback": {"played": 0.25}}
    like = play | {"time_ms": NOW + 60_000, "feedback": {"like": 1}, "context": {"surface": "home"}}
    post(client, play)
    assert item in ids(rows(client, "u", k=200)["for-you"])  # opened, not watched
    post(client, like | {"event_id": "liked"})
    (event,) = past(client, "u")
    assert (event["time_ms"], event["feedback"]) == (NOW, {"played": 0.25, "like": 1.0})
    assert item not in ids(rows(client, "u", k=200)["for-you"])  # the next answer knows
    post(client, like | {"event_id": "liked", "feedback": {"like": 0}})  # the same post again
    assert past(client, "u") == [event]
    # The interaction of another user, and none at all, are other events.
    post(client, play | {"user_id": "v"}, {**play, "interaction_id": None}, play | {"interaction_id": "8"})
    assert len(past(client, "u")) == 3
    assert len(past(client, "v")) == 1
    # Given as text it is the same; a row of before the first one moves the event.
    post(client, play | {"interaction_id": "7", "time_ms": NOW - 1, "feedback": {"dislike": 0}})
    assert min(e["time_ms"] for e in past(client, "u")) == NOW - 1
    assert {"played": 0.25, "like": 1.0, "dislike": 0.0} in [e["feedback"] for e in past(client, "u")]


def test_an_interaction_is_of_one_item(client: Client, service: Service) -> None:
    first, second = ids(rows(client, "u", k=2)["for-you"])
    play = {"user_id": "u", "item_id": first, "interaction_id": "x"}
    post(client, play)
    for body in ([play | {"item_id": second}], [{"user_id": "v", "item_id": first}, play | {"item_id": second}]):
        answer = client.post("/v1/events", json={"events": body})
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert message.startswith(f"the interaction 'x' of user 'u' is of the item '{first}'")
    assert past(client, "v") == []  # all of a body is taken, or none
    answer = client.post("/v1/events", json={"events": [play | {"interaction_id": "y"}, play | {"interaction_id": []}]})
    assert answer.status_code == 400
    both = [
        play | {"interaction_id": "z", "user_id": "v"},
        play | {"interaction_id": "z", "user_id": "v", "item_id": second},
    ]
    assert client.post("/v1/events", json={"events": both}).status_code == 400
    assert past(client, "v") == []


def test_what_is_popular_counts_an_amended_event_once(
    open_client: Callable[[Published], Client], tiny: Published
) -> None:
    client = open_client(tiny)
    first, second = ids(rows(client, "a stranger", k=20)["popular"])[-2:]

    def tell(user: str, item: Any, **feedback: float) -> None:
        post(client, {"user_id": user, "item_id": item, "interaction_id": "1", "feedback": feedback})

    def popular() -> list[tuple[Any, int]]:
        return [(one["item_id"], int(one["score"])) for one in rows(client, "a stranger", k=2)["popular"]]

    tell("u", first, played=1.0)
    tell("v", second, played=0.1)
    tell("w", second, played=1.0)
    assert popular() == [(first, 1), (second, 1)] or popular() == [(second, 1), (first, 1)]
    tell("u", first, like=1.0)  # watched as before
    tell("v", second, like=1.0)  # only now
    assert popular() == [(second, 2), (first, 1)]
    tell("v", second, like=0.0)  # no longer
    tell("x", first, played=0.0)
    tell("x", first, played=0.9)
    assert popular() == [(first, 2), (second, 1)]
    client = open_client(tiny)  # a restart
    assert popular() == [(first, 2), (second, 1)]


def test_counts_after_many_amendments_are_those_of_a_restart(
    counts: Published, start: Callable[[Published], Service]
) -> None:
    service = start(counts)
    rng = np.random.default_rng(4)
    number = 0
    for _ in range(12):
        batch = []
        for _ in range(int(rng.integers(1, 9))):
            who, item = int(rng.integers(6)), int(rng.integers(4))
            feedback = {name: float(rng.integers(0, 2)) for name in ("like", "played") if rng.random() < 0.6}
            time_ms = AFTER_MS - int(rng.integers(1, 100_000))
            known = f"{item} {rng.integers(3)}" if rng.random() < 0.8 else None
            context: dict[str, str | float] = {"surface": str(rng.choice(["home", "search"]))}
            batch.append(
                LiveEvent(f"u{who}", f"i{item:02d}", time_ms, f"e{number}", None, None, context, feedback, known)
            )
            number += 1
        asyncio.run(service.accept(batch))
        found = [columns_at(service, f"i{item:02d}", AFTER_MS) for item in range(5)]
    service = start(counts)
    anew = [columns_at(service, f"i{item:02d}", AFTER_MS) for item in range(5)]
    for one, other in zip(found, anew, strict=True):
        assert one == pytest.approx(other, rel=1e-6, nan_ok=True)
    assert len(service.histories.new_events()) < number


def history_of(log: Artifact, user: str) -> list[Any]:
    """The item, time, played and like of each event, by a log."""
    events = meaning(log)["events"][user]
    return sorted(([e[0], e[2], *(round(v, 6) if seen else None for v, seen in e[7][2:])] for e in events), key=str)


def served(work: Path, user: str) -> list[Any]:
    """The same by the current release and what was posted since."""
    release, live = Release.load(Workspace(work).current("release", "release").folder), LmdbStore(work / "live")
    ((events, _),) = Histories(release, live).read([user])
    columns = [events.columns[f"feedback.{name}"] for name in ("played", "like")]
    rows = [
        [
            release.catalogue.vocabulary.external(int(events.item[n])),
            int(events.time_ms[n]),
            *(round(float(c.values[n]), 6) if c.observed[n] else None for c in columns),
        ]
        for n in range(len(events))
    ]
    live.close()
    release.histories.close()
    return sorted(rows, key=str)


def publish_popular(work: Path) -> None:
    pretrain.run(parse_config(PretrainConfig, {"model": {"kind": "popular"}}, "test"), Workspace(work), "popular")
    publish.run(parse_config(ReleaseSettings, {"retriever": "popular"}, "test"), Workspace(work))


@pytest.mark.parametrize("source", [{}, {"interaction": "play", "merge": {"played": "max"}}])
def test_the_next_log_says_what_the_service_said(tmp_path: Path, source: dict[str, Any]) -> None:
    """Random posts before and after a release that holds some: an event per interaction, by the same rules."""
    write_events(tmp_path, "1.csv", OLD)
    file = tmp_path / "events" / "1.csv"
    header, *lines = file.read_text().splitlines()  # its interactions are called as those that are posted
    file.write_text("\n".join([f"{header},play", *(f"{line},a{n}" for n, line in enumerate(lines))]) + "\n")
    config, work, rng = config_of(tmp_path, live=True, source=source), tmp_path / "work", np.random.default_rng(1)
    events = []
    for number in range(60):
        item = "abcd"[int(rng.integers(4))]
        feedback = {n: float(v) for n, v in (("played", rng.random()), ("like", rng.integers(2))) if rng.random() < 0.6}
        who, time_ms = f"guest {rng.integers(2)}", NOW - int(rng.integers(0, 30))
        known = f"{item}{rng.integers(3)}" if rng.random() < 0.8 else None
        events.append(LiveEvent(who, item, time_ms, str(number), None, None, {}, feedback, known))
    prepared(config, work)
    put(work, *events[:30])
    log = prepared(config, work)
    assert len(segments(log)) == 1 + bool(source)  # the first interactions of all need a log that knows such
    publish_popular(work)
    assert served(work, "guest 0") == history_of(log, "guest 0")
    put(work, *events[30:])
    told = [served(work, f"guest {n}") for n in range(2)]
    grown = prepared(config, work)
    assert len(segments(grown)) == len(segments(log)) + 1
    assert prepared(config, work).name == grown.name
    assert told == [history_of(grown, f"guest {n}") for n in range(2)]
    assert sum(map(len, told)) < 60
    publish_popular(work)
    assert told == [served(work, f"guest {n}") for n in range(2)]
    put(tmp_path / "fresh", *events)
    assert meaning(grown)["events"] == meaning(prepared(config, tmp_path / "fresh"))["events"]


def test_a_stored_vector_that_does_not_know_an_amendment_is_refreshed(
    towers: Published, start: Callable[[Published], Service]
) -> None:
    service = start(towers)
    row = LiveEvent("u06", "i11", REFRESH_MS - 5000, "1", feedback={"like": 0.0}, interaction_id="x")
    service.intake._write([[row]])
    assert refreshed(service, REFRESH_MS) == Refreshed(1, 0)
    assert refreshed(service, REFRESH_MS) == Refreshed(0, 1)
    amended = LiveEvent("u06", "i11", REFRESH_MS - 4000, "2", feedback={"like": 1.0}, interaction_id="x")
    service.intake._write([[amended]])
    assert refreshed(service, REFRESH_MS) == Refreshed(1, 0)
    assert refreshed(service, REFRESH_MS) == Refreshed(0, 1)
