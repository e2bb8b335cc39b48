"""A ranker of drawn candidates through the command line, on a log without impressions or feedback."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace
from upnext.base.protocols import Link, Ranker
from upnext.features.catalogue import Catalogue
from upnext.models.boosted import Boosted
from upnext.models.build import load_any

RANK = """
order = "chosen"
ranker = "trees"

[pretrain.now.model]
kind = "recently_popular"

[rank.trees]
kind = "boosted"
scores = ["sasrec"]
candidates = { retriever = "sasrec", top = 8, negatives = 3, exclude_history = false }
utility = { chosen = 1.0 }
aggregates = [{ by = ["user", "item"], what = "recency" }, { by = ["item"] }]
training = { least_in_leaf = 5, trees = 30 }
"""
STAGES = ("--set", 'evaluate.stages=[{retriever="sasrec", ranker="trees", candidates=8}]')


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_log(tmp_path / "log.csv")
    text = PROJECT.replace('[prepare.source.feedback]\nplayed = "fraction"\n', "").replace('view = "watched"\n', "")
    text = text.replace('[prepare.views]\nwatched = "played >= 0.5"\n', "")
    text = text.replace("[pretrain.sasrec.model]", '[pretrain.sasrec]\nhold_back = "3d"\n[pretrain.sasrec.model]')
    file = tmp_path / "project.toml"
    file.write_text(text.format(folder=tmp_path) + RANK)
    return file


def test_from_clicks_to_a_page(project):
    done = succeed("run", project, "--until", "publish", *STAGES)
    assert "rank trees" in done
    workspace = Workspace(project.parent / "work")
    artifact = workspace.current("model-trees", "model")
    model = Boosted.load(artifact.folder)
    assert model.components == {"chosen": Link.ORDER_ONLY, "utility": Link.ORDER_ONLY}
    assert "sasrec.score" in model.features
    assert workspace.current("model-sasrec", "model").identity in artifact.manifest["parents"]
    report = workspace.current("report", "report").folder
    rows = json.loads((report / "stages.json").read_text())
    assert {row["ranker"] for row in rows} == {"trees", "trees (utility)"}
    of = {(row["ranker"], row["metric"]): row["value"] for row in rows}
    assert of["trees", "lift"] == pytest.approx(of["trees", "ndcg"] - of["trees", "retrieved_ndcg"])
    assert not json.loads((report / "calibration.json").read_text())
    for order in ("chosen", "utility"):
        succeed("publish", project, "--set", f"publish.order={order}")
        said = json.loads(succeed("recommend", project.parent / "work", "--user", "3", "--json"))
        assert "in the order that trees gives" in said["rows"][0]["reason"]
        scores = [item["score"] for item in said["rows"][0]["items"]]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) > 1
        shown = [item["item_id"] for row in said["rows"] for item in row["items"]]
        assert len(shown) == len(set(shown))


def test_another_retriever_makes_another_ranker(project):
    succeed("run", project, "--until", "rank")
    workspace = Workspace(project.parent / "work")
    first = workspace.current("model-trees", "model")
    bytes_of = [path.read_bytes() for path in sorted(first.folder.glob("trees-*.txt"))]
    assert "trees: " not in succeed("rank", project)
    retrained = ("--set", "pretrain.sasrec.training.seed=5", "--set", "rank.trees.scores=[]")
    succeed("pretrain", project, *retrained)
    succeed("rank", project, *retrained)
    second = workspace.current("model-trees", "model")
    assert second.name != first.name
    succeed("pretrain", project)
    succeed("rank", project, "--set", "rank.trees.candidates.seed=3")
    assert workspace.current("model-trees", "model").name not in (first.name, second.name)
    succeed("rank", project)
    assert workspace.current("model-trees", "model").name == first.name
    assert [path.read_bytes() for path in sorted(first.folder.glob("trees-*.txt"))] == bytes_of


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "candidates.retriever=x",
            "rank.trees.candidates.retriever is 'x'; the retrievers: ['sasrec', 'popular', 'now']",
        ),
        ("candidates.retriever=trees", "rank.trees.candidates.retriever is 'trees'; the retrievers:"),
        (
            "candidates.retriever=popular",
            "rank.trees.candidates.retriever names 'popular', and pretrain.popular is trained on all of the",
        ),
        ("candidates.negatives=8", "negatives = 8 of top = 8: the choice itself is one of these"),
        ("candidates.top=1", "rank.trees.candidates.top"),
        ("candidates.k=8", "rank.trees.candidates.k"),
        ('window="1d"', "'window' has no effect with candidates"),
        ('feedback=["played"]', "rank.trees: feedback names 'played'; drawn candidates have ['chosen']"),
        ("utility={played=1}", "rank.trees: utility names 'played'; drawn candidates have ['chosen']"),
        ("feedback=[]", "publish.order is 'chosen'; of 'trees' it can be one of ['utility'], or not set"),
    ],
)
def test_bad_settings_are_explained(project, setting, words):
    until = "publish" if "publish." in words else "rank"
    done = upnext("run", project, "--until", until, "--set", f"rank.trees.{setting}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('kind = "global_time"\nvalidation = "1d"\ntest = "1d"', 'kind = "leave_last_out"', "needs a split by time"),
        ('ranker = "trees"', "", "order = 'chosen', but nothing gives an order: name a ranker, or remove it"),
        (
            'order = "chosen"',
            'utility = { chosen = 1 }\norder = "chosen"',
            "'order' stands in place of what feedback is",
        ),
        ('order = "chosen"', "", "or name with publish.order its output that only orders"),
        ('order = "chosen"', "utility = { chosen = 1 }", "publish.utility gives a weight to 'chosen'; the log has []"),
    ],
)
def test_bad_tables_are_explained(project, old, new, words):
    project.write_text(project.read_text().replace(old, new))
    done = upnext("run", project, "--until", "rank")
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())


def test_a_retriever_that_is_not_trained_yet_is_named(project):
    succeed("run", project, "--until", "prepare")
    done = upnext("rank", project)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "sasrec" in done.stderr


def test_shown_candidates_can_be_left_aside(tmp_path):
    """A log with impressions and feedback: what was watched is chosen, and the others are those that were found."""
    write_log(tmp_path / "log.csv")
    file, rank = tmp_path / "project.toml", RANK.replace('order = "chosen"', 'order = "utility"')
    text = PROJECT.replace("[pretrain.sasrec.model]", '[pretrain.sasrec]\nhold_back = "3d"\n[pretrain.sasrec.model]')
    file.write_text(text.format(folder=tmp_path) + rank.replace("scores =", 'view = "watched"\nscores ='))
    worth = ("--set", "rank.trees.utility={chosen=1, played=0.5}", "--set", "rank.trees.feedback=[]")
    succeed("run", file, "--until", "evaluate", *worth, *STAGES)
    report = Workspace(tmp_path / "work").current("report", "report").folder
    assert {row["ranker"] for row in json.loads((report / "stages.json").read_text())} == {"trees"}
    rows = json.loads((report / "feedback.json").read_text())
    assert all(np.isfinite(row["value"]) for row in rows)


NEURAL = """
[rank.main]
kind = "main"
scores = ["now"]
candidates = { retriever = "sasrec", top = 8, negatives = 3, uniform = 2, exclude_history = false }
training = { epochs = 2, tokens_per_batch = 200 }
model = { width = 8, max_length = 8, aggregators = { all = { kind = "sum_pooling", length = 4 } } }

