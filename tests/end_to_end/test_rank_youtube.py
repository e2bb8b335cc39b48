"""YouTube's ranker through the command line: it learns what counting cannot, in every form, and says what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

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
contexts = {{ surface = "categorical", volume = "numeric" }}
[prepare.source.feedback]
click = "binary"
seconds = "amount"
[prepare.source.items]
path = "{folder}/items.csv"
item = "item"
features = {{ language = "categorical" }}
[prepare.views]
watched = "seconds > 0"
never = "seconds > 1000"
[prepare.split]
kind = "global_time"
validation = "1d"
test = "2d"

[pretrain.popular.model]
kind = "popular"
view = "watched"

[rank.tube]
kind = "youtube"
[rank.tube.model]
view = "watched"
width = 8
hidden = [32]
aggregates = [{{ by = ["user", "item"] }}, {{ by = ["user", "language"], what = "recency", view = "watched" }}]
[rank.tube.training]
epochs = 12
patience = 12
tokens_per_batch = 400
learning_rate = 1e-2

[evaluate]
view = "watched"
bootstrap_samples = 50
utility = {{ seconds = 1.0 }}
"""


def write_log(folder: Path) -> None:
    """Sixty users of whom each likes the items of one half of the catalogue, and is shown four of either half a day.

    Every item is watched by as many: what is popular says nothing, and what was watched before says everything.
    """
    g = np.random.default_rng(0)
    lines = ["user,item,time,request,surface,volume,click,seconds"]
    for user in range(60):
        for day in range(10):
            shown = [f"i{2 * place + half}" for half in (0, 1) for place in g.permutation(12)[:4]]
            for item in g.permutation(shown):
                likes = int(item[1:]) % 2 == user % 2
                watched = g.random() < (0.9 if likes else 0.1)
                seconds = int(g.integers(20, 60)) if watched else 0
                time = 1_700_000_000 + 86_400 * day + 60 * user
                lines.append(f"{user},{item},{time},{user}-{day},home,{day % 3},{int(watched)},{seconds}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    items = [f"i{number},{'de' if number % 3 else 'fr'}" for number in range(24)]
    (folder / "items.csv").write_text("item,language\n" + "\n".join(items) + "\n")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("youtube")
    write_log(folder)
    file = folder / "project.toml"
    file.write_text(PROJECT.format(folder=folder))
    succeed("run", file, "--until", "pretrain")
    return file


def figures(project: Path, *settings: str) -> dict[tuple[str, str, str], float]:
    succeed("run", project, "--until", "evaluate", *(part for one in settings for part in ("--set", one)))
    report = Workspace(project.parent / "work").current("report", "report").folder
    rows = json.loads((report / "feedback.json").read_text())
    return {(row["model"], row["feedback"], row["metric"]): row["value"] for row in rows}


@pytest.mark.parametrize("loss", ["losses.seconds.loss=weighted", "losses.seconds.loss=weighted_approximate"])
def test_it_learns_tastes_that_no_count_of_an_item_shows(prepared, loss):
    of = figures(prepared, f"rank.tube.{loss}")
    assert of["item rates", "click", "auc"] < 0.6
    assert of["tube", "click", "auc"] > 0.85
    assert of["tube", "utility", "pair_accuracy"] > 0.85
    assert of["tube", "click", "calibration_error"] < 0.15
    if "approximate" in loss:  # half of all is watched, and nine in ten of what is liked: E[T] / (1 - P) is far off
        assert of["tube", "seconds", "calibration"] > 2
    else:
        assert of["tube", "seconds", "calibration"] == pytest.approx(1, abs=0.25)
        assert of["tube", "seconds", "mae"] < 0.8 * of["item rates", "seconds", "mae"]


@pytest.mark.parametrize("objective", ["pairwise", "listwise"])
def test_it_learns_an_order_too(prepared, objective):
    of = figures(prepared, f'rank.tube.objective="{objective}"', "rank.tube.utility.seconds=1")
    assert of["tube", "utility", "pair_accuracy"] > 0.85
    assert ("tube", "click", "log_loss") not in of
    assert ("tube", "click", "calibration_error") not in of


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('rank.tube.model.view="x"', "no view 'x'"),
        (
            'rank.tube.model.view="never"',
            "the model reads the view 'never', which selects nothing of the training part",
        ),
        ('rank.tube.model.item_features=["genre"]', "model.item_features names 'genre'; the log has ['language']"),
        ('rank.tube.model.user_features=["age"]', "model.user_features names 'age'; the log has []"),
        ('rank.tube.model.contexts=["x"]', "model.contexts names 'x'; the log has ['surface', 'volume']"),
        ('rank.tube.model.aggregates=[{by=["author"]}]', "the aggregate 'author.count': no by 'author'"),
        ("rank.tube.losses.click.loss=weighted", "loss 'weighted' of the binary 'click'; allowed: bce, squared"),
        ("rank.tube.losses.like.weight=1", "the loss of a feedback 'like'; the log has ['click', 'seconds']"),
        ("rank.tube.utility.click=1", "'utility' has no effect on a pointwise objective"),
        ("rank.tube.objective=pairwise", "objective = 'pairwise' orders by a utility: give weights of feedback"),
        ("rank.tube.objective=triples", "'pointwise', 'pairwise' or 'listwise'"),
    ],
)
def test_bad_settings_are_explained(prepared, setting, words):
    done = upnext("run", prepared, "--until", "rank", "--set", setting)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("rank.tube.utility.like=1",), "utility names 'like'; the log has the feedback ['click', 'seconds']"),
        (
            ("rank.tube.utility.click=1", "rank.tube.losses.click.weight=1"),
            "'losses' has no effect: objective = 'listwise' foresees nothing",
        ),
        (("rank.tube.utility.click=1", 'rank.tube.view="watched"'), "differ in utility: there is no order to learn"),
    ],
)
def test_orders_say_what_is_wrong(prepared, settings, words):
    every = ["rank.tube.objective=listwise", *settings]
    done = upnext("run", prepared, "--until", "rank", *(part for one in every for part in ("--set", one)))
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


