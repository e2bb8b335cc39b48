"""A boosted ranker through the command line: trained, evaluated beside the others, and refused where it cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace
from upnext.models.boosted import Boosted

RANK = """
[rank.trees]
kind = "boosted"
aggregates = [
  {{ by = ["user"], what = "recency" }},
  {{ by = ["item"], what = "mean", feedback = "played" }},
  {{ by = ["user", "surface"], window = "2d" }},
]
{more}
[rank.trees.training]
least_in_leaf = 5
trees = 30
"""


def write_project(folder: Path, more: str = "") -> Path:
    write_log(folder / "log.csv")
    file = folder / "project.toml"
    file.write_text(PROJECT.format(folder=folder) + RANK.format(more=more))
    return file


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path)


def test_from_a_csv_to_a_report(project):
    settings = ("rank.trees.utility.played=1", 'rank.trees.window="5d"', 'prepare.split.validation="4d"')
    done = succeed("run", project, "--until", "evaluate", *(part for one in settings for part in ("--set", one)))
    assert "rank trees" in done
    workspace = Workspace(project.parent / "work")
    model = Boosted.load(workspace.current("model-trees", "model").folder)
    assert list(model.components) == ["played", "utility"]
    assert "user+surface.count.48h" in model.features
    shares = json.loads((workspace.current("model-trees", "model").folder / "importance.json").read_text())
    assert shares.keys() == {"played", "utility"}
    report = workspace.current("report", "report").folder
    rows = json.loads((report / "feedback.json").read_text())
    assert {row["model"] for row in rows} == {"trees", "mean", "item rates"}
    assert all(np.isfinite(row["value"]) for row in rows)
    assert "trees" not in {row["model"] for row in json.loads((report / "metrics.json").read_text())}
    assert "trees" in (report / "report.md").read_text()


def test_two_stages_are_measured_together(project):
    stages = 'evaluate.stages=[{retriever="popular", ranker="trees", candidates=8, utility={played=1}}]'
    done = succeed("run", project, "--until", "evaluate", "--set", stages)
    assert "trees" in done
    report = Workspace(project.parent / "work").current("report", "report").folder
    rows = json.loads((report / "stages.json").read_text())
    assert {(row["retriever"], row["ranker"], row["candidates"]) for row in rows} == {("popular", "trees", 8)}
    of = {(row["metric"], row["k"]): row["value"] for row in rows}
    assert of.keys() == {("recall", 8), *((name, 3) for name in ("retrieved_ndcg", "ndcg", "lift", "possible_ndcg"))}
    assert of["lift", 3] == pytest.approx(of["ndcg", 3] - of["retrieved_ndcg", 3])
    assert of["possible_ndcg", 3] >= max(of["ndcg", 3], of["retrieved_ndcg", 3])
    assert "popular → trees, 8 candidates" in (report / "report.md").read_text()
    assert 'id="two-stages"' in (report / "report.html").read_text()


def test_it_is_found_and_not_trained_again(project):
    succeed("run", project, "--until", "rank")
    workspace = Workspace(project.parent / "work")
    first = workspace.current("model-trees", "model")
    assert "trees: " not in succeed("rank", project)
    assert workspace.current("model-trees", "model").name == first.name
    succeed("rank", project, "--set", "rank.trees.training.seed=3")
    assert workspace.current("model-trees", "model").name != first.name


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('rank.trees.aggregates=[{by=["author"]}]', "rank.trees: the aggregate 'author.count': no by 'author'"),
        ('rank.trees.feedback=["like"]', "rank.trees: feedback names 'like'; the log has the feedback ['played']"),
        ('rank.trees.view="x"', "no view 'x'"),
        ('rank.trees.view="never"', "the training part holds no event of the view 'never'"),
        ('rank.trees.ignore=["x"]', "rank.trees: ignore names 'x'"),
        ('rank.trees.kind="forest"', "boosted"),
        ('rank.sasrec.kind="boosted"', "[pretrain] and [rank] both have a model 'sasrec'"),
        (
            'evaluate.stages=[{retriever="trees", ranker="trees"}]',
            "evaluate.stages[0].retriever is 'trees'; choose one of ['popular', 'sasrec']",
        ),
        ('evaluate.stages=[{retriever="sasrec", ranker="x"}]', "evaluate.stages[0].ranker is 'x'; choose one of"),
        (
            'evaluate.stages=[{retriever="popular", ranker="sasrec"}]',
            "evaluate.stages: no ranker 'sasrec'; allowed: ['trees']",
        ),
        (
            'evaluate.stages=[{retriever="popular", ranker="trees"}]',
            "evaluate.stages: 'trees' foresees ['played'] and orders by a utility; weigh some of it in",
        ),
        ('publish.retriever="trees"', "publish.retriever is 'trees', a model of [rank]"),
        ("rank.trees.utility.played=1", "rank.trees: no two events of the training part compete; give a"),
    ],
)
def test_bad_settings_are_explained(project, setting, words):
    until = "evaluate" if "stages" in setting else "rank"
    done = upnext("run", project, "--until", until, "--set", 'prepare.views.never="played > 2"', "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


def test_a_log_without_feedback_is_refused(tmp_path):
    file = write_project(tmp_path)
    text = file.read_text().replace('[prepare.source.feedback]\nplayed = "fraction"\n', "")
    text = text.replace('[prepare.views]\nwatched = "played >= 0.5"\n', "").replace('view = "watched"\n', "")
    file.write_text(text)
    done = upnext("run", file, "--until", "rank", "--set", "rank.trees.aggregates=[]")
    assert done.returncode == 2, done.stderr
    assert "the log has no feedback: a ranker has nothing to learn" in " ".join(done.stderr.split())
