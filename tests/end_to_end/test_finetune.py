"""Two towers through the command line: fine-tuned on what was shown together, evaluated, published, asked."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_resume import FILES, kill_at, train_alone
from tests.end_to_end.test_tiny_project import succeed, upnext
from upnext.base.artifacts import Workspace

PROJECT = """
workspace = "{folder}/work"

[prepare.source]
kind = "table"
path = "{folder}/log.csv"
user = "user"
item = "item"
time = "time"
time_unit = "s"
request = "request"
[prepare.source.feedback]
played = "fraction"
like = "binary"

[prepare.views]
watched = "played >= 0.5"

[prepare.split]
kind = "global_time"
validation = "1d"
test = "2d"

[pretrain.argus.model]
kind = "argus"
width = 16
layers = 1
max_length = 20
embeddings = {{ kind = "hashed", rows = 64 }}
[pretrain.argus.training]
epochs = 2
tokens_per_batch = 400

[finetune.towers]
kind = "pairwise"
from = "argus"
width = 8
lag = "12h"
utility = {{ played = 1.0, like = 0.5 }}
dropout = 0.0
[finetune.towers.training]
epochs = 16
patience = 16
tokens_per_batch = 100
learning_rate = 0.01

[evaluate]
view = "watched"
k = [3]
bootstrap_samples = 50
utility = {{ played = 1.0, like = 0.5 }}

[publish]
retriever = "towers"
exclude_history = false
"""


def write_log(path: Path) -> None:
    """Forty users on ten days; of three items that are shown together they play those of their own half to the end."""
    g = np.random.default_rng(0)
    lines = ["user,item,time,request,played,like"]
    for user in range(40):
        for day in range(10):
            time_s = 1_700_000_000 + day * 86_400 + user * 60
            for item in g.choice(12, 3, replace=False):
                is_liked = item % 2 == user % 2
                played = round(float(np.clip(0.2 + 0.6 * is_liked + g.normal() / 20, 0, 1)), 3)
                lines.append(f"{user},{'abcdefghijkl'[item]},{time_s},{user}-{day},{played},{int(is_liked)}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def project(tmp_path):
    write_log(tmp_path / "log.csv")
    (tmp_path / "project.toml").write_text(PROJECT.format(folder=tmp_path))
    return tmp_path / "project.toml"


def test_from_a_csv_to_recommendations(project):
    output = succeed("run", project, "--until", "publish")
    assert re.search(r"finetune towers {2}\d+ impressions in \d+ chunks; left out: 0 with nothing to compare", output)
    workspace = Workspace(project.parent / "work")
    model = workspace.current("model-towers", "model")
    assert [name.split("-")[0] for name in model.manifest["parents"]] == ["log", "model"]
    facts = model.manifest["metrics"]
    # Seven days of training: the first has no history, and twelve hours of lag hide nothing but the request itself.
    assert facts["num_impressions_without_state"] == 40 * 3
    assert facts["num_impressions"] + facts["num_impressions_without_pair"] == 40 * 3 * 6
    history = [json.loads(line) for line in (model.folder / "history.jsonl").read_text().splitlines()]
    assert history[-1]["pairs_loss"] < history[0]["pairs_loss"]
    assert max(row["pair_accuracy"] for row in history) > 0.9  # the planted halves; chance is 1/2
    metrics = json.loads((workspace.current("report", "report").folder / "metrics.json").read_text())
    assert {row["model"] for row in metrics} == {"argus", "towers"}
    rows = json.loads((workspace.current("report", "report").folder / "feedback.json").read_text())
    of = {(row["model"], row["metric"]): row for row in rows if row["feedback"] == "utility"}
    assert {model for model, _ in of} == {"argus", "towers", "mean", "item rates"}
    gaps = {"behind", "ndcg_behind"}
    assert {metric for _, metric in of} == {"pair_accuracy", "user_pair_accuracy", "utility_ndcg"} | gaps
    assert ("towers", "behind") not in of  # nobody is ahead of them
    assert of["item rates", "behind"]["low"] > 0
    assert all(row["low"] <= row["value"] <= row["high"] for row in of.values())
    assert of["mean", "pair_accuracy"]["value"] == 0.5  # it ties everything
    assert of["towers", "pair_accuracy"]["low"] > 0.9 > 0.6 > of["item rates", "pair_accuracy"]["high"]
    assert of["towers", "utility_ndcg"]["low"] > of["item rates", "utility_ndcg"]["high"]
    report = (workspace.current("report", "report").folder / "report.md").read_text()
    assert "Utility = 1 · played + 0.5 · like. Impressions of one request are compared" in report
    assert "| towers | 0.9" in report[report.index("Pair accuracy") :]
    answer = json.loads(succeed("recommend", project.parent / "work", "-u", "3", "--json"))
    top = [one["item_id"] for one in answer["rows"][0]["items"]][:6]
    assert sum("abcdefghijkl".index(item) % 2 == 1 for item in top) >= 5


def test_new_weights_need_no_parent(project):
    succeed("run", project, "--until", "finetune", "--set", "finetune.towers.pretrained=false")
    model = Workspace(project.parent / "work").current("model-towers", "model")
    assert [name.split("-")[0] for name in model.manifest["parents"]] == ["log"]


def test_up_to_date_towers_are_found(project):
    succeed("run", project, "--until", "finetune")
    before = Workspace(project.parent / "work").current("model-towers", "model").name
    assert "impressions in" not in succeed("finetune", project)
    succeed("finetune", project, "--set", "finetune.towers.lag=0s")
    assert Workspace(project.parent / "work").current("model-towers", "model").name != before


def test_a_killed_fine_tuning_goes_on_bit_for_bit(project):
    work = Workspace(project.parent / "work")
    succeed("run", project, "--until", "pretrain")
    changes = ("--set", "finetune.towers.dropout=0.2", "--set", "finetune.towers.training.checkpoint_every=3")
    train_alone(project, *changes, stage="finetune")
    first = work.current("model-towers", "model")
    expected = {name: (first.folder / name).read_bytes() for name in FILES}
    shutil.rmtree(first.folder)
    reached = kill_at(project, 20, *changes, stage="finetune")
    assert f"goes on at step {reached}" in train_alone(project, "--resume", *changes, stage="finetune")
    again = work.current("model-towers", "model")
    assert {name: (again.folder / name).read_bytes() for name in FILES} == expected


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('prepare.split={kind="leave_last_out"}', "leave-last-out keeps one event per user for validation"),
        ('finetune.towers.from="x"', "finetune.towers.from is 'x'; the ARGUS models of [pretrain]: ['argus']"),
        ("finetune.towers.utility={ liked = 1.0 }", "a utility weight for the feedback 'liked'; the log has"),
        ('finetune.towers.window="3d"', "lag 43200000 ms is shorter than window 259200000 ms"),
        ("finetune.towers.utility={}", "at least 1 item"),
        ("finetune.towers.utility={ like = nan }", "finetune.towers.utility.like: Input should be a finite number"),
        ("evaluate.utility={ like = inf }", "evaluate.utility.like"),
        ("finetune.towers.longest_history=21", "longest_history 21, shortest_history 1: 'argus' reads 20 events"),
        ("finetune.towers.shortest_history=20", "'argus' reads 20 events"),
        ("finetune.towers.lag=1y", "is no duration"),
        ("finetune.towers.lag=100d", "nothing to fine-tune on"),
        ("finetune.towers.heads=2", "unknown key 'finetune.towers.heads'; allowed here: dropout, from, hold_back"),
        ("pretrain.towers.model.kind=popular", "[pretrain] and [finetune] both have a model 'towers'"),
        ("evaluate.utility={ liked = 1.0 }", "a utility weight for the feedback 'liked'; the log has"),
        ("evaluate.pairs=1y", "evaluate.pairs"),
        ("prepare.request_safe=false", "neither requests nor request-safe times"),
    ],
)
def test_bad_settings_are_explained(project, setting, words):
    done = upnext("run", project, "--until", "finetune", "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


RETRIEVAL = """
[finetune.finder]
kind = "retrieval"
from = "argus"
width = 8
lag = "12h"
dropout = 0.0
[finetune.finder.positives]
view = "watched"
among_next = 2
hard_negatives = 0.5
[finetune.finder.loss]
kind = "sampled"
num_drawn = 20
temperature = "learned"
[finetune.finder.training]
epochs = 24
patience = 24
tokens_per_batch = 100
learning_rate = 0.01

