"""A main model through the command line: trained, killed and resumed, evaluated, and refused where it cannot be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.end_to_end.test_resume import kill_at, train_alone
from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace

RANK = """
[rank.main]
kind = "main"
[rank.main.model]
width = 8
max_length = 8
aggregates = [{ by = ["item"], what = "mean", feedback = "played" }, { by = ["user", "surface"], window = "2d" }]
[rank.main.model.aggregators.watched]
kind = "self_attention"
view = "watched"
length = 6
[rank.main.model.aggregators.everything]
kind = "sum_pooling"
length = 8
[rank.main.training]
epochs = 3
tokens_per_batch = 200
checkpoint_every = 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_log(tmp_path / "log.csv")
    file = tmp_path / "project.toml"
    file.write_text(PROJECT.format(folder=tmp_path) + RANK)
    return file


def test_from_a_csv_to_a_report(project):
    settings = ['rank.main.window="1d"', "evaluate.utility.played=1", 'evaluate.pairs="5d"']
    settings += ['prepare.split.validation="2d"', 'prepare.split.test="2d"']
    settings += ['evaluate.stages=[{retriever="sasrec", ranker="main"}]']
    done = succeed("run", project, "--until", "evaluate", *(part for one in settings for part in ("--set", one)))
    assert "240 candidates in 240 sets" in done
    workspace = Workspace(project.parent / "work")
    report = workspace.current("report", "report").folder
    rows = json.loads((report / "feedback.json").read_text())
    assert {row["model"] for row in rows} >= {"main", "mean", "item rates"}
    assert {row["metric"] for row in rows if row["model"] == "main"} >= {"log_loss", "mae", "pair_accuracy"}
    assert all(np.isfinite(row["value"]) for row in rows)
    assert '"ranker": "main"' in (report / "stages.json").read_text()
    assert "main" not in {row["model"] for row in json.loads((report / "metrics.json").read_text())}
    curve = (workspace.current("model-main", "model").folder / "history.jsonl").read_text().splitlines()
    assert json.loads(curve[-1]).keys() == {"epoch", "step", "feedback.played_loss", "negative_loss"}