def test_an_amount_below_zero_is_refused_before_anything_is_trained(tmp_path):
    write_log(tmp_path)
    log = tmp_path / "log.csv"
    log.write_text(log.read_text() + "0,i1,1700000000,x,home,0,1,-5\n")
    file = tmp_path / "project.toml"
    file.write_text(PROJECT.format(folder=tmp_path))
    done = upnext("run", file, "--until", "rank")
    assert done.returncode == 2
    assert "-5" in done.stderr


PUBLISH = (
    'publish={retriever="popular", ranker="tube", view="watched", exclude_history=false,'
    ' page_context={surface="home", volume=1.0}, utility={seconds=1.0}}'
)


def test_a_release_orders_by_what_it_expects(prepared):
    settings = ("rank.tube.losses.seconds.loss=weighted", PUBLISH)
    succeed("run", prepared, "--until", "publish", *(part for one in settings for part in ("--set", one)))
    for user in (4, 5):
        found = succeed("recommend", prepared.parent / "work", "-u", user, "-k", 8, "--context", "volume=1", "--json")
        items = json.loads(found)["rows"][0]["items"]
        assert [int(item["item_id"][1:]) % 2 for item in items] == [user % 2] * 8
        assert all(15 < item["score"] < 80 for item in items)  # seconds


def test_an_order_is_no_expectation_that_a_release_could_weigh(prepared):
    settings = ("rank.tube.objective=listwise", "rank.tube.utility.seconds=1", PUBLISH)
    done = upnext("run", prepared, "--until", "publish", *(part for one in settings for part in ("--set", one)))
    assert done.returncode == 2
    assert "'tube', which does not foresee the feedback 'seconds'" in " ".join(done.stderr.split())
