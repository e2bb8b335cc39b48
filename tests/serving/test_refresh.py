"""Stored states: computed ahead of time, read when the user asks, and refreshed whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.end_to_end.test_tiny_project import succeed, upnext
from tests.reference.pages import slow_utility
from tests.serving.asking import NOW
from tests.serving.projects import Published
from tests.serving.server import ServerProcess
from upnext.base.artifacts import Workspace
from upnext.base.batches import SequenceBatch, State
from upnext.base.errors import BadConfig, BadRequest
from upnext.base.ids import ExternalId
from upnext.base.locks import hold
from upnext.commands.project import load_project
from upnext.evaluation.feedback import predict_feedback
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.vocabulary import Vocabulary
from upnext.models.build import load_model
from upnext.models.two_towers import TwoTowers
from upnext.pipeline import publish
from upnext.serving import states
from upnext.serving.everyone import recommend_everyone
from upnext.serving.generate import Rollout, generate
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.recommend import Page, Query, recommend
from upnext.serving.release import Release
from upnext.serving.service import Service
from upnext.serving.states import Refreshed, refresh
from upnext.store.embedded import LmdbStore

LAST_MS = 1_700_000_000_000 + 19 * 3_600_000 + 99_000
"""When the last event of the log happened."""


@pytest.fixture
def service(start: Callable[[Published], Service], towers: Published) -> Service:
    return start(towers)


def page(service: Service, user: ExternalId, time_ms: int = NOW) -> Page:
    return recommend(service.release, service.histories, [Query(user, time_ms, 10)])[0]


def post(service: Service, user: str, item: str, time_ms: int, event_id: str = "e") -> None:
    event = LiveEvent(user, item, time_ms, event_id, feedback={"like": 1.0}, context={"hour": "08"})
    service.intake._write([[event]])


def refreshed(service: Service, now_ms: int, everyone: bool = False) -> Refreshed:
    live = service.histories.live
    assert live is not None
    return refresh(service.release, live, now_ms, everyone=everyone, releases=[service.release.name])


def vector_of(service: Service, user: ExternalId, until_ms: int) -> torch.Tensor:
    """A user's vector, encoded by hand from all that lies strictly before a moment."""
    ((events, _),) = service.histories.read([user])
    events = events.take((events.time_ms < until_ms) & (events.item < len(service.release.catalogue)))
    model = service.release.retriever
    with torch.inference_mode():
        return model.encode(events.batch(np.array([0]), np.array([len(events)]))).tensors["vector"][0]


def scores_by_hand(service: Service, user: ExternalId, until_ms: int, shown: Page) -> list[float]:
    model = service.release.retriever
    assert isinstance(model, TwoTowers)
    with torch.inference_mode():
        vectors = model.item_vectors(service.release.catalogue.items)
    return [float(vectors[item] @ vector_of(service, user, until_ms)) for item in shown.rows[0].items]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many users each call of the model's encoder was about."""
    calls: list[int] = []
    encode = TwoTowers.encode

    def counting(model: TwoTowers, histories: SequenceBatch) -> State:
        calls.append(len(histories))
        return encode(model, histories)

    monkeypatch.setattr(TwoTowers, "encode", counting)
    return calls


def test_a_release_holds_every_users_vector(service: Service, encoded: list[int]) -> None:
    assert service.release.stores_states
    for user in service.release.users.ids[:5]:
        shown = page(service, user)
        np.testing.assert_allclose(
            shown.rows[0].scores, scores_by_hand(service, user, LAST_MS + 1, shown), rtol=1e-4, atol=1e-5
        )
    encoded.clear()
    page(service, "u03")
    assert encoded == []  # nothing is encoded for a page
    page(service, "a stranger")
    assert encoded == [1]


def test_everyone_is_answered_as_each(service: Service) -> None:
    post(service, "u04", "i10", NOW - 100_000_000)
    refreshed(service, NOW)
    (block,) = recommend_everyone(service.release, Histories(service.release, service.histories.live), NOW, 5)
    for row, user in zip(block.items, service.release.users.ids, strict=True):
        (alone,) = recommend(service.release, service.histories, [Query(user, NOW, 5)])
        assert row.tolist() == alone.rows[0].items


