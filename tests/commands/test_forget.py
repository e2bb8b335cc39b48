"""`upnext log forget`: nothing of a user is left, nobody else changes, and a kill at any moment does no harm."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from rich.console import Console

from tests.end_to_end.test_tiny_project import PROJECT, fail, succeed
from tests.preparation.logs import meaning, numbers
from tests.serving.server import ServerProcess
from upnext.base.artifacts import Workspace
from upnext.base.errors import BadArtifact
from upnext.base.locks import hold
from upnext.commands.forget import forget
from upnext.commands.project import load_project, workspace_of
from upnext.pipeline import prepare
from upnext.serving.histories import LiveEvent, history_key
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

GONE, OTHER = "zoë who leaves", "zoë who stays"
TOWN = "Where nobody else has lived"
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "shutil.rmtree"}


def write_files(folder: Path) -> None:
    """Two files; who leaves has rows in both, and the last one of all."""
    for day in range(2):
        lines = ["user,item,time,surface,played"]
        for step in range(5 * day, 5 * day + 5):
            for number, user in enumerate([*"abcdefgh", OTHER, GONE]):
                time_s = 1_700_000_000 + step * 86_400 + number * 60
                lines.append(f"{user},{'klmnop'[(number + step) % 6]},{time_s},home,0.{(number + step) % 9}")
        (folder / f"{day}.csv").write_text("\n".join(lines) + "\n")


def put_events(folder: Path) -> None:
    live = LmdbStore(folder)
    for user in (GONE, OTHER):
        event = LiveEvent(user, "k", 1_700_350_000_000, "event of " + user)
        live.put({event.key(): msgspec.msgpack.encode(event)})
    live.close()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with several logs and releases, of a log that grew and of two configurations, and posted events."""
    folder = tmp_path_factory.mktemp("forget")
    text = PROJECT.replace("{folder}/log.csv", "{folder}/events/*.csv").replace(
        'retriever = "sasrec"', 'retriever = "popular"'
    )
    text = text.replace("[prepare.source]", "[prepare]\nlive = true\n\n[prepare.source]")
    users = 'users = {{ path = "{folder}/users.csv", user = "who", features = {{ town = "text" }} }}'
    text = text.replace("[prepare.source.feedback]", f"{users}\n[prepare.source.feedback]")
    (folder / "users.csv").write_text(f"who,town\na,Here\n{GONE},{TOWN}\n{OTHER},There\n")
    (folder / "events").mkdir()
    (folder / "more").mkdir()
    write_files(folder / "more")
    (folder / "project.toml").write_text(text.format(folder=folder))
    put_events(folder / "work" / "live")
    for name in ("0.csv", "1.csv"):
        shutil.copy2(folder / "more" / name, folder / "events" / name)
        for split in ("2d", "1d"):
            succeed("run", folder / "project.toml", "--until", "publish", "--set", f"prepare.split.test={split}")
    return folder


@pytest.fixture
def project(published: Path, tmp_path: Path) -> Path:
    """A workspace of its own, with the same sources."""
    shutil.copytree(published / "work", tmp_path / "work")
    text = (published / "project.toml").read_text()
    (tmp_path / "project.toml").write_text(text.replace(f'"{published}/work"', f'"{tmp_path}/work"'))
    return tmp_path / "project.toml"


def traces(work: Path) -> list[str]:
    """Files below a workspace that hold the user's id, their town, or the keys of their events."""
    wanted = [b"who leaves", TOWN.encode(), history_key(GONE)[2:]]  # also where the rest is escaped
    files = [path for path in work.rglob("*") if path.is_file()]
    return [f"{path}" for path in files if any(one in path.read_bytes() for one in wanted)]


def check_forgotten(project: Path) -> None:
    """The log in use is the log of the others, every release is whole, and nothing of the user is left."""
    work = Workspace(project.parent / "work")
    assert traces(work.root) == []
    assert not [path for path in work.folders() if path.name.startswith(".")]
    for folder in work.folders("release"):
        release = Release.load(folder)
        assert GONE not in release.users.ids
        assert OTHER in release.users.ids
        assert release.histories.get([history_key(GONE)]) == [None]
        assert release.histories.get([history_key(OTHER)]) != [None]
        release.histories.close()
    assert len(work.folders("release")) == 4
    assert work.current("release", "release").name == work.history("release")[-1]
    assert set(work.history("release")) == {folder.name for folder in work.folders("release")}
    assert [folder.name for folder in work.folders("log")] == [work.current("log", "log").name]
    assert work.folders("report") == []
    assert all((work.root / "artifacts" / target).is_dir() for target in work.in_use().values())


