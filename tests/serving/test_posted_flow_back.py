"""What people did on the page becomes part of the next log, once, and no server counts it twice."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from tests.end_to_end.test_tiny_project import fail, succeed
from tests.preparation.logs import DAY, START, config_of, meaning, prepared, segments, write_events
from tests.preparation.test_append import NEW, OLD
from tests.serving.projects import Published
from tests.serving.server import ServerProcess
from upnext.base.artifacts import Artifact, Workspace
from upnext.base.ids import stable_hash
from upnext.commands.project import load_project
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.vocabulary import Vocabulary
from upnext.pipeline import evaluate, prepare, pretrain, publish
from upnext.pipeline.evaluate import EvaluateConfig
from upnext.preparation.forgotten import Forgotten
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

ORDER_ONLY = """
workspace = "{folder}/work"
[prepare]
live = true
[prepare.source]
kind = "table"
path = "{folder}/log.csv"
user = "user"
item = "item"
[prepare.split]
kind = "leave_last_out"
[pretrain.popular.model]
kind = "popular"
"""
NOW = (START + 5 * DAY) * 1000


def put(work: Path, *events: LiveEvent) -> None:
    store = LmdbStore(work / "live")
    store.put({event.key(): msgspec.msgpack.encode(event) for event in events})
    store.close()


def make_all(published: Published, workspace: Path) -> Artifact:
    """Prepare with posted events, train, and publish."""
    project = load_project(published.file, [f"workspace={workspace}", "prepare.live=true"])
    work = Workspace(workspace)
    prepare.run(project.prepare, work)
    for name, config in project.pretrain.items():
        pretrain.run(config, work, name)
    assert project.publish is not None
    return publish.run(project.publish, work)


def models_of_report(work: Path) -> set[str]:
    """Who is in the report of a simulated log with posted events, some of them without a context."""
    config = EvaluateConfig(k=[3], bootstrap_samples=20, utility={"played": 1.0})
    report = evaluate.run(config, Workspace(work), ["popular-now"])
    return {
        row["model"]
        for name in ("metrics", "feedback")
        for row in json.loads((report.folder / f"{name}.json").read_text())
    }


def own_workspace(published: Published, folder: Path) -> Path:
    """The artifacts so far, linked one by one, so that new ones stay here."""
    (folder / "artifacts").mkdir(parents=True)
    for artifact in (published.workspace / "artifacts").iterdir():
        (folder / "artifacts" / artifact.name).symlink_to(artifact)
    (folder / "current").mkdir()
    for pointer in (published.workspace / "current").iterdir():
        (folder / "current" / pointer.name).write_text(pointer.read_text())
    return folder


def test_what_was_posted_to_a_server_is_in_the_next_log_and_counts_once(tiny: Published, tmp_path: Path) -> None:
    work = own_workspace(tiny, tmp_path / "work")
    catalogue = Catalogue.load(tiny.release)
    log = EventLog.open(Workspace(work).current("log", "log").folder / "log")
    last_ms, item = int(log.rows.time_ms.max()), catalogue.vocabulary.ids[3]
    user = Vocabulary.load(tiny.release / "users.vocabulary.arrow").ids[0]
    event: dict[str, Any] = {"item_id": item, "feedback": {"played": 1.0}, "context": {"surface": "home"}}
    body = [
        event | {"user_id": who, "event_id": f"{who} {n}", "time_ms": last_ms + 60_000 * n}
        for who in (user, "guest")
        for n in (1, 2)
    ]

    def ask(server: ServerProcess) -> list[dict[str, Any]]:
        with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as http:
            histories = [http.get(f"/v1/users/{who}/history", params={"limit": 1000}).json() for who in (user, "guest")]
            return [history | {"release": None} for history in histories]

    with ServerProcess(work) as server:
        before = ask(server)
        with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as http:
            assert http.post("/v1/events", json={"events": body}).status_code == 201
        posted = ask(server)
    assert [after["num_events"] - old["num_events"] for old, after in zip(before, posted, strict=True)] == [2, 2]
    first = Workspace(work).current("release", "release")

    second = make_all(tiny, work)
    grown = Workspace(work).current("log", "log")
    assert len(segments(grown)) == 2
    rows = EventLog.open(grown.folder / "log").rows
    users = Vocabulary.load(grown.folder / "users.vocabulary.arrow")
    late = np.flatnonzero(rows.order >= 1 << 62)
    assert [
        (users.external(u), t - last_ms)
        for u, t in zip(rows.user[late].tolist(), rows.time_ms[late].tolist(), strict=True)
    ] == [(user, 60_000), (user, 120_000), ("guest", 60_000), ("guest", 120_000)]
    assert rows.item_hash[late].tolist() == [stable_hash(item)] * 4
    assert rows.columns["feedback.played"].values[late].tolist() == [1.0] * 4
    assert not rows.columns["feedback.like"].observed[late].any()
    assert rows.columns["context.surface"].observed[late].all()
    assert make_all(tiny, work).name == second.name  # nothing new was posted
    assert "oracle" not in models_of_report(work)

    with ServerProcess(work) as server:
        again = ask(server)
        with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as http:
            repeated = [body[0], body[0] | {"event_id": "new", "time_ms": last_ms + 1}]
            assert http.post("/v1/events", json={"events": repeated}).status_code == 201
        later = ask(server)
    assert [one["num_events"] for one in again] == [one["num_events"] for one in posted]
    assert later[0]["num_events"] == posted[0]["num_events"] + 1  # the repeated one is known, the new one counts
    for folder, new in (
        (second.folder, ["new"]),
        (first.folder, ["new", f"{user} 1", "guest 1", f"{user} 2", "guest 2"]),
    ):
        release = Release.load(folder)
        live = LmdbStore(work / "live")
        histories = Histories(release, live)
        assert sorted(event.event_id for event in histories.posted()) == sorted(new)
        (pasts,) = [histories.read_many([user])]
        ((events, is_live),) = histories.read([user])
        assert pasts.events.time_ms.tolist() == events.time_ms.tolist()
        assert len(events) == int(log.offsets[3] - log.offsets[2]) + 3
        assert is_live.sum() == sum(event.user_id == user for event in histories.posted())
        live.close()
        release.histories.close()


def test_posted_events_and_new_files_give_the_log_of_all_of_them(tmp_path: Path) -> None:
    """In whatever order they come, with ties among posted events and with rows of files."""
    config = config_of(tmp_path, live=True)
    write_events(tmp_path, "1.csv", OLD)
    prepared(config, tmp_path / "work")
    first = [
        LiveEvent("ann", "b", NOW, "1", "r2", 4, {"surface": "page", "age": 7.0}, {"played": 0.5}),
        LiveEvent("ann", "c", NOW, "2", None, None, {"surface": 3.0, "age": "old"}, {"like": 1.0}),
        LiveEvent("page only", "new item", NOW - 5, "3", None, None, {}, {"like": 0.5, "played": 2.0, "gone": 1.0}),
        LiveEvent(7, 8, NOW - 9, "4"),
    ]
    put(tmp_path / "work", *first)
    log = prepared(config, tmp_path / "work")
    assert "4 posted events were added" in log.manifest["metrics"]["notes"]
    assert prepared(config, tmp_path / "work").name == log.name
    write_events(tmp_path, "2.csv", [*NEW, ("ann", "a", NOW // 1000 - START)])
    put(tmp_path / "work", LiveEvent("ann", "d", NOW, "0"), LiveEvent("bob", "a", NOW - 3 * 1000 * DAY, "5"))
    log = prepared(config, tmp_path / "work")
    assert len(segments(log)) == 3
    put(tmp_path / "fresh", *first, LiveEvent("ann", "d", NOW, "0"), LiveEvent("bob", "a", NOW - 3 * 1000 * DAY, "5"))
    assert meaning(log) == meaning(prepared(config, tmp_path / "fresh"))
    events = meaning(log)["events"]
    assert events["page only"] == [
        (
            "new item",
            True,
            NOW - 5,
            -1,
            False,
            [0],
            2,
            [(0, False), (0.0, False), (0.0, False), (0.0, False)],
            [True, False],
        )
    ]
    assert [event[0] for event in events["7"]] == ["8"]
    without = prepared(config_of(tmp_path), tmp_path / "work")  # no posted events: none of them is left
    assert not (without.folder / "posted.npy").exists()
    assert "page only" not in meaning(without)["events"]


def test_ids_of_another_type_stay_out_with_a_note(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", [(number, item, *rest) for number, (_, item, *rest) in enumerate(OLD)])
    put(
        tmp_path / "work",
        LiveEvent("guest", "a", NOW, "1"),
        LiveEvent("007", "a", NOW, "2"),
        LiveEvent("7", "a", NOW, "3"),
    )
    log = prepared(config_of(tmp_path, live=True), tmp_path / "work")
    assert meaning(log)["events"][7][0][:3] == ("a", True, NOW)
    assert (
        "2 posted events were left out: their ids are not of the type that the source has"
        in log.manifest["metrics"]["notes"]
    )
    assert len(np.load(log.folder / "posted.npy")) == 1
    assert prepared(config_of(tmp_path, live=True), tmp_path / "work").name == log.name


def test_posted_events_that_were_erased_leave_the_log(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD)
    config = config_of(tmp_path, live=True)
    put(tmp_path / "work", LiveEvent("ann", "b", NOW, "1"))
    prepared(config, tmp_path / "work")
    (tmp_path / "work" / "live" / "data.mdb").unlink()
    put(tmp_path / "work", LiveEvent("bob", "b", NOW, "2"))
    log = prepared(config, tmp_path / "work")
    assert log.manifest["parents"] == []
    assert [len(meaning(log)["events"][user]) for user in ("ann", "bob")] == [3, 3]


def test_a_forgotten_user_who_posts_again_stays_out(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD)
    work = tmp_path / "work"
    Forgotten.load(work).with_users(["ann"]).save(work)
    put(work, LiveEvent("ann", "b", NOW, "1"), LiveEvent("bob", "b", NOW, "2"))
    log = prepared(config_of(tmp_path, live=True), work)
    assert meaning(log)["events"].keys() == {"bob"}
    assert len(np.load(log.folder / "posted.npy")) == 1


def test_a_log_without_times_takes_no_posted_events(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in range(5) for i in range(4)))
    file = tmp_path / "project.toml"
    file.write_text(ORDER_ONLY.format(folder=tmp_path))
    succeed("prepare", file)
    put(tmp_path / "work", LiveEvent(1, 2, NOW, "1"))
    assert re.search("prepare.live: posted events have times", fail(file, "prepare", file))
