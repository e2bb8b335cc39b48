"""`upnext describe`: what it says is what training finds, and what it needs is said."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_argus import ARGUS
from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace
from upnext.training import memory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_log(tmp_path / "log.csv")
    (tmp_path / "project.toml").write_text(PROJECT.format(folder=tmp_path) + ARGUS)
    return tmp_path / "project.toml"


@pytest.fixture
def prepared(project: Path) -> Path:
    succeed("prepare", project)
    return project


def described(project: Path, *arguments: object) -> Any:
    return json.loads(succeed("describe", project, "--json", *arguments))


@pytest.mark.parametrize("form", ["simplified", "full"])
def test_it_says_what_training_finds(prepared: Path, form: str) -> None:
    setting = ("--set", f'pretrain.argus.model.form="{form}"')
    found = described(prepared, *setting)
    assert found["popular"] == {"kind": "popular", "parameters": None}
    succeed("pretrain", prepared, *setting)
    workspace = Workspace(prepared.parent / "work")
    for name in ("sasrec", "argus"):
        model = workspace.current(f"model-{name}", "model")
        facts = found[name]
        assert sum(facts["parameters"].values()) == model.manifest["metrics"]["parameters"]
        steps = json.loads((model.folder / "history.jsonl").read_text().splitlines()[0])["step"]
        assert facts["steps_per_epoch"] == steps
        assert facts["epochs"] == {"sasrec": 2, "argus": 3}[name]
        assert facts["flops_per_event"]["training"] == pytest.approx(3 * facts["flops_per_event"]["forward"])
        assert sum(facts["flops_parts"].values()) == pytest.approx(facts["flops_per_event"]["forward"])
        seconds = facts["seconds"]
        assert seconds["total"] == pytest.approx(facts["epochs"] * (seconds["epoch"] + seconds["validation"]))
        assert 0 < seconds["epoch"] < math.inf
        assert seconds["timed_steps"] >= 1


def test_it_trains_nothing_and_leaves_nothing_behind(prepared: Path) -> None:
    before = {path: path.read_bytes() for path in prepared.parent.rglob("*") if path.is_file()}
    described(prepared)
    assert {path: path.read_bytes() for path in prepared.parent.rglob("*") if path.is_file()} == before


def test_the_page_for_readers(prepared: Path) -> None:
    said = succeed("describe", prepared)
    for words in ("counted, not trained", "encoder", "FLOPs per event", "GB for the log", "events/s", "epochs"):
        assert words in said, said


def test_what_does_not_fit_is_said_without_a_time(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    found = described(prepared)["argus"]
    assert found["seconds"] is None
    assert "lower model.width" in found["does_not_fit"]
    assert "lower model.width" in " ".join(succeed("describe", prepared).split())


def test_without_a_log_it_says_what_it_needs(project: Path) -> None:
    done = upnext("describe", project)
    assert done.returncode == 2
    assert "holds no 'log' yet; first run `upnext run FILE.toml --until prepare`" in " ".join(done.stderr.split())


def test_a_view_that_the_log_does_not_have(prepared: Path) -> None:
    done = upnext("describe", prepared, "--set", 'pretrain.argus.model.view="liked"')
    assert done.returncode == 2
    assert "no view 'liked'" in done.stderr
