"""A swap: every request is answered by one release, what is posted around it counts once, and a bad one is refused."""

import asyncio
import gc
import json
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.serving.asking import ids, post, rows
from tests.serving.projects import STRANGE, STRANGE_ITEMS, Published, publish_other, publish_strange
from tests.serving.test_posted_flow_back import make_all, own_workspace
from upnext.base.artifacts import Artifact, Workspace
from upnext.base.errors import BadArtifact, Unreachable
from upnext.base.files import file_hash
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.serving.app import create_app
from upnext.serving.changes import Change
from upnext.serving.following import Follower, OwnReleases
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.recommend import Page, Query
from upnext.serving.release import Release
from upnext.serving.running import Running
from upnext.serving.service import Service

NOW = 1_800_000_000_000


@pytest.fixture(scope="module")
def other(tiny: Published, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The tiny service with another retriever, under other settings."""
    return publish_other(tmp_path_factory.mktemp("other") / "workspace", tiny)


@pytest.fixture(scope="module")
def renumbered(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The strange service with its items in the opposite order: every dense id means another one, and one is gone."""
    return publish_strange(tmp_path_factory.mktemp("renumbered"), STRANGE_ITEMS[:0:-1])


def names(page: Page, running: Running) -> list[list[Any]]:
    return [[running.histories.assortment.describe(item)["item_id"] for item in row.items] for row in page.rows]


def test_a_request_is_answered_by_the_release_that_ran_when_it_began(
    strange: Published, renumbered: Published, start: Callable[[Published], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, go_on = start(strange), threading.Event()
    old, recommend = service.running, Running.recommend
    batches: list[list[tuple[Running, list[Query]]]] = []

    def held(running: Running, queries: list[Query]) -> list[Page]:
        assert go_on.wait(60)
        batches.append([(running, queries)])
        return recommend(running, queries)

    monkeypatch.setattr(Running, "recommend", held)

    async def ask() -> list[Page]:
        first = [asyncio.create_task(service.recommend(Query(user, NOW, 5))) for user in ("p", "q")]
        await asyncio.sleep(0)
        await asyncio.to_thread(service.swap, renumbered.release)  # while both wait
        second = [asyncio.create_task(service.recommend(Query(user, NOW, 5))) for user in ("q", "p")]
        await asyncio.sleep(0)
        go_on.set()
        return [page for page, _ in await asyncio.gather(*first, *second)]

    pages = asyncio.run(ask())
    assert service.serves == renumbered.release.name != old.release.name
    for pair, running in ((pages[:2], old), (pages[2:], service.running)):
        assert [page.user_id for page in pair] == (["p", "q"] if running is old else ["q", "p"])
        expected = recommend(running, [Query(page.user_id, NOW, 5) for page in pair])
        assert [names(page, running) for page in pair] == [names(page, running) for page in expected]
    assert names(pages[0], old) != names(pages[2], service.running)


def event(number: int, item: Any, user: str = "visitor", interaction: str | None = None) -> LiveEvent:
    feedback = {"played": 1.0}
    return LiveEvent(user, item, NOW + number, f"event {number}", feedback=feedback, interaction_id=interaction)


def counted(running: Running) -> list[int]:
    """How often each item was chosen lately, as the row "Popular now" has it."""
    model: Any = running.release.popular
    model.cover(len(running.histories.assortment))
    return [int(count) for count in model.counts_at(NOW + 1000)]  # the fraction tells of earlier ones


@pytest.mark.parametrize("is_amended", [False, True])
def test_what_is_posted_before_while_and_after_counts_once(
    tiny: Published,
    other: Published,
    start: Callable[[Published], Service],
    monkeypatch: pytest.MonkeyPatch,
    is_amended: bool,
) -> None:
    """Where later rows amend the first two, all tell of two events."""
    service = start(tiny)
    item = service.release.catalogue.vocabulary.ids[7]
    number = 0

    def post_some() -> None:
        nonlocal number
        of = ("a", "b") if is_amended else (None, None)
        two = [event(number + step, item, interaction=of[step]) for step in range(2)]
        service.intake._write([two, two[:1]])
        number += 2

    posted = Histories.posted

    def around(histories: Histories) -> list[LiveEvent]:
        post_some()  # is in what is read here, and was told of
        found = posted(histories)
        post_some()  # was told of alone
        return found

    post_some()
    monkeypatch.setattr(Histories, "posted", around)
    service.swap(other.release)
    monkeypatch.undo()
    post_some()
    service.running.recommend([Query("visitor", NOW + 1000)])
    after = counted(service.running)
    ((past, is_live),) = service.histories.read(["visitor"])
    expected = 2 if is_amended else 8
    assert (len(past), int(is_live.sum()), number) == (expected, expected, 8)
    assert counted(start(other).running) == after  # as after a restart
    assert sum(after) == after[service.histories.assortment.dense(item)] == expected


def test_events_that_the_next_log_holds_count_once(
    tiny: Published, tmp_path: Path, start: Callable[[Published], Service]
) -> None:
    last_ms = int(EventLog.open(Workspace(tiny.workspace).current("log", "log").folder / "log").rows.time_ms.max())
    work = own_workspace(tiny, tmp_path)  # its live store is the one that services start on
    item, user = Catalogue.load(tiny.release).vocabulary.ids[3], Release.load(tiny.release).users.ids[0]
    posted = [
        LiveEvent(user, item, last_ms + 60_000 * number, f"event {number}", feedback={"played": 1.0})
        for number in range(5)
    ]
    service = start(tiny)
    service.intake._write([posted[:3]])
    ((before, _),) = service.histories.read([user])
    service.close()
    second = Published(tiny.file, work)
    assert make_all(tiny, work).folder == second.release
    service = start(tiny)
    service.intake._write([posted[2:4]])  # one of them again
    service.swap(second.release)
    service.intake._write([posted[4:]])
    service.running.recommend([Query(user, last_ms + 600_000)])
    swapped = counted(service.running)
    ((past, is_live),) = service.histories.read([user])
    assert (len(past), int(is_live.sum())) == (len(before) + 2, 2)
    restarted = start(second)
    assert counted(restarted.running) == swapped
    assert len(restarted.histories.read([user])[0][0]) == len(past)


def test_an_item_that_comes_while_a_release_is_loaded_is_there_after(
    tiny: Published, other: Published, start: Callable[[Published], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(tiny)
    with TestClient(create_app(service)) as client:
        posted = Histories.posted

        def meanwhile(histories: Histories) -> list[LiveEvent]:
            service._change([(service.running, [Change("quite new", {"title": "Quite new"})])])
            service.intake._write([[event(0, "quite new")]])
            return posted(histories)

        monkeypatch.setattr(Histories, "posted", meanwhile)
        service.swap(other.release)
        monkeypatch.undo()
        assert client.get("/v1/items/quite%20new").json()["title"] == "Quite new"
        assert client.get("/v1/service").json()["title"] == "Other"
        history = client.get("/v1/users/visitor/history").json()["events"]
        assert ids(history) == ["quite new"]
        rows(client, "a stranger")
        assert counted(service.running)[service.histories.assortment.dense("quite new")] == 1


def test_posted_ids_mean_the_same_to_a_release_that_numbers_otherwise(
    strange: Published, renumbered: Published, start: Callable[[Published], Service]
) -> None:
    service = start(strange)
    with TestClient(create_app(service)) as client:
        kept = {"user_id": "p", "item_id": "history", "context": {"age": 3}, "feedback": {"stars": 5}}
        post(client, kept, {"user_id": "p", "item_id": "a/b"})
        service.swap(renumbered.release)
        assert ids(client.get("/v1/users/p/history").json()["events"]) == ["history"]  # a/b is in no catalogue now
        shown = ids(rows(client, "p", k=200)["for-you"])
        assert "history" not in shown
        assert len(shown) == len(STRANGE_ITEMS) - 2
        post(client, {"user_id": "p", "item_id": "é"})
        assert "é" not in ids(rows(client, "p", k=200)["for-you"])


def test_a_context_that_became_of_another_kind_is_like_none(
    strange: Published, tmp_path: Path, start: Callable[[Published], Service]
) -> None:
    other = publish_strange(tmp_path, settings=STRANGE.replace('age = "numeric"', 'age = "categorical"'))
    service = start(strange)
    with TestClient(create_app(service)) as client:
        post(client, {"user_id": "p", "item_id": "é", "context": {"age": 30.5}})
        service.swap(other.release)
        assert ids(client.get("/v1/users/p/history").json()["events"]) == ["é"]
        post(client, {"user_id": "p", "item_id": "a b", "context": {"age": "young"}})
        rows(client, "p")
        service.swap(strange.release)
        assert ids(client.get("/v1/users/p/history").json()["events"]) == ["a b", "é"]
        assert rows(client, "p")


def test_the_old_one_is_let_go_without_a_search_for_garbage(
    tiny: Published, other: Published, start: Callable[[Published], Service]
) -> None:
    service = start(tiny)
    gc.collect()
    gc.disable()
    try:
        with TestClient(create_app(service)) as client:
            rows(client, "u00001")
            client.get("/v1/search", params={"q": "the"})
            gone: list[Any] = [weakref.ref(one) for one in (service.running, service.release, service.histories)]
            gone.append(weakref.ref(service.release.retriever))
            service.swap(other.release)
            rows(client, "u00001")
            assert [one() for one in gone] == [None] * 4
            service.swap(tiny.release)  # its store can be opened again
    finally:
        gc.enable()


def test_one_that_could_not_be_loaded_can_be_later(
    tiny: Published, other: Published, start: Callable[[Published], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(tiny)

    def fail(running: Running, border: Callable[[], None]) -> None:
        raise MemoryError("just now")

    monkeypatch.setattr(Running, "catch_up", fail)
    with pytest.raises(MemoryError) as kept:  # and with it the frames of what failed, and the release in them
        service.swap(other.release)
    assert service.serves == tiny.release.name
    monkeypatch.undo()
    service.swap(other.release)
    assert service.serves == other.release.name
    del kept


def copied(workspace: Workspace, release: Path, name: str) -> Path:
    """A release under another name, to be damaged."""
    folder = workspace.root / "artifacts" / name
    shutil.copytree(release, folder)
    return folder


def use(workspace: Workspace, name: str) -> None:
    workspace.use("release", Artifact(workspace.root / "artifacts" / name, {}))


def rehash(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = file_hash(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_cannot_be_served_is_refused_and_the_old_one_goes_on(
    tiny: Published, other: Published, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(tmp_path)
    good, next_ = (copied(workspace, one, f"release-{n}") for n, one in enumerate((tiny.release, other.release)))
    use(workspace, good.name)
    service = Service(good, tmp_path / "live")
    follower = Follower(service, OwnReleases(workspace), 1000)
    service._follower = follower  # it looks when the test says so
    tampered, unknown, hollow, gone = (copied(workspace, other.release, f"release-{n}") for n in range(2, 6))
    (tampered / "items.arrow").write_bytes(b"something else")
    text = (unknown / "manifest.json").read_text()
    (unknown / "manifest.json").write_text(text.replace('"format_version": 1', '"format_version": 99'))
    (hollow / "posted.npy").write_bytes(b"\x93NUMPY and then nothing")
    rehash(hollow, "posted.npy")
    (gone / "manifest.json").unlink()
    reasons = {"tampered": "was changed after it was written", "unknown": "format version 99", "gone": "no finished"}
    with TestClient(create_app(service)) as client, caplog.at_level(logging.ERROR):
        user = service.release.users.ids[0]
        before = rows(client, user)
        for bad, why in (
            (tampered, reasons["tampered"]),
            (unknown, reasons["unknown"]),
            (hollow, "it cannot be loaded"),
            (gone, reasons["gone"]),
        ):
            use(workspace, bad.name)
            follower._look()
            follower._look()
            health = client.get("/health").json()
            assert health["release"] == good.name
            assert why in health["refused"] == client.get("/v1/service").json()["refused"]
            assert rows(client, user) == before
            assert caplog.text.count(f"{bad.name} is refused: ") == 1
            assert f"{good.name} goes on" in caplog.text
        use(workspace, next_.name)
        follower._look()
        assert client.get("/health").json()["refused"] is None
        assert client.get("/health").json()["release"] == next_.name
        assert rows(client, user) != before


def test_a_refused_one_is_tried_again_after_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tried = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)

    class Nothing:
        serves = "a"
        is_mended, is_away = False, False

        def current(self) -> str:
            if self.is_away:
                raise Unreachable("nobody answers")
            return "b"

        def fetch(self, name: str) -> Path:
            tried.append(now)
            if not self.is_mended:
                raise BadArtifact("damaged")
            return Path("a")

        def took(self, folder: Path) -> None:
            pass

        def swap(self, release_folder: Path) -> None:
            raise AssertionError("it serves that already")

    both = Nothing()
    follower = Follower(both, both, 10.0)
    for second in range(0, 100, 10):
        now = float(second)
        follower._look()
    assert tried == [0, 10, 30, 70]
    for both.is_away, why in ((True, "nobody answers"), (False, "b is refused: damaged")):  # that changes no wait
        follower._look()
        assert (follower.refused, len(tried)) == (why, 4)
    now, both.is_mended = 1000.0, True
    follower._look()
    follower._look()
    assert (len(tried), follower.refused) == (5, None)
    follower.close()
