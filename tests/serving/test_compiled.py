"""Compiled students: they answer as their networks do, or not at all."""

import logging
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.models.test_student import SHAPES, asked, fresh, predicted
from upnext.models.build import save_any
from upnext.models.student import Student
from upnext.serving import compiled
from upnext.serving.compiled import compile_network

_, LAYERS, TOWERS = SHAPES


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    """A cache with the layers' code."""
    folder = tmp_path_factory.mktemp("compiled")
    compile_network(*saved(LAYERS, folder / "model"), folder / "cache")
    return folder / "cache"


def saved(config, folder: Path) -> tuple[Student, Path]:
    model = fresh(config)
    save_any(model, folder)
    return model, folder


def answers(model: Student) -> list[torch.Tensor]:
    return [predicted(model, asked(size, rows)) for rows, size in ((1, 1), (1, 40), (3, 5), (6, 1))]


def test_what_was_compiled_before_answers_as_the_network_does(cached, tmp_path, monkeypatch):
    model, folder = saved(LAYERS, tmp_path / "model")
    expected = answers(model)
    monkeypatch.setattr(compiled, "_made", None)
    compile_network(model, folder, cached)
    assert model.network is not None
    torch.testing.assert_close(answers(model), expected)


def test_two_towers_are_compiled_as_well(tmp_path, compiler):
    model, folder = saved(TOWERS, tmp_path / "model")
    expected = answers(model)
    compile_network(model, folder, tmp_path / "cache")
    assert model.network is not None
    torch.testing.assert_close(answers(model), expected)


def test_what_answers_otherwise_is_refused_and_the_network_goes_on(cached, tmp_path, caplog):
    (code,) = cached.iterdir()
    other = fresh(LAYERS)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    save_any(other, tmp_path / "other")
    expected, theirs = answers(other), tmp_path / "cache" / f"{compiled._digest(tmp_path / 'other')}.pt2"
    theirs.parent.mkdir()
    for wrong in (lambda: shutil.copy(code, theirs), lambda: theirs.write_bytes(b"no code")):
        wrong()
        with caplog.at_level(logging.WARNING):
            compile_network(other, tmp_path / "other", theirs.parent)
        assert "the student answers uncompiled" in caplog.text
        assert other.network is None
        assert not theirs.exists()
        torch.testing.assert_close(answers(other), expected)
    assert "off by" in caplog.text


def test_without_a_compiler_the_network_goes_on(tmp_path, monkeypatch, caplog):
    model, folder = saved(LAYERS, tmp_path / "model")
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    with caplog.at_level(logging.WARNING):
        compile_network(model, folder, tmp_path / "cache")
    assert "the student answers uncompiled" in caplog.text
    assert model.network is None
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_keeps_the_latest(tmp_path, monkeypatch):
    def compiler(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[-1]).touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", compiler)
    for number in range(5):
        compiled._made(tmp_path, tmp_path / f"{number}.pt2")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["2.pt2", "3.pt2", "4.pt2"]