def test_a_request_from_before_the_vector_sees_no_future(service: Service, encoded: list[int]) -> None:
    middle = 1_700_000_000_000 + 10 * 3_600_000
    shown = page(service, "u05", middle)
    assert encoded == [1]
    lag_ms = 2 * 3_600_000  # as trained
    expected = scores_by_hand(service, "u05", middle - lag_ms, shown)
    np.testing.assert_allclose(shown.rows[0].scores, expected, rtol=1e-4, atol=1e-5)


def test_posted_events_count_from_the_refresh_on(service: Service, encoded: list[int]) -> None:
    before = {user: page(service, user) for user in ("u06", "u07", "newcomer")}
    post(service, "u06", "i11", NOW - 5000)
    post(service, "newcomer", "i11", NOW - 4000)
    waiting = page(service, "u06")
    dense = service.histories.assortment.dense("i11")
    assert dense not in waiting.rows[0].items  # hidden at once
    score_of = dict(zip(before["u06"].rows[0].items, before["u06"].rows[0].scores, strict=True))
    kept = [item for item in waiting.rows[0].items if item in score_of]
    assert kept  # scored as before: by the old vector
    old = dict(zip(waiting.rows[0].items, waiting.rows[0].scores, strict=True))
    assert [old[item] for item in kept] == pytest.approx([score_of[item] for item in kept], abs=1e-6)
    encoded.clear()
    assert refreshed(service, NOW) == Refreshed(2, 0)
    assert sum(encoded) == 2  # nobody else
    encoded.clear()
    for user in ("u06", "newcomer"):
        shown = page(service, user)
        np.testing.assert_allclose(
            shown.rows[0].scores, scores_by_hand(service, user, NOW, shown), rtol=1e-4, atol=1e-5
        )
        assert shown.rows[0].scores != before[user].rows[0].scores
    assert page(service, "u06").rows[0].reason == _with_one_more(before["u06"].rows[0].reason)
    assert page(service, "u07") == before["u07"]


def _with_one_more(reason: str) -> str:
    count = int("".join(filter(str.isdigit, reason)))
    return reason.replace(str(count), str(count + 1))


def test_a_vector_knows_nothing_within_the_releases_lag(
    start: Callable[[Published], Service], towers: Published, tmp_path: Path
) -> None:
    workspace = towers.lend(tmp_path / "lent")
    config = load_project(towers.file, ['publish.lag="10m"']).publish
    assert config is not None
    publish.run(config, Workspace(workspace))
    service, lag_ms = start(Published(towers.file, workspace)), 600_000
    post(service, "u06", "i11", NOW - lag_ms - 2)
    post(service, "u06", "i12", NOW - lag_ms - 1, "known only a millisecond later")
    refreshed(service, NOW - 1)
    shown = page(service, "u06")
    expected = scores_by_hand(service, "u06", NOW - lag_ms - 1, shown)
    np.testing.assert_allclose(shown.rows[0].scores, expected, rtol=1e-4, atol=1e-5)
    # Who asks before the lag is over is answered from what is older than both lags.
    early = page(service, "u06", NOW - 2)
    expected = scores_by_hand(service, "u06", NOW - 2 - 2 * 3_600_000, early)
    np.testing.assert_allclose(early.rows[0].scores, expected, rtol=1e-4, atol=1e-5)


def test_who_has_nothing_new_is_kept(service: Service, encoded: list[int]) -> None:
    post(service, "u08", "i12", NOW - 5000)
    post(service, "u09", "i13", NOW - 5000)
    assert refreshed(service, NOW - 30) == Refreshed(2, 0)
    shown = page(service, "u08")
    post(service, "u09", "i14", NOW - 1000, "another")
    encoded.clear()
    assert refreshed(service, NOW - 20) == Refreshed(1, 1)
    assert sum(encoded) == 1
    assert page(service, "u08") == shown
    assert refreshed(service, NOW - 10, everyone=True) == Refreshed(100, 0)
    assert page(service, "u08").rows[0].items == shown.rows[0].items
    # Of all versions only the one that is read and the one before are there.
    live = service.histories.live
    assert live is not None
    assert len({key[2:10] for key, _ in live.scan(b"v/")}) == 2


def test_nothing_new_changes_nothing(service: Service) -> None:
    shown = page(service, "u10")
    assert refreshed(service, NOW) == Refreshed(0, 0)
    assert page(service, "u10") == shown


