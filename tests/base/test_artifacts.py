"""Artifacts: whole or not there, found again when nothing changed, damage noticed."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import upnext
from upnext.base import artifacts, manifests
from upnext.base.artifacts import Artifact, Draft, Workspace, code_version
from upnext.base.errors import BadArtifact
from upnext.base.files import replace_file
from upnext.base.locks import hold, is_held, try_lock

CONFIG = {"width": 3, "nested": {"a": [1, 2]}}


def make(
    workspace: Workspace, kind: str = "log", config: Any = CONFIG, parents: Sequence[Artifact] = (), schema: str = ""
) -> Artifact:
    with workspace.build(kind, config, parents) as draft:
        draft.schema = schema
        (draft.folder / "data.bin").write_bytes(b"\0\1\2")
        (draft.folder / "deep" / "er").mkdir(parents=True)
        (draft.folder / "deep" / "er" / "text").write_text("hello")
        draft.metrics["rows"] = 3
    artifact = workspace.find(kind, config, parents)
    assert artifact is not None
    return artifact


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "not" / "there")


def test_an_artifact_holds_its_files_and_what_made_it(workspace: Workspace) -> None:
    parent = make(workspace, "simulation")
    artifact = make(workspace, parents=[parent], schema="abc")
    assert (artifact.kind, artifact.folder.parent) == ("log", workspace.root / "artifacts")
    assert (artifact.folder / "deep" / "er" / "text").read_text() == "hello"
    manifest = json.loads((artifact.folder / "manifest.json").read_text())
    assert manifest == artifact.manifest
    assert manifest["files"].keys() == {"data.bin", "deep/er/text"}
    del manifest["files"]
    assert manifest == {
        "sizes": {"data.bin": 3, "deep/er/text": 5},
        "kind": "log",
        "format_version": artifacts.FORMAT_VERSION,
        "code_version": code_version(),
        "schema": "abc",
        "config": CONFIG,
        "parents": [parent.name],
        "metrics": {"rows": 3},
    }


def test_an_exception_in_the_block_leaves_nothing(workspace: Workspace) -> None:
    def fail_half_way() -> None:
        with workspace.build("log", CONFIG) as draft:
            (draft.folder / "half").write_text("h")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert workspace.find("log", CONFIG) is None
    assert everything(workspace.root) == ["artifacts"]


def test_a_failed_second_build_leaves_the_first(workspace: Workspace) -> None:
    first = make(workspace)
    before = everything(workspace.root)
    with pytest.raises(ZeroDivisionError), workspace.build("log", CONFIG):
        raise ZeroDivisionError
    assert everything(workspace.root) == before
    assert Artifact.open(first.folder, verify=True).manifest == first.manifest


def test_nothing_is_visible_before_the_block_ends(workspace: Workspace) -> None:
    with workspace.build("log", CONFIG) as draft:
        (draft.folder / "file").write_text("x")
        assert workspace.find("log", CONFIG) is None
        name = draft.folder.name
    found = workspace.find("log", CONFIG)
    assert found is not None
    assert name not in everything(workspace.root / "artifacts")


_BUILD_AND_WAIT = """
import sys
from pathlib import Path
from upnext.base.artifacts import Workspace
with Workspace(Path(sys.argv[1])).build("log", {"width": 3}) as draft:
    (draft.folder / "data.bin").write_bytes(b"half of it")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_build_killed_in_the_middle_leaves_no_artifact(tmp_path: Path) -> None:
    workspace, config = Workspace(tmp_path), {"width": 3}
    command = [sys.executable, "-c", _BUILD_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert list((tmp_path / "artifacts").glob("*/data.bin")) != []  # it was in the middle indeed
    assert workspace.find("log", config) is None
    assert list((tmp_path / "artifacts").glob("log-*")) == []
    second = make(workspace, config=config)
    assert Artifact.open(second.folder, verify=True).manifest["metrics"] == {"rows": 3}


def test_every_file_and_folder_is_flushed_before_it_appears(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: dict[int, bool] = {}
    real = os.fsync

    def spy(descriptor: int) -> None:
        real(descriptor)
        flushed[os.fstat(descriptor).st_ino] = workspace.find("log", CONFIG) is not None

    monkeypatch.setattr(os, "fsync", spy)
    artifact = make(workspace)
    for path in (artifact.folder, *artifact.folder.rglob("*")):
        assert flushed[path.stat().st_ino] is False, path  # flushed, while nothing was visible yet
    assert flushed[artifact.folder.parent.stat().st_ino] is True  # the renaming itself


def test_the_same_recipe_is_found_whatever_the_order_of_its_keys(workspace: Workspace) -> None:
    parents = [make(workspace, "simulation"), make(workspace, "model")]
    artifact = make(workspace, parents=parents)
    found = workspace.find("log", dict(reversed(CONFIG.items())), parents)
    assert found == artifact
    assert Workspace(workspace.root).find("log", CONFIG, parents) == artifact


def test_any_change_to_the_recipe_finds_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make(workspace, "simulation"), make(workspace, "model")
    make(workspace, parents=[a, b])
    assert workspace.find("log", CONFIG, [a, b]) is not None
    assert workspace.find("report", CONFIG, [a, b]) is None
    assert workspace.find("log", CONFIG | {"width": 4}, [a, b]) is None
    assert workspace.find("log", CONFIG | {"more": None}, [a, b]) is None
    assert workspace.find("log", CONFIG, [a]) is None
    assert workspace.find("log", CONFIG, [b, a]) is None
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "code_version", lambda: "0.0.0+other")
        assert workspace.find("log", CONFIG, [a, b]) is None
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "FORMAT_VERSION", 99)
        assert workspace.find("log", CONFIG, [a, b]) is None
    assert workspace.find("log", CONFIG, [a, b]) is not None


