"""Distillation through the stages: learning-to-rank files alone, and a log whose ranker teaches who serves."""

import io
import json
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from rich.console import Console

from tests.end_to_end.test_tiny_project import succeed, upnext
from tests.repository.test_commands import running
from tests.serving.projects import TINY
from upnext.base.batches import NO_ITEMS
from upnext.base.example_sets import ExampleSets
from upnext.commands import teachers
from upnext.commands.project import Project, load_any_project, load_project
from upnext.commands.run import run_stages
from upnext.events.split import TEST, TRAIN, UNUSED, VALIDATION
from upnext.fitting.distillation import AnyStudent, DistillConfig
from upnext.fitting.folds import FoldsConfig, folds_of
from upnext.fitting.main_student import taught_sets
from upnext.fitting.said import read_said
from upnext.models.build import load_any
from upnext.models.main_model import MainModel
from upnext.models.student import Student
from upnext.objectives.distillation import LABEL, SAID
from upnext.pipeline import distill, publish
from upnext.pipeline.logged import logged_of, said_of
from upnext.pipeline.told import readers_among
from upnext.serving.choose import Choice, choose
from upnext.serving.histories import Histories
from upnext.serving.release import Release

SEARCH = """
workspace = "{folder}/work"

[examples.queries]
kind = "learning_to_rank"
train = ["{folder}/train.txt"]
validation = ["{folder}/held.txt"]
test = ["{folder}/test.txt"]

[distill.teacher]
examples = "queries"
student = { kind = "boosted", trees = 10, least_in_leaf = 5 }
losses = [{ kind = "label" }, { kind = "label_pairs", weight = 0.3 }]

[distill.student]
examples = "queries"
teacher = "teacher"
folds = { count = 2 }
student = { kind = "linear" }
losses = [{ kind = "label" }, { kind = "differences", schedule = { kind = "linear", steps = 5 } }]
training = { epochs = 20, learning_rate = 0.05, tokens_per_batch = 60 }
"""

LOG = """
[rank.trees]
kind = "boosted"
feedback = ["click"]
scores = ["popular-now"]
aggregates = [{ by = ["item"], what = "mean", feedback = "click" }, { by = ["user", "item"] }]
training = { trees = 10, least_in_leaf = 20 }

[examples.lists]
kind = "log"
label = "click"
aggregates = [{ by = ["item"], what = "mean", feedback = "click" }, { by = ["user"] }]

[distill.small]
examples = "lists"
teacher = "trees"
folds = { count = 2 }
losses = [{ kind = "label" }, { kind = "differences" }]
training = { epochs = 2 }

[distill.small.student]
kind = "main"
width = 8
max_length = 5
aggregators = { watched = { kind = "sum_pooling", view = "watched", length = 5 } }
aggregates = [{ by = ["item"], what = "mean", feedback = "click" }]

[distill.student]
examples = "lists"
teacher = ["trees", "small"]
folds = { count = 2 }
student = { kind = "mlp", hidden = [8] }
losses = [{ kind = "label" }, { kind = "list_probabilities" }]
training = { epochs = 2 }
"""


