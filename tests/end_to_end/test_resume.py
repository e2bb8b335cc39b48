"""Training through the command line, killed with SIGKILL at random moments and resumed: the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Artifact, Workspace
from upnext.base.locks import hold

TRAINING = """
epochs = 40
patience = 40
tokens_per_batch = 20
checkpoint_every = 3
warmup_steps = 0
"""
FILES = ("weights.safetensors", "history.jsonl", "model.json")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_log(tmp_path / "log.csv")
    file = tmp_path / "project.toml"
    text = PROJECT.format(folder=tmp_path).replace("epochs = 2\n", TRAINING)
    assert "checkpoint_every" in text
    file.write_text(text)
    succeed("prepare", file)
    return file


def step_on_disk(work: Path) -> int:
    """The step of the checkpoint that a run has written, 0 if there is none."""
    for path in work.glob("training/*/checkpoint.safetensors"):
        with path.open("rb") as file:  # opened once: it may be replaced at any moment
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(json.loads(header["__metadata__"]["facts"])["step"])
    return 0


def kill_at(project: Path, step: int, *arguments: str, stage: str = "pretrain") -> int:
    """Start a training, kill it when its checkpoint reaches a step; returns the step that is then on disk."""
    work = project.parent / "work"
    command = [sys.executable, "-c", "from upnext.cli import main; main()", stage, str(project), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as child:
        while step_on_disk(work) < step:
            assert child.poll() is None, child.communicate()[0].decode()
            time.sleep(0.001)  # between two looks at the file
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    return step_on_disk(work)


def train_alone(project: Path, *arguments: str, stage: str = "pretrain") -> str:
    command = [sys.executable, "-c", "from upnext.cli import main; main()", stage, str(project), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_training_killed_three_times_gives_the_bytes_of_one_that_was_not(project):
    work = project.parent / "work"
    train_alone(project)
    first = Workspace(work).current("model-sasrec", "model")
    expected = {name: (first.folder / name).read_bytes() for name in FILES}
    num_steps = first.manifest["metrics"]["epochs"] * 14
    shutil.rmtree(first.folder)
    assert not (work / "training" / first.name).exists()

    generator = np.random.default_rng()
    reached, steps = 0, sorted(generator.integers(3, num_steps // 2, 3).tolist())
    for step in steps:
        reached = kill_at(project, max(step, reached + 1), *(["--resume"] if reached else []))
        assert list((work / "artifacts").glob(".model-*"))  # the draft that the kill left
    said = train_alone(project, "--resume")
    again = Workspace(work).current("model-sasrec", "model")
    assert f"goes on at step {reached}" in said, said
    assert again.name == first.name
    assert {name: (again.folder / name).read_bytes() for name in FILES} == expected, f"killed at {steps}"
    Artifact.open(again.folder, verify=True)
    assert not list((work / "artifacts").glob(".*"))
    assert not list((work / "training").iterdir())


def test_starting_over_says_what_it_leaves_behind_and_a_second_run_is_refused(project):
    work = project.parent / "work"
    reached = kill_at(project, 5)
    (folder,) = (work / "training").iterdir()
    with hold(folder):  # as another run would
        done = upnext("pretrain", project, "--resume")
    assert done.returncode == 2
    assert f"another run (process {os.getpid()}) is making the same artifact" in done.stderr
    assert step_on_disk(work) == reached
    said = succeed("pretrain", project)
    assert f"starts over; an interrupted training stopped at step {reached}" in " ".join(said.split())
    assert not list((work / "training").iterdir())


def test_a_change_of_the_recipe_does_not_touch_the_checkpoint_and_that_of_its_rhythm_does_not_change_the_recipe(
    project,
):
    kill_at(project, 5)
    (folder,) = (project.parent / "work" / "training").iterdir()
    before = (folder / "checkpoint.safetensors").read_bytes()
    said = succeed("pretrain", project, "--resume", "--set", "pretrain.sasrec.training.learning_rate=2e-3")
    assert "nothing to resume; starts at the beginning" in said
    assert (folder / "checkpoint.safetensors").read_bytes() == before
    said = succeed("pretrain", project, "--resume", "--set", "pretrain.sasrec.training.checkpoint_every=7")
    assert "goes on at step" in said
    assert not folder.exists()


def test_too_little_memory_is_refused_before_anything_is_allocated(project):
    done = upnext("pretrain", project, "--set", "pretrain.sasrec.model.width=65536")
    assert done.returncode == 2
    message = " ".join(done.stderr.split())
    assert "training sasrec needs about" in message
    assert "lower model.width, model.layers or training.tokens_per_batch" in message


def test_a_device_that_is_not_there_is_refused(project, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = upnext("pretrain", project, "--set", "pretrain.sasrec.training.device=cuda")
    assert done.returncode == 2
    assert "training.device is 'cuda', which this machine does not have" in done.stderr


LIVE = """
workspace = "{folder}/work"

[examples.queries]
kind = "learning_to_rank"
train = ["{folder}/train.txt"]
validation = ["{folder}/held.txt"]
test = ["{folder}/test.txt"]

[distill.fresh]
examples = "queries"
student = { kind = "linear" }
losses = [{ kind = "label" }, { kind = "differences", weight = 0.3 }]
training = { tokens_per_batch = 6, checkpoint_every = 5, warmup_steps = 0 }

[distill.fresh.live]
teacher = { kind = "mlp", hidden = [8], dropout = 0.2 }
losses = [{ kind = "label" }]
until = 0.7
"""
NUM_QUERIES = 600


def test_a_live_distillation_that_was_killed_gives_the_bytes_of_one_that_was_not(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("train", NUM_QUERIES), ("held", 10), ("test", 10)):
        signals = generator.random((count, 6))
        lines = [f"{int(x > 0.6)} qid:{name}{query} 1:{x:.4f}\n" for query, row in enumerate(signals) for x in row]
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    file = tmp_path / "project.toml"
    file.write_text(LIVE.replace("{folder}", str(tmp_path)))
    work = tmp_path / "work"
    files = ("weights.safetensors", "history.jsonl", "teacher/weights.safetensors")
    succeed("distill", file, "--live")
    first = Workspace(work).current("model-fresh", "model")
    expected = {name: (first.folder / name).read_bytes() for name in files}
    shutil.rmtree(work)

    reached = kill_at(file, 20, "--live", stage="distill")
    assert 20 <= reached < NUM_QUERIES
    said = succeed("distill", file, "--live", "--resume")
    assert f"goes on at step {reached}" in said, said
    again = Workspace(work).current("model-fresh", "model")
    assert {name: (again.folder / name).read_bytes() for name in files} == expected
    assert not list((work / "training").iterdir())