def test_code_version_follows_the_code_that_makes_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "__file__", str(tmp_path / "base" / "artifacts.py"))
    compute = code_version.__wrapped__
    for name in ("__init__.py", "cli.py", "events/log.py", "serving/app.py", "commands/run.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one")
    versions = [compute()]
    for name in ("cli.py", "commands/run.py"):  # neither of these makes an artifact
        (tmp_path / name).write_text("two")
        assert compute() == versions[0], name
    for name in ("__init__.py", "events/log.py"):
        (tmp_path / name).write_text("two")
        versions.append(compute())
    (tmp_path / "events" / "split.py").write_text("new")
    versions.append(compute())
    assert len(set(versions)) == 4
    assert all(version.startswith(f"{upnext.__version__}+") for version in versions)


def test_verify_detects_a_changed_and_a_missing_file(workspace: Workspace) -> None:
    folder = make(workspace).folder
    Artifact.open(folder, verify=True)
    path = folder / "deep" / "er" / "text"
    path.write_text("hellO")
    Artifact.open(folder)  # opening alone reads no file
    with pytest.raises(BadArtifact, match=r"deep/er/text is missing or was changed"):
        Artifact.open(folder, verify=True)
    path.unlink()
    with pytest.raises(BadArtifact, match=r"deep/er/text is missing or was changed"):
        Artifact.open(folder, verify=True)


@pytest.mark.parametrize("content", [None, b"", b'{"kind": "lo', b"\xff\xfe"])
def test_a_damaged_manifest_is_told_and_the_next_build_mends_it(workspace: Workspace, content: bytes | None) -> None:
    folder = make(workspace).folder
    if content is None:
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_bytes(content)
    with pytest.raises(BadArtifact, match="is no finished artifact"):
        Artifact.open(folder)
    assert workspace.find("log", CONFIG) is None  # so that the stage runs again, as the message says
    assert Artifact.open(make(workspace).folder, verify=True).folder == folder


def test_another_format_version_is_refused(workspace: Workspace) -> None:
    folder = make(workspace).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(BadArtifact, match="has format version 99, this Upnext reads 1"):
        Artifact.open(folder)


def test_a_build_leaves_a_whole_artifact_and_replaces_a_damaged_one_entirely(workspace: Workspace) -> None:
    def build_other() -> list[str]:
        with workspace.build("log", CONFIG) as draft:
            (draft.folder / "other").write_text("new")
        found = workspace.find("log", CONFIG)
        assert found is not None
        return everything(found.folder)

    first = make(workspace)
    before = everything(first.folder)
    assert build_other() == before
    (first.folder / "data.bin").write_bytes(b"changed")
    assert build_other() == ["manifest.json", "other"]


def write_a_little(draft: Draft) -> None:
    (draft.folder / "data").write_text("x" * 1000)


def build_many(root: Path, count: int) -> None:
    for number in range(count):
        made = Workspace(root).ensure("same", "log", number, [], write_a_little)
        assert Artifact.open(made.folder, verify=True) == made