def write_queries(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for number, name in enumerate(("train", "held", "test")):
        lines = []
        for query in range(20):
            for signal, noise in generator.random((6, 2)):
                label = int(generator.random() < signal) + int(generator.random() < signal)
                lines.append(f"{label} qid:{number * 100 + query} 1:{signal:.4f} 2:{noise:.4f}")
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    file = folder / "search.toml"
    file.write_text(SEARCH.replace("{folder}", str(folder)))
    return file


def made(project, **more) -> str:
    told = io.StringIO()
    run_stages(project, Console(file=told, width=200), **more)
    return told.getvalue()


def test_a_search_team_has_a_report_without_a_log(tmp_path):
    file = write_queries(tmp_path)
    told = succeed("distill", file)
    assert "teacher as a teacher" in told
    workspace = load_any_project(file).opened()
    report = workspace.current("comparison-queries", "comparison").folder
    rows = json.loads((report / "figures.json").read_text())
    assert {row["model"] for row in rows} == {"teacher", "student"}
    assert {row["metric"] for row in rows} == {"ndcg", "pair_accuracy", "auc", "log_loss", "calibration_error"}
    auc = {row["model"]: row["value"] for row in rows if row["metric"] == "auc"}
    assert auc["student"] > 0.6
    text = (report / "report.md").read_text()
    assert "20 / 20 / 20 train / validate / test" in text
    assert "| student |" in text
    assert "Cost" in (report / "report.html").read_text()
    # What is up to date is found.
    assert "fold 1" not in made(load_any_project(file))
    assert "fold 1" in made(load_any_project(file, ["distill.student.folds.seed=1"]))


def test_a_student_scores_documents_that_it_never_saw(tmp_path):
    file, out = write_queries(tmp_path), tmp_path / "scores.txt"
    succeed("distill", file)
    workspace = load_any_project(file).opened()
    sets = ExampleSets.load(workspace.current("examples-queries", "examples").folder)
    asked = sets.take(np.flatnonzero(sets.part == TEST))
    for name in ("student", "teacher"):
        told = succeed("score", workspace.root, tmp_path / "test.txt", "--model", name, "--out", out)
        assert "120 documents of 20 queries" in told
        model = load_any(workspace.current(f"model-{name}", "model").folder, NO_ITEMS)
        assert isinstance(model, AnyStudent)
        np.testing.assert_allclose(np.loadtxt(out), said_of(model, asked, None), rtol=1e-6)
    # Features that a file leaves out are 0, and those that no model knows change nothing.
    (tmp_path / "few.txt").write_text("0 qid:1 1:0.9\n0 qid:1 1:0.1 7:3\n0 qid:1 1:0.9 2:0\n")
    answer = json.loads(
        succeed("score", workspace.root, tmp_path / "few.txt", "--model", "student", "--out", out, "--json")
    )
    assert (answer["rows"], answer["queries"], answer["model"]) == (3, 1, "student")
    good, bad, again = np.loadtxt(out)
    assert good == again > bad


def test_what_cannot_be_scored_is_explained(tmp_path, taught):
    file, out = write_queries(tmp_path), tmp_path / "scores.txt"
    succeed("distill", file)
    work, queries, nowhere = tmp_path / "work", tmp_path / "test.txt", tmp_path / "none" / "x.txt"
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for arguments, words in (
        ((work, queries, "--model", "x", "--out", out), "holds no 'model-x' yet"),
        ((work, tmp_path / "empty.txt", "--model", "student", "--out", out), "empty.txt holds no document"),
        ((work, tmp_path / "gone.txt", "--model", "student", "--out", out), "gone.txt"),
        ((work, queries, "--model", "student", "--out", nowhere), "there is no folder"),
        ((work, queries, "--model", "student", "--vectors", "--out", out), "--vectors goes with a release"),
        ((taught.workspace, queries, "--model", "student", "--out", out), "it was taught on a log"),
    ):
        done = upnext("score", *arguments)
        assert done.returncode == 2, done.stderr
        assert words in " ".join(done.stderr.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('distill.student.examples="x"', "distill.student.examples is 'x'; [examples] has ['queries']"),
        ('distill.student.teacher="x"', "distill.student.teacher is 'x'; it can be one of ['teacher']"),
        ('distill.student.student.ignore=["feature.9"]', "distill.student: student.ignore names 'feature.9'"),
        ('distill.student.losses=[{kind="rank"}]', "rank"),
        ('distill.student.folds.by="time"', 'folds.by = "time" needs times'),
        ('distill.student.student={kind="main", aggregators={x={kind="sum_pooling"}}}', "which reads a log"),
        ('examples.queries={kind="log", label="click"}', "are of the log, and there is no table [prepare]"),
    ],
)
def test_bad_settings_are_explained(tmp_path, setting, words):
    done = upnext("distill", write_queries(tmp_path), "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("distill")
    file = folder / "project.toml"
    published = TINY.replace(
        'view = "watched"\nhide', 'ranker = "student"\nutility = { click = 1.0 }\nview = "watched"\nhide'
    )
    assert 'ranker = "student"' in published
    file.write_text(f'workspace = "{folder}/work"\n' + published + LOG)
    project = load_project(file)
    made(project, until="publish")
    return project


def test_a_rankers_student_is_evaluated_and_published(taught):
    workspace = taught.opened()
    report = workspace.current("report", "report").folder
    rows = json.loads((report / "feedback.json").read_text())
    assert {"trees", "small", "student"} <= {row["model"] for row in rows}
    compared = json.loads((workspace.current("comparison-lists", "comparison").folder / "figures.json").read_text())
    assert {row["model"] for row in compared} == {"trees", "small", "student"}
    costs = json.loads((workspace.current("comparison-lists", "comparison").folder / "costs.json").read_text())
    assert costs.keys() == {"trees", "small", "student"}
    for of in costs.values():
        assert of["parameters"] > 0
        assert of["size_bytes"] > 0
        assert 0 < of["p50_ms"] <= of["p50_computed_ms"] <= of["p99_computed_ms"]
        assert of["p50_ms"] <= of["p99_ms"]
        assert of["seconds"] > 0
    answer = json.loads(succeed("recommend", taught.workspace, "--user", "u1", "--json").splitlines()[-1])
    assert "in the order of the utility that student expects" in json.dumps(answer)
    release = Release.load(workspace.current("release", "release").folder)
    release.histories.close()
    offline = load_any(workspace.current("model-student", "model").folder, release.catalogue.items)
    assert isinstance(offline, Student)
    assert isinstance(release.ranker, Student)
    for name, tensor in offline.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), release.ranker.state_dict()[name].numpy())