[pretrain.scratch.model]
kind = "two_towers"
width = 8
lag = "12h"
encoder = {{ width = 16, layers = 1, max_length = 20, embeddings = {{ kind = "hashed", rows = 64 }} }}
[pretrain.scratch.positives]
view = "watched"
[pretrain.scratch.training]
epochs = 24
patience = 24
tokens_per_batch = 100
learning_rate = 0.01

[pretrain.popular.model]
kind = "popular"
view = "watched"
"""


def test_towers_that_find_what_is_chosen_later(project):
    text = PROJECT.replace('retriever = "towers"', 'retriever = "finder"')
    project.write_text((text + RETRIEVAL).format(folder=project.parent))
    output = succeed("run", project, "--until", "publish")
    assert "finetune finder" in output
    workspace = Workspace(project.parent / "work")
    for name, terms in (("finder", {"future_items_loss", "hard_negatives_loss"}), ("scratch", {"future_items_loss"})):
        model = workspace.current(f"model-{name}", "model")
        history = [json.loads(line) for line in (model.folder / "history.jsonl").read_text().splitlines()]
        assert terms <= history[0].keys()
        assert history[-1]["future_items_loss"] < history[0]["future_items_loss"]
        assert "temperature" in model.manifest["metrics"]
    metrics = json.loads((workspace.current("report", "report").folder / "metrics.json").read_text())
    ndcg = {row["model"]: row for row in metrics if row["metric"] == "ndcg" and not row["history_removed"]}
    for name in ("finder", "scratch"):
        assert ndcg[name]["value"] > 1.2 * ndcg["popular"]["value"]
    for user in (3, 4):  # half of the items are out of the question
        answer = json.loads(succeed("recommend", project.parent / "work", "-u", user, "--json"))
        top = [one["item_id"] for one in answer["rows"][0]["items"]][:6]
        assert sum("abcdefghijkl".index(item) % 2 == user % 2 for item in top) >= 5


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('finetune.finder.positives.view="x"', "no view 'x'"),
        ("finetune.finder.utility={ like = 1.0 }", "unknown key 'finetune.finder"),
        ("finetune.finder.lag=100d", "nothing to train on"),
        ('finetune.finder.positives.view="all"', "hard_negatives has no effect: nothing of the training part was"),
        ('pretrain.mean.model={ kind = "popular", view = "watched" }', "none of frequency, mean, oracle"),
        ('pretrain.scratch.positives.view="x"', "no view 'x'"),
        ('pretrain.argus.positives.view="watched"', "'positives' has no effect on a argus model"),
        ("pretrain.scratch.tasks.next_item=1", "'tasks' has no effect: a two_towers model has one"),
    ],
)
def test_bad_settings_of_retrieval_are_explained(project, setting, words):
    project.write_text((PROJECT + RETRIEVAL).format(folder=project.parent))
    done = upnext("run", project, "--until", "finetune", "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    if "no view" in words:  # before hours of training, not after
        assert "pretrain" not in done.stdout