[rank.tube]
kind = "youtube"
objective = "listwise"
utility = { chosen = 1.0 }
vectors = ["sasrec"]
candidates = { retriever = "sasrec", top = 8, negatives = 3, exclude_history = false }
training = { epochs = 2, tokens_per_batch = 200 }
model = { view = "all", width = 8, hidden = [8], aggregates = [{ by = ["user", "item"], what = "recency" }] }
"""


@pytest.fixture
def neural(project: Path) -> Path:
    project.write_text(project.read_text() + NEURAL)
    return project


def test_networks_learn_from_drawn_candidates_too(neural):
    stages = ",".join(f'{{retriever="sasrec", ranker="{name}", candidates=8}}' for name in ("main", "tube"))
    settings = ("--set", f"evaluate.stages=[{stages}]", "--set", "publish.ranker=main")
    succeed("run", neural, "--until", "publish", *settings)
    workspace = Workspace(neural.parent / "work")
    made = {name: workspace.current(f"model-{name}", "model") for name in ("main", "tube")}
    curves = [json.loads((one.folder / "history.jsonl").read_text().splitlines()[-1]) for one in made.values()]
    assert "feedback.chosen_loss" in curves[0]
    assert "lists_loss" in curves[1]
    for one in made.values():
        counts = one.manifest["metrics"]
        assert 3 * counts["num_sets"] < counts["num_candidates"] <= 6 * counts["num_sets"]
        assert workspace.current("model-sasrec", "model").identity in one.manifest["parents"]
        model = load_any(one.folder, Catalogue.load(workspace.current("log", "log").folder).items)
        assert isinstance(model, Ranker)
        assert list(model.components.values()) == [Link.ORDER_ONLY]
    rows = json.loads((workspace.current("report", "report").folder / "stages.json").read_text())
    assert {row["ranker"] for row in rows} == {"main", "tube"}
    assert all(np.isfinite(row["value"]) for row in rows)
    said = json.loads(succeed("recommend", neural.parent / "work", "--user", "3", "--json"))
    assert "in the order that main gives" in said["rows"][0]["reason"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('main.window="1d"', "'window' has no effect with candidates"),
        ("main.most_candidates=5", "a set has up to 6 candidates, and most_candidates would cut it; set it to 6"),
        ('main.feedback=["played"]', "rank.main: feedback names 'played'; drawn candidates have ['chosen']"),
        ("tube.utility={played=1}", "rank.tube: utility names 'played'; drawn candidates have ['chosen']"),
        ("tube.candidates.retriever=main", "rank.tube.candidates.retriever is 'main'; the retrievers:"),
    ],
)
def test_bad_settings_of_networks_are_explained(neural, setting, words):
    done = upnext("run", neural, "--until", "rank", "--set", f"rank.{setting}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())