def test_a_main_model_is_taught_what_its_sets_hold(taught):
    """What the ranker of its sets reads is joined with labels and what is said by the events; and it listens."""
    workspace = taught.opened()
    examples = workspace.current("examples-lists", "examples")
    logged = logged_of(workspace, examples)
    assert logged is not None
    sets = ExampleSets.load(examples.folder)
    said = read_said(workspace.current("said-trees-lists-owner-2", "said"))
    small, model = taught.distill["small"], load_any(workspace.current("model-small", "model").folder, logged.items)
    assert isinstance(model, MainModel)
    trained = sets.take(np.flatnonzero(sets.part == TRAIN))
    place = sets.candidates_of(np.flatnonzero(sets.part == TRAIN))
    before = logged.plan(small, sets)
    shown = taught_sets(before.data, sets, said)
    of_row = {int(row): n for n, row in enumerate(sets.row)}
    where = np.array([of_row[int(row)] for row in shown.rows])
    np.testing.assert_array_equal(shown.features[LABEL].values, sets.label[where])
    np.testing.assert_array_equal(shown.features[SAID].values, said.values[where])
    assert sorted(where) == sorted(place)
    # Its differences within sets go the teacher's way; how large they are, and the level, calibration has put right.
    scores = logged.scores(model, trained)
    pairs = [(said.values[place][a:b], scores[a:b]) for a, b in pairwise(trained.first)]
    assert sum(np.mean((t - t.mean()) * (s - s.mean())) for t, s in pairs) > 0
    held = sets.take(np.flatnonzero(sets.part == VALIDATION))
    expected = 1 / (1 + np.exp(-logged.scores(model, held)))
    assert expected.mean() == pytest.approx(held.is_positive.mean(), abs=1e-4)


