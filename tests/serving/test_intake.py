"""Posted events: taken once, in their place in time, kept over restarts and releases."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.serving.asking import ids, past, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import STRANGE, STRANGE_ITEMS, Published, publish_strange
from upnext.serving.service import Service


def test_a_repeated_post_changes_nothing(client: Client, service: Service) -> None:
    item = service.release.catalogue.vocabulary.ids[5]
    event = {"user_id": "u", "item_id": item, "event_id": "once", "feedback": {"like": 1}}
    post(client, event, event)
    first = past(client, "u")
    assert len(first) == 1
    assert post(client, event, event | {"feedback": {"dislike": 1}}) == ["once", "once"]
    assert past(client, "u") == first
    # The same event id of another user is another event.
    post(client, event | {"user_id": "v"})
    assert len(past(client, "v")) == 1


def test_popular_counts_each_event_once(client: Client) -> None:
    first, second = ids(rows(client, "a stranger", k=20)["popular"])[-2:]  # none of these is in the row "For you"
    once = {"user_id": "u", "item_id": second, "event_id": "e", "feedback": {"played": 1}}
    post(client, once, {"user_id": "u", "item_id": first, "feedback": {"played": 1}})
    post(client, once)
    post(client, {"user_id": "v", "item_id": first, "feedback": {"played": 1}})
    post(client, {"user_id": "v", "item_id": second, "feedback": {"played": 0.1}})  # not watched
    # The window ends at the last event, so that it holds nothing older than these.
    popular = rows(client, "a stranger", k=2)["popular"]
    assert [(item["item_id"], int(item["score"])) for item in popular] == [(first, 2), (second, 1)]


def test_late_events_take_their_place(client: Client, service: Service) -> None:
    user = service.release.users.ids[0]
    before = past(client, str(user))
    middle, first = before[len(before) // 2]["time_ms"], before[-1]["time_ms"]
    late, early = ids(rows(client, user, k=2)["for-you"])
    post(client, {"user_id": user, "item_id": late, "time_ms": middle, "feedback": {"like": 1}})
    post(client, {"user_id": user, "item_id": early, "time_ms": first - 86_400_000, "feedback": {"like": 1}})
    after = past(client, str(user))
    assert [event["time_ms"] for event in after] == sorted((e["time_ms"] for e in after), reverse=True)
    assert [event for event in after if event["is_live"]] == [event for event in after if event not in before]
    assert ids([event for event in after if event["is_live"]]) == [late, early]
    ((events, is_live),) = service.histories.read([user])
    assert is_live.sum() == 2
    assert (np.diff(events.time_ms) >= 0).all()
    assert (np.diff(events.request) >= 0).all()
    for row in np.flatnonzero(is_live):  # a posted event is a request of its own
        assert (events.request == events.request[row]).sum() == 1


def test_a_restart_keeps_events(open_client: Callable[[Published], Client], tiny: Published) -> None:
    client = open_client(tiny)
    (item, other) = ids(rows(client, "u", k=2)["for-you"])
    post(client, {"user_id": "u", "item_id": item, "feedback": {"like": 1}})
    history, page = past(client, "u"), rows(client, "u")
    client = open_client(tiny)
    assert past(client, "u") == history
    assert rows(client, "u") == page
    post(client, {"user_id": "u", "item_id": other, "feedback": {"like": 1}})
    assert set(ids(past(client, "u"))) == {item, other}


def test_another_release_keeps_events(
    open_client: Callable[[Published], Client], strange: Published, tmp_path: Path
) -> None:
    client = open_client(strange)
    post(client, *({"user_id": "u", "item_id": item, "feedback": {"stars": 4}} for item in ("é", "#hash", "a b")))
    # The next release has lost an item, gained one, numbers the rest differently, and knows no `stars`.
    items = ["new", *(item for item in reversed(STRANGE_ITEMS) if item != "#hash")]
    settings = STRANGE.replace('stars = "amount", ', "").replace("like = { stars = 5.0 }", "like = {}")
    client = open_client(publish_strange(tmp_path / "next", items, settings))
    assert sorted(ids(past(client, "u"))) == ["a b", "é"]
    assert all(event["feedback"] == {} for event in past(client, "u"))
    shown = ids(rows(client, "u", k=200)["for-you"])
    assert sorted(shown) == sorted(set(items) - {"a b", "é"})


def test_events_of_the_future_wait(client: Client) -> None:
    (item,) = ids(rows(client, "u", k=1)["for-you"])
    time_ms = time.time_ns() // 1_000_000 + 3_600_000  # a clock that is an hour fast
    post(client, {"user_id": "u", "item_id": item, "time_ms": time_ms, "feedback": {"like": 1}})
    assert ids(past(client, "u")) == [item]
    assert ids(rows(client, "u", k=1)["for-you"]) == [item]
