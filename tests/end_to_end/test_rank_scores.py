"""What one model says as the features of another, through the command line: trained, evaluated, and refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace
from upnext.models.boosted import Boosted

MODELS = """
[pretrain.argus]
hold_back = "3d"
model = { kind = "argus", width = 8, layers = 1, max_length = 10 }
training = { epochs = 2 }

[pretrain.now.model]
kind = "recently_popular"

[finetune.towers]
from = "argus"
kind = "retrieval"
hold_back = "3d"
lag = "1d"
training = { epochs = 1 }

[rank.trees]
kind = "boosted"
last = "3d"
aggregates = [{ by = ["item"], what = "mean", feedback = "played" }]
training = { least_in_leaf = 5, trees = 10 }

[rank.scored]
kind = "boosted"
scores = ["argus", "now", "towers"]
vectors = ["towers"]
hold_back = "1d"
aggregates = [{ by = ["item"], what = "mean", feedback = "played" }]
training = { least_in_leaf = 5, trees = 10 }

[rank.final]
kind = "main"
scores = ["scored"]
vectors = ["argus"]
training = { epochs = 2, tokens_per_batch = 200 }
[rank.final.model]
width = 8
max_length = 8
aggregators = { all = { kind = "sum_pooling", length = 4 } }

[rank.tube]
kind = "youtube"
scores = ["argus"]
vectors = ["sasrec", "argus"]
window = "1d"
training = { epochs = 2, tokens_per_batch = 200 }
model = { view = "watched", width = 8, hidden = [8] }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_log(tmp_path / "log.csv")
    file = tmp_path / "project.toml"
    text = PROJECT.replace(
        "[pretrain.sasrec.training]", '[pretrain.sasrec]\nhold_back = "2d"\n[pretrain.sasrec.training]'
    )
    file.write_text(text.format(folder=tmp_path) + MODELS)
    return file


def test_from_a_csv_to_a_report(project):
    settings = [
        'prepare.split.validation="2d"',
        'prepare.split.test="2d"',
        "evaluate.utility.played=1",
        'evaluate.pairs="5d"',
    ]
    settings += ['evaluate.stages=[{retriever="argus", ranker="final"}]']
    settings += ['evaluate.uplift=[{of="scored", over="trees"}]']
    said = succeed("run", project, "--until", "evaluate", *(part for one in settings for part in ("--set", one)))
    assert "rank final" in said
    workspace = Workspace(project.parent / "work")
    scored = Boosted.load(workspace.current("model-scored", "model").folder)
    assert scored.reads == [
        "context.surface",
        "hour_of_day",
        "item.played.mean",
        "argus.played",
        "now.score",
        "towers.score",
        "towers.user_vector",
        "towers.item_vector",
    ]
    assert scored.features["towers.item_vector"] == 64
    shares = json.loads((workspace.current("model-scored", "model").folder / "importance.json").read_text())
    assert shares["played"].keys() == set(scored.reads)
    inputs = json.loads((workspace.current("model-final", "model").folder / "model.json").read_text())["inputs"]
    assert (inputs["numbers"], inputs["vectors"]) == (["scored.played"], {"argus": 8})
    report = workspace.current("report", "report").folder
    rows = json.loads((report / "feedback.json").read_text())
    assert {row["model"] for row in rows} >= {"argus", "trees", "scored", "final", "tube"}
    assert all(np.isfinite(row["value"]) for row in rows if row["model"] in ("scored", "final", "tube"))
    assert '"ranker": "final"' in (report / "stages.json").read_text()
    (uplift,) = json.loads((report / "uplift.json").read_text())
    assert uplift["value"] == pytest.approx(uplift["of_value"] / uplift["over_value"] - 1)
    assert "scored over trees" in (report / "report.md").read_text()
    worth = json.loads((report / "importance.json").read_text())
    assert {row["model"] for row in worth} == {"trees", "scored", "final", "tube"}
    inputs_of_final = ["item", "scored.played", "argus (vectors)", "all (aggregator)", "time", "place"]
    assert [row["input"] for row in worth if row["model"] == "final"] == inputs_of_final
    assert {row["input"] for row in worth if row["model"] == "tube"} >= {"watched", "sasrec (vectors)"}
    assert "## Feature importance" in (report / "report.md").read_text()
    assert 'id="uplift"' in (report / "report.html").read_text()