@pytest.mark.parametrize("ranker", ["student", "small"])
def test_what_is_served_is_what_was_evaluated(taught, ranker, tmp_path):
    """The candidates of logged requests, asked about as of these, have the scores that the comparison saw."""
    workspace, view = taught.opened(), taught.opened().view(tmp_path / "current")
    logged = logged_of(workspace, workspace.current("examples-lists", "examples"))
    assert logged is not None
    assert taught.publish is not None
    release = Release.load(publish.run(taught.publish.model_copy(update={"ranker": ranker}), view).folder)
    histories, log = Histories(release, None), logged.log
    sets = ExampleSets.load(workspace.current("examples-lists", "examples").folder)
    sets = sets.take(np.flatnonzero(sets.part == TEST)[:60])
    model = load_any(workspace.current(f"model-{ranker}", "model").folder, logged.items)
    assert isinstance(model, AnyStudent)
    offline = 1 / (1 + np.exp(-said_of(model, sets, logged)))
    for number in range(len(sets)):
        place = np.arange(*sets.first[number : number + 2])
        row, items = sets.row[place[0]], log.rows.item[sets.row[place]].tolist()
        context = {
            name: of.external(log.rows.columns[f"context.{name}"].values[row]) for name, of in release.contexts.items()
        }
        moment = int(log.rows.time_ms[log.request_start[row]])
        (found,) = choose(
            release, histories, [Choice(release.users.external(log.rows.user[row]), moment, items, context=context)]
        )
        online = dict(zip(found.items, found.scores, strict=True))
        np.testing.assert_allclose([online[item] for item in items], offline[place], atol=1e-5)
    release.histories.close()


def test_a_compiled_student_makes_the_same_pages(taught, compiler):
    pages = []
    for is_compiled in (False, True):
        setting = f"serve.compile={str(is_compiled).lower()}"
        with running("serve", taught.workspace, "--set", "serve.port=0", "--set", setting) as address:
            assert httpx.get(f"{address}v1/service", trust_env=False).json()["compiled"] is is_compiled
            page = httpx.get(f"{address}v1/recommendations?user_id=u1", trust_env=False).json()
        assert not page["fallback"]
        pages.append([[item["item_id"] for item in row["items"]] for row in page["rows"]])
    assert pages[0] == pages[1]
    assert len(list((taught.workspace / "compiled").glob("*.pt2"))) == 1


def test_a_student_of_a_file_of_scores_asks_no_model_of_that_name(taught, tmp_path):
    workspace = taught.opened()
    sets = ExampleSets.load(workspace.current("examples-lists", "examples").folder)
    (tmp_path / "said.txt").write_text("0.5\n" * len(sets.label))
    shape = {"examples": "lists", "scores": [str(tmp_path / "said.txt")], "student": {"kind": "linear"}}
    settings = shape | {"losses": [{"kind": "scores"}], "training": {"epochs": 1}}
    student = distill.run(DistillConfig.model_validate(settings), workspace.view(tmp_path / "current"), "of-file", [])
    assert readers_among({"of-file": student}) == {}
    workspace.erase(student.folder)


def test_what_taught_fold_by_fold_leaves_nothing_behind(taught):
    workspace = taught.opened()
    said = read_said(workspace.current("said-trees-lists-owner-2", "said"))
    assert said.observed.all()
    assert len(workspace.folders("log")) == 1
    assert len(workspace.folders("model")) == 5  # sasrec, popular-now, trees and the students
    assert "log" in workspace.in_use()


@pytest.mark.parametrize("by", ["owner", "set", "time"])
def test_no_row_of_a_fold_is_trained_on_without_it(taught, by, tmp_path):
    workspace = taught.opened()
    log, examples = workspace.current("log", "log"), workspace.current("examples-lists", "examples")
    sets, folds = ExampleSets.load(examples.folder), FoldsConfig(by=by, count=3)
    view = workspace.view(tmp_path / "current")
    number, before = folds_of(folds, sets), np.load(log.folder / "split.npy")
    for fold in (1, 2):
        without = teachers._without_fold(view, log, sets, folds, fold)
        after = np.load(without.folder / "split.npy")
        held = sets.row[sets.candidates_of(np.flatnonzero(number == fold))]
        known = sets.row[sets.candidates_of(np.flatnonzero((number >= 0) & (number < fold)))]
        assert (after[held] != TRAIN).all()
        assert (after[known] == TRAIN).all()
        assert ((before == after) | ((before == TRAIN) & (after == UNUSED))).all()
        workspace.erase(without.folder)
    assert view.root == workspace.root