def test_it_is_published_and_orders_what_the_retriever_found(project):
    settings = ["--set", 'publish.ranker="main"', "--set", "publish.utility.played=1"]
    settings += ["--set", 'publish.page_context.surface="home"']
    succeed("run", project, "--until", "publish", *settings)
    said = json.loads(succeed("recommend", project.parent / "work", "--user", "3", "--json"))
    (row, *_) = said["rows"]
    assert "in the order of the utility that main expects" in row["reason"]
    scores = [item["score"] for item in row["items"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)


def test_it_is_found_and_not_trained_again(project):
    succeed("run", project, "--until", "rank")
    workspace = Workspace(project.parent / "work")
    first = workspace.current("model-main", "model")
    assert first.manifest["metrics"]["num_candidates"] == 320
    assert "candidates in" not in succeed("rank", project)
    assert workspace.current("model-main", "model").name == first.name
    succeed("rank", project, "--set", "rank.main.training.seed=3")
    assert workspace.current("model-main", "model").name != first.name


def test_a_training_that_was_killed_gives_the_bytes_of_one_that_was_not(project):
    succeed("run", project, "--until", "prepare")
    work = project.parent / "work"
    long = ["--set", "rank.main.training.epochs=30", "--set", "rank.main.training.patience=30"]
    train_alone(project, *long, stage="rank")
    first = Workspace(work).current("model-main", "model")
    expected = (first.folder / "weights.safetensors").read_bytes()
    shutil.rmtree(first.folder)
    reached = kill_at(project, 4, *long, stage="rank")
    assert f"goes on at step {reached}" in train_alone(project, *long, "--resume", stage="rank")
    assert (Workspace(work).current("model-main", "model").folder / "weights.safetensors").read_bytes() == expected


MASKED = """
[rank.pretrained]
kind = "main"
model = {{ width = 8, max_length = 8, aggregators = {aggregators} }}
masked = {{ mode = "only", rate = 0.2 }}
training = {{ epochs = 2, tokens_per_batch = 200 }}

[rank.masked]
kind = "main"
from = "pretrained"
model = {{ width = 8, max_length = 8, aggregators = {aggregators} }}
masked = {{ weight = 0.5, rate = "one", embedding = "per_position" }}
training = {{ epochs = 2, tokens_per_batch = 200 }}
"""
AGGREGATORS = '{ watched = { kind = "self_attention", view = "watched", length = 6 } }'


def test_masks_train_and_pretrain_a_ranker(project):
    project.write_text(project.read_text() + MASKED.format(aggregators=AGGREGATORS))
    succeed("run", project, "--until", "rank")
    workspace = Workspace(project.parent / "work")
    curves = {}
    for name in ("pretrained", "masked"):
        artifact = workspace.current(f"model-{name}", "model")
        curves[name] = [json.loads(line) for line in (artifact.folder / "history.jsonl").read_text().splitlines()]
    assert curves["pretrained"][0].keys() == {"epoch", "step", "masked.watched_loss", "negative_loss"}
    assert curves["masked"][0].keys() == {"masked.watched_loss", *curves["pretrained"][0], "feedback.played_loss"}
    assert (
        workspace.current("model-pretrained", "model").name
        in workspace.current("model-masked", "model").manifest["parents"]
    )
    tensors = [
        load_file(workspace.current(f"model-{name}", "model").folder / "weights.safetensors")
        for name in ("pretrained", "masked")
    ]
    assert tensors[0].keys() == tensors[1].keys()
    assert not any("mask" in name for name in tensors[0])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rank.masked.masked.weight=-1", "rank.masked.masked.weight: Input should be greater than or equal to 0"),
        (
            "rank.masked.model.aggregators.watched.kind=sum_pooling",
            "rank.masked: masked training of the aggregator 'watched': its kind is sum_pooling",
        ),
        ('rank.masked.masked.aggregators=["x"]', "rank.masked: masked.aggregators names 'x'"),
        ("rank.masked.model.width=16", "rank.masked: from names 'pretrained', which has another shape"),
        ("rank.masked.from=main2", "rank.masked.from is 'main2'; the neural rankers above it"),
        ("rank.pretrained.from=masked", "rank.pretrained.from is 'masked'; the neural rankers above it"),
    ],
)
def test_bad_masks_are_explained(project, setting, words):
    project.write_text(project.read_text() + MASKED.format(aggregators=AGGREGATORS))
    done = upnext("run", project, "--until", "rank", "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('rank.main.model.aggregates=[{by=["author"]}]', "rank.main: the aggregate 'author.count': no by 'author'"),
        ('rank.main.feedback=["like"]', "rank.main: feedback names 'like'; the log has the feedback ['played']"),
        ("rank.main.feedback=[]", "rank.main: there is nothing to predict: name feedback"),
        ("rank.main.losses.like.weight=1", "rank.main: the loss of a feedback 'like'; the log has ['played']"),
        ("rank.main.losses.played.loss=poisson", "rank.main: loss 'poisson' of the fraction 'played'"),
        ('rank.main.view="x"', "no view 'x'"),
        ('rank.main.view="never"', "rank.main: the training part holds no event of the view 'never'"),
        ('rank.main.model.aggregators.watched.view="x"', "no view 'x'"),
        (
            'rank.main.model.aggregators.watched.view="never"',
            "rank.main: the aggregator 'watched' reads the view 'never', which selects nothing of the training part",
        ),
        ('rank.main.model.contexts=["x"]', "rank.main: model.contexts names 'x'; the log has ['surface']"),
        ('rank.main.model.user_features=["x"]', "rank.main: model.user_features names 'x'; the log has []"),
        ("rank.main.model.aggregators.watched.heads=3", "width 8 is no multiple of aggregators.watched.heads 3"),
        ("rank.main.kind=graph", "'boosted', 'main'"),
        ('publish.retriever="main"', "publish.retriever is 'main', a model of [rank]"),
    ],
)
def test_bad_settings_are_explained(project, setting, words):
    done = upnext("run", project, "--until", "rank", "--set", 'prepare.views.never="played > 2"', "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


def test_an_hour_of_a_window_is_refused(project):
    settings = ("--set", 'rank.main.window="1d"', "--set", 'rank.main.model.time=["hour"]')
    done = upnext("run", project, "--until", "rank", *settings)
    assert done.returncode == 2
    assert "model.time reads the hour, and with a window everybody is asked as of its beginning" in " ".join(
        done.stderr.split()
    )