def test_nothing_of_the_user_is_left_and_nobody_else_changes(project: Path, tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    before = work.current("log", "log")
    users, items = numbers(before, "users"), numbers(before)
    assert len(traces(work.root)) > 10
    said = succeed("log", "forget", project, GONE)
    assert "1 posted events erased" in said
    assert "The source files still hold their rows" in said
    assert "keep what they learnt" in said
    check_forgotten(project)
    after = work.current("log", "log")
    assert numbers(after) == items
    assert numbers(after, "users") == {user: number for user, number in users.items() if user != GONE}
    shutil.copytree(load_events(project), tmp_path / "without")
    for path in (tmp_path / "without").iterdir():
        path.write_text("".join(line for line in path.read_text().splitlines(True) if GONE not in line))
    settings = load_project(project).prepare
    shutil.copytree(work.root / "live", tmp_path / "fresh" / "live")
    source = settings.source.model_copy(update={"path": f"{tmp_path}/without/*.csv"})
    fresh = prepare.run(settings.model_copy(update={"source": source}), Workspace(tmp_path / "fresh"))
    assert meaning(after) == meaning(fresh)


def load_events(project: Path) -> Path:
    source: Any = load_project(project).prepare.source
    return Path(source.path).parent


def test_a_forgotten_user_does_not_come_back(project: Path, published: Path, tmp_path: Path) -> None:
    succeed("log", "forget", project, GONE)
    log = Workspace(tmp_path / "work").current("log", "log").name
    assert "were left out" not in succeed("run", project, "--until", "publish")
    succeed("log", "forget", project, GONE)  # nothing is left to do: the new report stays
    assert len(Workspace(tmp_path / "work").folders("report")) == 1
    assert Workspace(tmp_path / "work").current("log", "log").name == log
    assert traces(tmp_path / "work") == []
    # A whole preparation reads the sources again, and a next day follows.
    said = " ".join(succeed("prepare", project, "--set", "prepare.views={}").split())
    assert "10 rows of 1 forgotten users were left out" in said
    assert traces(tmp_path / "work") == []
    shutil.copytree(published / "events", tmp_path / "events")
    (tmp_path / "events" / "9.csv").write_text(
        f"user,item,time,surface,played\n{GONE},k,1700950000,tv,0.9\na,new,1700950000,tv,0.9\n"
    )
    paths = f'prepare.source.path="{tmp_path}/events/*.csv"'
    succeed("run", project, "--until", "publish", "--set", paths)
    assert traces(tmp_path / "work") == []
    check = succeed("recommend", tmp_path / "work", "--user", GONE, "--json")
    assert '"is_known": false' in check
    out = tmp_path / "all.parquet"
    succeed("recommend", tmp_path / "work", "--all", "--out", out)
    assert GONE.encode() not in out.read_bytes()
    assert OTHER.encode() in out.read_bytes()


def test_several_users_at_once_and_one_after_the_other(project: Path, tmp_path: Path) -> None:
    succeed("log", "forget", project, GONE, "a")
    succeed("log", "forget", project, "b")
    succeed("log", "forget", project, "b")  # once more finds nothing to do
    check_forgotten(project)
    users = numbers(Workspace(tmp_path / "work").current("log", "log"), "users")
    assert users.keys() == {*"cdefgh", OTHER}


def test_a_server_of_the_release_left_knows_nothing_of_the_user(project: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    with ServerProcess(work), pytest.raises(BadArtifact, match=r"a server \(process \d+\).*stop it"):
        forget(workspace_of(project), [GONE], Console(quiet=True))
    assert not (work / "forgotten.json").exists()
    succeed("log", "forget", project, GONE)
    with ServerProcess(work) as server, httpx.Client(base_url=server.address, trust_env=False) as http:
        assert http.get(f"/v1/users/{GONE}/history").json()["num_events"] == 0
        assert http.get("/v1/users", params={"search": "zoë"}).json()["users"] == [{"user_id": OTHER, "num_events": 11}]
        assert http.get("/v1/recommendations", params={"user_id": GONE}).json()["is_known"] is False
    with hold(work / "live"), pytest.raises(EOFError):
        ServerProcess(work)  # says that somebody is changing the workspace


def test_what_is_not_there_cannot_be_forgotten(project: Path, tmp_path: Path) -> None:
    assert "knows the user 'nobody'" in fail(project, "log", "forget", project, GONE, "nobody")
    assert not (tmp_path / "work" / "forgotten.json").exists()
    with hold(tmp_path / "work" / "training" / "model-x"):
        assert "another run is making model-x" in fail(project, "log", "forget", project, GONE)
    (tmp_path / "work" / "forgotten.json").write_text("{}")
    assert "forgotten would come back" in fail(project, "prepare", project)


def test_the_last_user_takes_the_log_along(project: Path, tmp_path: Path) -> None:
    said = succeed("log", "forget", project, GONE, OTHER, *"abcdefgh")
    assert "erased without another in its place" in said
    assert Workspace(tmp_path / "work").folders("log") == []
    assert traces(tmp_path / "work") == []
    assert "holds no event" in fail(project, "prepare", project)


def _forget_until(file: Path, step: int) -> None:
    """Forget, and be killed before the given change of a file or folder."""
    count = 0

    def count_changes(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or writes:
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    workspace = workspace_of(file)
    sys.addaudithook(count_changes)
    forget(workspace, [GONE], Console(quiet=True))


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.commands.test_forget"])


def is_killed(file: Path, step: int) -> bool:
    process = _CONTEXT.Process(target=_forget_until, args=(file, step))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def steps() -> Iterator[int]:
    """Every change at first, where tombstones and posted events are at stake, then every fifth."""
    yield from range(0, 24)
    yield from range(24, 10_000, 5)


def test_killed_again_and_again_it_ends_where_it_should(project: Path) -> None:
    """Each run goes a little further than the one before, until one reaches the end."""
    kills = 0
    for step in steps():
        if not is_killed(project, step):
            break
        kills += 1
    assert kills > 30
    check_forgotten(project)


@pytest.mark.parametrize("step", [2, 9, 17, 40, 80, 120])
def test_killed_once_it_is_finished_by_a_second_run(project: Path, step: int) -> None:
    assert is_killed(project, step)
    succeed("log", "forget", project, GONE)
    check_forgotten(project)