def test_two_runs_at_once_do_not_harm_each_other(workspace: Workspace) -> None:
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=build_many, args=(workspace.root, 25)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert not list((workspace.root / "artifacts").glob(".*"))


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"kind": "log"}', "null"])
def test_what_is_no_manifest_is_refused(workspace: Workspace, manifest: str) -> None:
    artifact = make(workspace)
    workspace.use("log", artifact)
    (artifact.folder / "manifest.json").write_text(manifest)
    with pytest.raises(BadArtifact, match="no whole manifest"):
        workspace.current("log", "log")
    assert workspace.find("log", CONFIG) is None


@pytest.mark.parametrize("pointer", [b"", b"\xff\xfe"])
def test_a_pointer_that_names_nothing_is_told(workspace: Workspace, pointer: bytes) -> None:
    workspace.use("log", make(workspace))
    (workspace.root / "current" / "log").write_bytes(pointer)
    with pytest.raises(BadArtifact, match="holds no 'log' yet"):
        workspace.current("log", "log")


def test_an_artifact_of_another_kind_or_parent_is_refused(workspace: Workspace) -> None:
    parent, other = make(workspace, "log"), make(workspace, "log", config={"other": 1})
    workspace.use("model", make(workspace, "model", parents=[parent]))
    assert workspace.current("model", "model", parent).manifest["parents"] == [parent.name]
    with pytest.raises(BadArtifact, match="names a model, not a report"):
        workspace.current("model", "report")
    with pytest.raises(BadArtifact, match=f"made from {parent.name}, and the log in use is {other.name}"):
        workspace.current("model", "model", other)


def test_a_full_disk_is_told_and_leaves_nothing(workspace: Workspace) -> None:
    def write_too_much() -> None:
        with workspace.build("log", CONFIG) as draft:
            (draft.folder / "data").write_text("x")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BadArtifact, match="No space left on device; make room"):
        write_too_much()
    assert everything(workspace.root / "artifacts") == []


def test_ensure_makes_once_and_points_to_it(workspace: Workspace) -> None:
    made: list[Path] = []
    first = workspace.ensure("mine", "log", CONFIG, [], lambda draft: made.append(draft.folder))
    assert workspace.ensure("mine", "log", CONFIG, [], lambda draft: made.append(draft.folder)) == first
    assert len(made) == 1
    other = workspace.ensure("mine", "log", CONFIG | {"width": 4}, [], lambda draft: made.append(draft.folder))
    assert workspace.current("mine", "log") == other != first
    workspace.ensure("mine", "log", CONFIG, [], lambda draft: made.append(draft.folder))
    assert (workspace.current("mine", "log"), len(made)) == (first, 2)


def test_the_current_pointer(workspace: Workspace) -> None:
    with pytest.raises(BadArtifact, match=r"holds no 'log' yet; first run `upnext run FILE\.toml --until prepare`"):
        workspace.current("log", "log")
    for name, command in (
        ("release", "--until publish`"),
        ("simulation", "--until simulate`"),
        ("examples-clicks", "--until distill`"),
        ("model-a-b", "whose table has 'a-b' alone"),
    ):
        with pytest.raises(BadArtifact, match=command):
            workspace.current(name, name.partition("-")[0])
    first, second = make(workspace, config={"width": 1}), make(workspace, config={"width": 2})
    workspace.use("log", first)
    assert workspace.current("log", "log") == first
    workspace.use("log", second)
    workspace.use("other", first)
    assert workspace.current("log", "log") == second
    assert Workspace(workspace.root).current("other", "log") == first
    assert everything(workspace.root / "current") == ["log", "other"]


def test_a_pointer_to_nothing_is_told(workspace: Workspace) -> None:
    artifact = make(workspace)
    workspace.use("log", artifact)
    artifact.folder.rename(workspace.root / "elsewhere")
    with pytest.raises(BadArtifact, match=artifact.name):
        workspace.current("log", "log")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("a file")
    workspace = Workspace(tmp_path / "in the way")
    assert workspace.find("log", CONFIG) is None
    with pytest.raises(BadArtifact, match=r"cannot write into .*in the way.*choose another workspace"):
        make(workspace)
    assert (tmp_path / "in the way").read_text() == "a file"


