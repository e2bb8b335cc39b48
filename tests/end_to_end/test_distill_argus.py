"""ARGUS as a teacher, and a ranker that reads ARGUS's scores: both are trained anew without each fold."""

import json
from pathlib import Path

import numpy as np

from tests.end_to_end.test_tiny_project import succeed
from upnext.base.example_sets import ExampleSets
from upnext.commands import teachers
from upnext.commands.project import load_project
from upnext.events.split import TRAIN
from upnext.fitting.said import read_said

PROJECT = """
workspace = "{folder}/work"

[simulate]
num_users = 60
num_items = 60
num_events = 2500
days = 12

[prepare.source]
kind = "simulated"

[prepare.split]
kind = "global_time"
validation = "2d"
test = "2d"

[pretrain.argus]
hold_back = "3d"
model = { kind = "argus", width = 8, layers = 1, heads = 1, max_length = 10 }
training = { epochs = 1 }

[rank.late]
kind = "boosted"
feedback = ["click"]
scores = ["argus"]
training = { trees = 5, least_in_leaf = 10 }

[examples.lists]
kind = "log"
label = "click"
aggregates = [{ by = ["item"], what = "mean", feedback = "click" }]

[distill.student]
examples = "lists"
teacher = ["argus", "late"]
folds = { count = 2 }
student = { kind = "linear" }
losses = [{ kind = "label" }, { kind = "differences" }]
training = { epochs = 1 }
"""


def test_argus_teaches_and_so_does_who_asks_it(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "project.toml"
    file.write_text(PROJECT.replace("{folder}", str(tmp_path)))
    project = load_project(file)
    assert teachers._needed(project, "late") == ["argus", "late"]
    trained, train = [], teachers._trained

    def spied(project, view, names, tell):
        trained.append(names)
        return train(project, view, names, tell)

    monkeypatch.setattr(teachers, "_trained", spied)
    succeed("run", file, "--until", "distill")
    assert trained == [["argus"], ["argus"], ["argus", "late"], ["argus", "late"]]
    workspace = project.opened()
    sets = ExampleSets.load(workspace.current("examples-lists", "examples").folder)
    for name in ("argus", "late"):
        artifact = workspace.current(f"said-{name}-lists-owner-2", "said")
        said = read_said(artifact)
        assert artifact.manifest["metrics"]["are_logits"]
        assert said.observed.all()
        assert np.isfinite(said.values).all()
        assert said.values[sets.part[sets.set] == TRAIN].std() > 0
    compared = workspace.current("comparison-lists", "comparison").folder
    assert {row["model"] for row in json.loads((compared / "figures.json").read_text())} == {"argus", "late", "student"}
    costs = json.loads((compared / "costs.json").read_text())
    assert costs["argus"]["parameters"] > costs["student"]["parameters"] > 0
    assert len(workspace.folders("log")) == 1
    assert len(workspace.folders("model")) == 3
