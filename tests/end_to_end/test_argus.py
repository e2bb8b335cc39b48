"""ARGUS through the command line: trained, evaluated on both tasks, published, and asked."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace

ARGUS = """
[pretrain.argus.model]
kind = "argus"
width = 8
layers = 1
max_length = 10
embeddings = { kind = "hashed", rows = 64 }
[pretrain.argus.tasks.feedback]
played = { weight = 0.5, loss = "squared" }
[pretrain.argus.training]
epochs = 3
"""


@pytest.fixture
def project(tmp_path):
    write_log(tmp_path / "log.csv")
    text = PROJECT.format(folder=tmp_path).replace('retriever = "sasrec"', 'retriever = "argus"')
    (tmp_path / "project.toml").write_text(text + ARGUS)
    return tmp_path / "project.toml"


@pytest.mark.parametrize("setting", ["target_attention=true", 'form="full"'])
def test_from_a_csv_to_recommendations(project, setting):
    succeed("run", project, "--until", "publish", "--set", f"pretrain.argus.model.{setting}")
    workspace = Workspace(project.parent / "work")
    rows = json.loads((workspace.current("report", "report").folder / "feedback.json").read_text())
    assert {row["model"] for row in rows} == {"argus", "mean", "item rates"}
    assert {row["feedback"] for row in rows} == {"played"}
    assert all(0 <= row["low"] <= row["value"] <= row["high"] for row in rows)
    assert "## Feedback" in (workspace.current("report", "report").folder / "report.md").read_text()
    lines = (workspace.current("model-argus", "model").folder / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert history[-1]["next_item_loss"] < history[0]["next_item_loss"]
    assert {"next_item_loss", "feedback.played_loss"} <= history[0].keys()
    answer = json.loads(succeed("recommend", project.parent / "work", "-u", "3", "--json"))
    assert answer["rows"][0]["items"]


@pytest.mark.parametrize("embeddings", ['{kind="hashed",rows=64,sparse=true}', '{kind="plain"}'])
def test_every_kind_of_embedding_is_trained_and_served(project, embeddings):
    succeed("run", project, "--until", "publish", "--set", f"pretrain.argus.model.embeddings={embeddings}")
    answer = json.loads(succeed("recommend", project.parent / "work", "-u", "3", "--json"))
    assert answer["rows"][0]["items"]


def test_a_log_without_feedback_is_evaluated(project):
    text = project.read_text().replace('[prepare.source.feedback]\nplayed = "fraction"\n', "")
    text = text.replace('[prepare.views]\nwatched = "played >= 0.5"\n', "").replace('view = "watched"\n', "")
    project.write_text(
        text.replace('[pretrain.argus.tasks.feedback]\nplayed = { weight = 0.5, loss = "squared" }\n', "")
    )
    succeed("run", project, "--until", "publish")
    report = Workspace(project.parent / "work").current("report", "report").folder
    assert json.loads((report / "feedback.json").read_text()) == []


def test_a_feedback_called_as_another_column_of_scores_is_refused(project, tmp_path):
    (tmp_path / "log.csv").write_text((tmp_path / "log.csv").read_text().replace("played", "score"))
    project.write_text(project.read_text().replace("played", "score"))
    succeed("run", project, "--until", "publish")
    table = pa.table({"user_id": [3], "item_id": ["a"], "time_ms": [1_700_500_000_000]})
    pq.write_table(table, tmp_path / "asked.parquet")
    done = upnext("score", tmp_path / "work", tmp_path / "asked.parquet", "--out", tmp_path / "scored.parquet")
    assert done.returncode == 2, done.stderr
    assert "'argus' foresees a feedback 'score', and a column argus.score stands for" in " ".join(done.stderr.split())


def test_a_log_without_feedback_has_a_report(project):
    text = project.read_text().replace('[prepare.source.feedback]\nplayed = "fraction"\n', "")
    text = text.replace('[prepare.views]\nwatched = "played >= 0.5"\n', "").replace('view = "watched"\n', "")
    text = text.replace('[pretrain.argus.tasks.feedback]\nplayed = { weight = 0.5, loss = "squared" }\n', "")
    project.write_text(text)
    succeed("run", project, "--until", "evaluate")
    report = Workspace(project.parent / "work").current("report", "report").folder
    assert json.loads((report / "feedback.json").read_text()) == []
    assert "nip_loss" in (report / "next_item.json").read_text()


def test_it_reads_only_the_contexts_it_is_told_to(project):
    succeed("run", project, "--until", "pretrain", "--set", "pretrain.argus.model.contexts=[]")
    folder = Workspace(project.parent / "work").current("model-argus", "model").folder
    assert json.loads((folder / "model.json").read_text())["inputs"]["contexts"] == {}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("pretrain.argus.tasks.feedback.liked.weight=1", "the loss of a feedback 'liked'; the log has ['played']"),
        (
            'pretrain.argus.tasks.feedback.played.loss="poisson"',
            "loss 'poisson' of the fraction 'played'; allowed: bce",
        ),
        ("pretrain.sasrec.tasks.next_item=1", "'tasks' has no effect: a sasrec model has one"),
        ('pretrain.argus.tasks.next_item_view="x"', "no view 'x'"),
        ('pretrain.argus.model.contexts=["door"]', "read a context 'door'; the log has ['surface']"),
        ("pretrain.argus.model.heads=3", "width 8 is no multiple of heads 3"),
        ('pretrain.argus.model.size="huge"', "'mini', 'small', 'medium' or 'large'"),
    ],
)
def test_bad_settings_are_explained(project, setting, words):
    done = upnext("run", project, "--until", "pretrain", "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