def test_another_releases_states_stay_while_it_is_there(service: Service) -> None:
    post(service, "u11", "i12", NOW - 5000)
    refreshed(service, NOW)
    live = service.histories.live
    assert live is not None
    live.put(
        {b"vp/another": b"12345678", b"v/12345678" + b"u" * 8: b"x", b"vp/gone": b"abcdefgh", b"v/abcdefghu": b"x"}
    )
    refresh(service.release, live, NOW + 1, everyone=False, releases=[service.release.name, "another"])
    assert live.get([b"vp/another", b"vp/gone", b"v/abcdefghu"]) == [b"12345678", None, None]
    assert live.get([b"v/12345678" + b"u" * 8]) == [b"x"]


def test_a_running_server_reads_new_vectors_from_its_next_page_on(towers: Published, tmp_path: Path) -> None:
    workspace = towers.lend(tmp_path / "lent")

    def ask(server: ServerProcess) -> list[float]:
        with urllib.request.urlopen(server.address + "v1/recommendations?user_id=u12&k=200") as answer:
            row = json.load(answer)["rows"][0]
        return [item["score"] for item in row["items"]]

    with ServerProcess(workspace) as server:
        event = {"user_id": "u12", "item_id": "i00", "feedback": {"like": 0.0}, "context": {"hour": "08"}}
        body = json.dumps({"events": [event]}).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(server.address + "v1/events", body, headers)) as answer:
            assert answer.status == 201
        before = ask(server)
        assert json.loads(succeed("refresh", workspace, "--json")).items() >= {"computed": 1, "kept": 0}.items()
        after = ask(server)
        assert after != before
        assert ask(server) == after
    assert "0 users' states computed, 1 refreshed before kept" in " ".join(succeed("refresh", workspace).split())


KILLED = """
import sys, time
from pathlib import Path
from upnext.serving import states
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore
states._USERS = 7
release, live = Release.load(Path(sys.argv[1])), LmdbStore(Path(sys.argv[2]))
states.refresh(release, live, int(sys.argv[3]), everyone=True, releases=[release.name],
               tell=lambda count: (print(count, flush=True), time.sleep(0 if len(sys.argv) > 4 else 0.05)))
"""