def test_replacing_a_file_never_writes_into_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pointer"
    replace_file(path, b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new content")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new content"
    assert everything(tmp_path) == ["deep", "deep/pointer"]


def test_a_replacement_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pointer"
    replace_file(path, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_kept_work_outlives_a_failed_build_and_ends_with_a_finished_one(workspace: Workspace) -> None:
    def fail_half_way(draft: Draft) -> None:
        kept = draft.keep()
        (kept / "half").write_text("h")
        (kept / ".half.123").write_text("a write that was cut off")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        workspace.ensure("mine", "model", CONFIG, [], fail_half_way)
    (kept,) = (workspace.root / "training").iterdir()
    assert everything(kept) == [".half.123", "half", "lock", "recipe.json"]
    make(workspace)  # another recipe does not care
    with workspace.build("model", CONFIG | {"width": 4}) as draft:
        assert draft.keep() != kept
    with workspace.build("model", CONFIG) as draft:
        assert draft.keep() == kept
        assert everything(kept) == ["half", "lock", "recipe.json"]
        assert json.loads((kept / "recipe.json").read_text())["config"] == CONFIG
        (draft.folder / "whole").write_text("w")
    assert everything(workspace.root / "training") == []


def test_kept_work_has_one_holder(workspace: Workspace) -> None:
    with workspace.build("model", CONFIG) as draft:
        kept = draft.unfinished
    message = rf"another run \(process {os.getpid()}\) is making the same artifact"
    with hold(kept), workspace.build("model", CONFIG) as second, pytest.raises(BadArtifact, match=message):
        second.keep()


def test_a_holder_whose_folder_is_removed_meanwhile_makes_it_anew(tmp_path: Path) -> None:
    with hold(tmp_path / "a"):
        shutil.rmtree(tmp_path / "a")
        with hold(tmp_path / "a"):
            assert is_held(tmp_path / "a")
    assert not is_held(tmp_path / "a")
    assert not is_held(tmp_path / "nothing")


def test_a_build_removes_what_no_build_can_use(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    folder = workspace.root / "artifacts"
    for name in (f".log-00.{gone.pid}", f".log-00.{os.getppid()}", ".log-00.no-number"):
        (folder / name / "deep").mkdir(parents=True)
    held = folder / f".log-11.{gone.pid}"  # of a process that this one cannot see
    held.mkdir()
    lock = try_lock(held)
    finished = make(workspace, "model")
    assert lock is not None
    os.close(lock)
    drafts = [f".log-00.{os.getppid()}", ".log-00.no-number", held.name, finished.name]
    assert {path.name for path in folder.iterdir()} == set(drafts)

    training = workspace.root / "training"
    for name, code in (("model-new", code_version()), ("model-old", "0.0.0+x"), (finished.name, code_version())):
        (training / name).mkdir(parents=True)
        (training / name / "recipe.json").write_text(json.dumps({"code_version": code}))
    (training / "not-ours").mkdir()
    with hold(training / "model-old"):
        make(workspace)
        assert {path.name for path in training.iterdir()} == {"model-new", "model-old", "not-ours"}
    make(workspace)
    assert {path.name for path in training.iterdir()} == {"model-new", "not-ours"}


def test_what_was_in_use_is_found_latest_first(workspace: Workspace) -> None:
    made = [make(workspace, config=CONFIG | {"number": number}) for number in range(3)]
    for artifact in (*made, made[0]):
        workspace.use("log", artifact)
    shutil.rmtree(made[1].folder)
    assert [artifact.name for artifact in workspace.used("log")] == [made[0].name, made[2].name]
    assert list(workspace.used("release")) == []
    assert workspace.is_whole(made[2])
    (made[2].folder / "data.bin").write_bytes(b"changed")
    assert not workspace.is_whole(made[2])


def test_what_was_made_from_an_artifact_is_made_from_its_rewriting_too(workspace: Workspace) -> None:
    log = make(workspace)
    model = make(workspace, "model", parents=[log])
    with workspace.build("log", CONFIG | {"again": 1}, [log.name]) as draft:
        draft.stands_for = log.identity
    again = workspace.find("log", CONFIG | {"again": 1}, [log.name])
    assert again is not None
    assert (again.identity, again.manifest["parents"]) == (log.name, [log.name])
    shutil.rmtree(log.folder)
    found = workspace.find("model", CONFIG, [again])
    assert found is not None
    assert found.name == model.name
    workspace.use("model", model)
    assert workspace.current("model", "model", again).name == model.name