def test_each_learns_only_from_what_its_scorers_left(project):
    succeed("run", project, "--until", "rank")
    workspace = Workspace(project.parent / "work")
    log = workspace.current("log", "log")
    made = {name: workspace.current(f"model-{name}", "model") for name in ("argus", "scored", "final", "trees")}
    until = {name: one.manifest["metrics"]["trained_until_ms"] for name, one in made.items()}
    day = 86_400_000
    assert until["trees"] - until["argus"] == 3 * day
    assert until["trees"] - until["scored"] == day
    assert until["final"] == until["trees"]
    assert made["final"].manifest["metrics"]["num_candidates"] == 40  # of the last day of training
    assert made["scored"].identity in made["final"].manifest["parents"]
    assert log.identity in made["final"].manifest["parents"]
    succeed("pretrain", project, "--set", "pretrain.argus.training.seed=5")
    done = upnext("evaluate", project, "--set", "pretrain.argus.training.seed=5")
    assert done.returncode == 2
    assert "reads scores of another 'argus' than there is now; run rank again" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('rank.final.scores=["x"]', "rank.final.scores names 'x'; the models above it: ['sasrec', 'popular', 'argus'"),
        ('rank.trees.scores=["scored"]', "rank.trees.scores names 'scored'; the models above it"),
        ('rank.trees.scores=["trees"]', "rank.trees.scores names 'trees'; the models above it"),
        ('rank.final.scores=["argus","argus"]', "scores names 'argus' twice"),
        (
            'rank.final.scores=["popular"]',
            "names 'popular', and pretrain.popular is trained on all of the training part",
        ),
        ('rank.final.scores=["tube"]', "rank.final.scores names 'tube'; the models above it"),
        ('rank.tube.scores=["final"]', "names 'final', and rank.final is trained on all of the training part"),
        ("pretrain.argus.hold_back=0", "pretrain.argus.hold_back"),
        ('pretrain.argus.hold_back="40d"', "pretrain.argus: hold_back of 40 days leaves nothing to train on"),
        ('finetune.towers.hold_back="40d"', "finetune.towers: hold_back of 40 days leaves nothing to train on"),
        ('rank.trees.last="0d"', "rank.trees.last"),
        ('rank.scored.last="7d"', "rank.scored: last asks for 7 days of the training part, and the models whose"),
        ('rank.scored.hold_back="3d"', "rank.scored: nothing of the training part is left to learn from"),
        ('rank.final.vectors=["trees"]', "and rank.trees is trained on all of the training part"),
        ('rank.final.vectors=["scored"]', "rank.final: vectors names 'scored', which has no user and item vectors"),
        ('rank.final.vectors=["now"]', "rank.final: vectors names 'now', which has no user and item vectors"),
        ('evaluate.uplift=[{of="scored",over="trees"}]', "'uplift' has no effect without a utility"),
        ('prepare.split.kind="leave_last_out"', "needs a split by time: set prepare.split.kind"),
    ],
)
def test_bad_settings_are_explained(project, setting, words):
    text = project.read_text()
    if "leave_last_out" in setting:
        text = text.replace('validation = "1d"\ntest = "1d"\n', "")
    project.write_text(text)
    done = upnext("run", project, "--until", "rank", "--set", setting)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())


def test_a_ranker_holds_back_no_more_than_what_it_began_with(project):
    more = project.read_text()
    begun = more[more.index("[rank.tube]") :].replace("[rank.tube]", '[rank.begun]\nfrom = "tube"\nhold_back = "1d"')
    last = '[rank.really]\nkind = "boosted"\nscores = ["begun"]\n'
    project.write_text(more + begun + last)
    done = upnext("run", project, "--until", "rank")
    assert done.returncode == 2
    assert "rank.really.scores names 'begun', and rank.tube is trained on all" in " ".join(done.stderr.split())


def test_towers_hold_back_no_more_than_what_they_began_with(project):
    project.write_text(project.read_text().replace('[pretrain.argus]\nhold_back = "3d"', "[pretrain.argus]"))
    done = upnext("run", project, "--until", "rank", "--set", 'rank.scored.scores=["towers"]')
    assert done.returncode == 2
    assert "names 'towers', and pretrain.argus is trained on all" in " ".join(done.stderr.split())


def test_the_example_runs_from_simulation_to_a_page(tmp_path):
    small = ["simulate.num_events=3000", "simulate.num_users=60", "simulate.num_items=60", "simulate.days=8"]
    small += [f"workspace={tmp_path / 'work'}", "pretrain.argus.training.epochs=1", "rank.final.training.epochs=1"]
    small += ["evaluate.bootstrap_samples=20", "rank.trees.training.trees=20", "rank.trees-argus.training.trees=20"]
    example = Path(__file__).parents[2] / "examples" / "simulated-scores.toml"
    succeed("run", example, "--until", "publish", *(part for one in small for part in ("--set", one)))
    workspace = Workspace(tmp_path / "work")
    (uplift,) = json.loads((workspace.current("report", "report").folder / "uplift.json").read_text())
    assert (uplift["of"], uplift["over"]) == ("trees-argus", "trees")
    release = workspace.current("release", "release").folder
    assert [one["name"] for one in json.loads((release / "scorers.json").read_text())["scorers"]] == ["argus"]
    said = json.loads(succeed("recommend", tmp_path / "work", "--user", "u1", "--json"))
    assert "in the order of the utility that trees-argus expects" in said["rows"][0]["reason"]