@pytest.mark.parametrize("blocks", [1, 4, 8])
def test_a_kill_in_the_middle_leaves_the_old_vectors_whole(
    start: Callable[[Published], Service], towers: Published, tmp_path: Path, blocks: int
) -> None:
    service = start(towers)
    post(service, "u13", "i12", NOW - 9000)
    refreshed(service, NOW - 8000)
    post(service, "u13", "i14", NOW - 7000, "another")
    users = [*service.release.users.ids, "a stranger"]
    before = [page(service, user) for user in users]
    service.close()
    command = [sys.executable, "-c", KILLED, str(towers.release), str(tmp_path / "live"), str(NOW)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for _ in range(blocks):
            assert running.stdout.readline().strip() == "7"
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    assert running.returncode == -signal.SIGKILL
    service = start(towers)
    live = service.histories.live
    assert live is not None
    assert len({key[2:10] for key, _ in live.scan(b"v/")}) == 2  # half of a version that nobody reads
    assert [page(service, user) for user in users] == before
    assert refreshed(service, NOW, everyone=True) == Refreshed(100, 0)
    assert page(service, "u13") != before[users.index("u13")]
    assert len({key[2:10] for key, _ in live.scan(b"v/")}) == 2  # the killed one's is gone


def test_forgotten_users_leave_no_vector(towers: Published, tmp_path: Path) -> None:
    workspace = tmp_path / "copy"
    shutil.copytree(towers.workspace, workspace, symlinks=False)
    file = tmp_path / "project.toml"
    file.write_text(towers.file.read_text().replace(str(towers.workspace), str(workspace)))
    store = LmdbStore(workspace / "live")
    for user in ("u14", "u15"):
        event = LiveEvent(user, "i12", LAST_MS + 5000, "e", feedback={"like": 1.0})
        store.put({event.key(): msgspec.msgpack.encode(event)})
    store.close()
    succeed("refresh", workspace)
    succeed("log", "forget", file, "u14")
    release = Release.load(Workspace(workspace).current("release", "release").folder)
    assert release.histories.get([states.state_key("u14")]) == [None]
    assert release.histories.get([states.state_key("u15")]) != [None]
    store = LmdbStore(workspace / "live")
    assert [key for key, _ in store.scan(b"") if states.is_state(key)] == []
    release.histories.close()
    store.close()
    assert json.loads(succeed("refresh", workspace, "--json")).items() >= {"computed": 1}.items()
    assert json.loads(succeed("recommend", workspace, "-u", "u15", "--json"))["rows"]


def test_a_release_without_stored_states_has_nothing_to_refresh(hours: Published, tmp_path: Path) -> None:
    done = upnext("refresh", hours.lend(tmp_path / "lent"))
    assert done.returncode == 2
    assert "'argus', which encodes users when they ask: nothing is to be refreshed" in " ".join(done.stderr.split())


def test_one_refresh_at_a_time(towers: Published, tmp_path: Path) -> None:
    workspace = towers.lend(tmp_path / "lent")
    with hold(workspace / "live" / "refreshing"):
        done = upnext("refresh", workspace)
    assert done.returncode == 2
    assert f"process {os.getpid()} is refreshing or changing" in " ".join(done.stderr.split())


def test_towers_only_order_and_may_retrieve_for_a_ranker(towers: Published, tmp_path: Path) -> None:
    config = load_project(towers.file, ['publish.ranker="towers"', "publish.utility.like=1"]).publish
    assert config is not None
    with pytest.raises(BadConfig, match="it foresees none, and only orders otherwise"):
        publish.run(config, Workspace(towers.workspace))
    workspace = Workspace(towers.lend(tmp_path / "lent"))
    config = load_project(towers.file, ['publish.ranker="argus"', "publish.utility.like=1"]).publish
    assert config is not None
    release = Release.load(publish.run(config, workspace).folder)
    query, histories = Query("u16", NOW, 8, {"hour": "08"}), Histories(release, None)
    (shown,) = recommend(release, histories, [query])
    expected = [slow_utility(release, histories, query, item) for item in shown.rows[0].items]
    np.testing.assert_allclose(shown.rows[0].scores, expected, rtol=1e-4, atol=1e-5)
    assert shown.rows[0].reason.startswith("Chosen by towers from ")
    with pytest.raises(BadRequest, match="'towers', whose scores are no odds of the next item"):
        generate(release, histories, Rollout("u16", NOW))  # they were trained to order, with no softmax
    release.histories.close()


def test_scores_of_a_table_keep_the_lag_as_evaluation_does(towers: Published, tmp_path: Path) -> None:
    artifact = Workspace(towers.workspace).current("log", "log")
    log = EventLog.open(artifact.folder / "log")
    rows = np.random.default_rng(1).permutation(len(log.rows.user))[:300]
    users, items = (Vocabulary.load(artifact.folder / f"{name}.vocabulary.arrow") for name in ("users", "items"))
    asked = {
        "user_id": users.externals(log.rows.user[rows]),
        "item_id": items.externals(log.rows.item[rows]),
        "time_ms": pa.array(log.rows.time_ms[rows]),
    }
    pq.write_table(pa.table(asked), tmp_path / "t.parquet")
    succeed("score", towers.workspace, tmp_path / "t.parquet", "--out", tmp_path / "s.parquet")
    model = load_model(
        Workspace(towers.workspace).current("model-towers", "model").folder, Catalogue.load(artifact.folder).items
    )
    assert isinstance(model, TwoTowers)
    expected = predict_feedback(model, log, rows)["score"]
    found = pq.read_table(tmp_path / "s.parquet")["towers.score"].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Without the lag it would be something else.
    prompt = TwoTowers.from_tensors(
        model.config.model_copy(update={"lag": 0}), model.inputs, model.argus.items, model.state_dict()
    )
    assert np.abs(predict_feedback(prompt, log, rows)["score"] - expected).max() > 0.01


def test_scores_of_towers(towers: Published, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"user_id": ["u17"] * 2, "item_id": ["i01", "i02"], "time_ms": [NOW] * 2}), tmp_path / "t.parquet"
    )
    succeed("score", towers.workspace, tmp_path / "t.parquet", "--out", tmp_path / "s.parquet", "--vectors")
    found = pq.read_table(tmp_path / "s.parquet")
    assert found.column_names[3:] == ["towers.score", "towers.user_vector", "towers.item_vector"]
    user, item = (np.array(found[f"towers.{side}_vector"].to_pylist()) for side in ("user", "item"))
    np.testing.assert_allclose((user * item).sum(1), found["towers.score"].to_numpy(), rtol=1e-4, atol=1e-5)
