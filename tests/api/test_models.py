"""The contract of the models: settings, what recommend returns, saving and loading, and what is refused."""

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import upnext
from tests.api.logs import COLUMNS, SPLIT, VIEWS, events, items
from upnext.api import Estimator
from upnext.base.artifacts import Artifact
from upnext.base.configuration import Config
from upnext.base.errors import BadArtifact, BadConfig, BadData, BadRequest, UserError
from upnext.models.argus import ARGUSConfig
from upnext.models.popularity import PopularConfig, RecentlyPopularConfig
from upnext.models.sasrec import SASRecConfig
from upnext.pipeline.pretrain import PretrainConfig
from upnext.training.loop import TrainingConfig

CONFIGS: dict[type[Estimator], Config] = {
    upnext.SASRec: SASRecConfig(),
    upnext.ARGUS: ARGUSConfig(),
    upnext.Popular: PopularConfig(),
    upnext.RecentlyPopular: RecentlyPopularConfig(),
}

KEPT = {"exclude_history": False}


@pytest.fixture(scope="module")
def log() -> upnext.EventLog:
    return upnext.EventLog.from_frame(events(), COLUMNS, items=items(), views=VIEWS, split=SPLIT)


@pytest.fixture(scope="module")
def popular(log: upnext.EventLog) -> upnext.Popular:
    return upnext.Popular().fit(log)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_takes_every_key_of_its_configuration_with_the_same_default(kind: Any):
    keys = set(type(CONFIGS[kind]).model_fields) - {"kind"}
    assert keys <= set(inspect.signature(kind).parameters)
    assert kind().config == PretrainConfig.model_validate({"model": CONFIGS[kind]})


def test_training_is_a_table_or_a_configuration():
    whole = TrainingConfig(epochs=2, seed=5)
    assert upnext.SASRec(training={"epochs": 2, "seed": 5}).config.training == whole
    assert upnext.SASRec(training=whole).config.training == whole
    assert upnext.RecentlyPopular(window="36h").config == upnext.RecentlyPopular(window=36 * 3_600_000).config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: upnext.SASRec(width=0), "SASRec: width: Input should be greater than or equal to 1 (found 0)"),
        (lambda: upnext.SASRec(width=10, heads=4), "width 10 is no multiple of heads 4"),
        (
            lambda: upnext.SASRec(training={"epoch": 3}),
            "SASRec, training: unknown key 'epoch'; allowed here: checkpoint_every, device, epochs",
        ),
        (lambda: upnext.SASRec(training=3), "SASRec, training: "),  # type: ignore[arg-type]
        (lambda: upnext.SASRec(validation_cases=0), "SASRec: validation_cases: Input should be greater"),
        (lambda: upnext.RecentlyPopular(window="a day"), "RecentlyPopular: window: 'a day' is no duration"),
        (lambda: upnext.Popular(view=3), "Popular: view: Input should be a valid string (found 3)"),  # type: ignore[arg-type]
        (lambda: upnext.Popular(publish={"hid": "x"}), "Popular, publish: unknown key 'hid'; allowed here: actions"),
        (lambda: upnext.Popular(publish={"popular": "x"}), "Popular, publish: 'popular' names a second model"),
        (lambda: upnext.ARGUS(publish={"ranker": "sasrec"}), "ARGUS, publish: 'ranker' names a second model"),
        (lambda: upnext.ARGUS(size="mini", width=8), "width = 8 contradicts size = 'mini' (256)"),
        (lambda: upnext.ARGUS(tasks={"nip": 1}), "ARGUS: unknown key 'tasks.nip'"),
    ],
)
def test_a_wrong_setting_has_the_words_of_the_configuration(make: Callable[[], object], message: str):
    with pytest.raises(BadConfig) as caught:
        make()
    assert message in str(caught.value)


def test_a_view_that_the_log_lacks_is_named(log: upnext.EventLog):
    with pytest.raises(BadData, match=r"no view 'seen'; it has \['all', 'watched'\]"):
        upnext.Popular(view="seen").fit(log)
    with pytest.raises(BadConfig, match=r"reads 'dislike'; the log has"):
        upnext.Popular(publish={"hide": "dislike == 1"}).fit(log)  # not after the training


def test_a_model_that_is_not_fitted_says_so(log: upnext.EventLog, tmp_path: Path):
    model = upnext.Popular()
    assert repr(model) == "<Popular: not fitted>"
    uses: list[Callable[[], object]] = [
        lambda: model.recommend([1]),
        model.evaluate,
        lambda: model.save(tmp_path / "a"),
    ]
    for use in [*uses, lambda: model.artifact]:
        with pytest.raises(UserError, match=r"the model is not fitted; call fit\(log\) first"):
            use()
    with pytest.raises(BadConfig, match=r"fit\(DataFrame\): give an upnext.EventLog"):
        model.fit(events())  # type: ignore[arg-type]


def test_argus_foresees_feedback_and_ranks_by_it(log: upnext.EventLog):
    small: dict[str, Any] = {"width": 8, "layers": 1, "max_length": 10, "training": {"epochs": 1}}
    model = upnext.ARGUS(**small, publish={"ranker": "argus", "utility": {"played": 2.0}} | KEPT).fit(log)
    found = model.evaluate_feedback()
    assert {"argus", "mean", "item rates"} <= set(found["model"])
    assert {"log_loss", "normalised_entropy"} <= set(found.filter(pl.col("model") == "argus")["metric"])
    scores = model.recommend([7], k=5)["score"].to_list()
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 2 for score in scores)  # twice a share that is expected to be played
    in_context = [model.recommend([7], k=5, context={"surface": surface}) for surface in ("home", "search")]
    assert in_context[0]["score"].to_list() != in_context[1]["score"].to_list()
    with pytest.raises(BadRequest, match="context has the unknown name 'mood'"):
        model.recommend([7], context={"mood": "good"})


def test_unfamiliar_leaves_what_was_never_met(log: upnext.EventLog):
    model = upnext.Popular(publish={"exclude_history": False}).fit(log)
    met = set(events().filter(pl.col("user") == 7)["item"])
    assert set(model.recommend([7], k=100)["item_id"]) & met
    assert not set(model.recommend([7], k=100, unfamiliar=True)["item_id"]) & met


# --- recommend -------------------------------------------------------------------------------------------------------


def test_rows_come_in_the_order_asked_best_first(popular: upnext.Popular):
    users = [39, 7, 100, 7]
    found = popular.recommend(users, k=2)
    assert found.schema == {
        "user_id": pl.Int64,
        "rank": pl.Int64,
        "item_id": pl.String,
        "title": pl.String,
        "score": pl.Float64,
        "is_known": pl.Boolean,
    }
    assert found["user_id"].to_list() == [39, 39, 7, 7, 100, 100, 7, 7]
    assert found["rank"].to_list() == [1, 2] * 4
    assert found["is_known"].to_list() == [True] * 4 + [False] * 2 + [True] * 2
    assert found[2:4].equals(found[6:8])
    is_trained = pl.col("time") <= pl.col("time").max() - 2 * 86_400
    counts = events().filter(is_trained).group_by("item").len()
    for row in found.iter_rows(named=True):
        assert row["score"] == counts.filter(pl.col("item") == row["item_id"])["len"].item()
        assert row["title"] == (f"Title {row['item_id'].upper()}" if row["item_id"] != "c" else "c")


def test_what_somebody_chose_is_left_out_unless_it_is_to_stay(popular: upnext.Popular, log: upnext.EventLog):
    chosen = set(events().filter(pl.col("user") == 7)["item"])
    assert not chosen & set(popular.recommend([7], k=100)["item_id"])
    kept = upnext.Popular(publish=KEPT).fit(log).recommend([7], k=100)
    assert chosen <= set(kept["item_id"])
    assert len(kept) == 13  # the catalogue ends before k does


def test_many_users_get_what_each_would_get_alone(log: upnext.EventLog):
    model = upnext.SASRec(width=8, layers=1, max_length=10, training={"epochs": 1}, publish=KEPT).fit(log)
    users = list(range(40)) * 4
    together = model.recommend(users, k=3)
    assert together.height == 3 * len(users)
    for number in (0, 63, 64, 159):
        alone = model.recommend([users[number]], k=3)
        some = together[3 * number : 3 * number + 3]
        assert some.drop("score").equals(alone.drop("score"))
        np.testing.assert_allclose(some["score"], alone["score"], rtol=1e-5)


@pytest.mark.parametrize("users", [[3, 1], (3, 1), pl.Series([3, 1]), np.array([3, 1]), iter([3, 1])])
def test_ids_come_in_any_sequence(popular: upnext.Popular, users: Any):
    assert popular.recommend(users, k=1)["user_id"].to_list() == [3, 1]


def test_more_than_there_is_is_all_there_is(popular: upnext.Popular):
    assert popular.recommend([1], k=10**12).equals(popular.recommend([1], k=1000))


def test_nobody_asked_is_a_frame_without_rows(popular: upnext.Popular):
    nothing = popular.recommend([])
    assert nothing.height == 0
    assert nothing.schema == popular.recommend([1]).schema


def test_without_titles_there_is_no_such_column():
    log = upnext.EventLog.from_frame(events(), COLUMNS)
    assert upnext.Popular().fit(log).recommend([1]).columns == ["user_id", "rank", "item_id", "score", "is_known"]


@pytest.mark.parametrize(
    ("users", "k", "message"),
    [
        (["7"], 3, "users[0] is '7'; allowed: integers, as the log's user ids are"),
        ([1, 7.0], 3, "users[1] is 7.0"),
        ([None], 3, "users[0] is None"),
        ([True], 3, "users[0] is True"),
        ([2**70], 3, "users[0]"),
        (7, 3, "users is 7; give a list of ids: [7]"),
        (None, 3, "users is None; give a list of ids"),
        ("ann", 3, "users is 'ann'; give a list of ids: ['ann']"),
        ([7], 0, "k is 0; allowed: a whole number from 1"),
        ([7], 2.0, "k is 2.0"),
        ([7], True, "k is True"),
    ],
)
def test_a_wrong_question_is_refused(popular: upnext.Popular, users: Any, k: Any, message: str):
    with pytest.raises(BadRequest) as caught:
        popular.recommend(users, k)
    assert message in str(caught.value)


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_figures_are_tidy(popular: upnext.Popular, log: upnext.EventLog):
    figures = popular.evaluate(protocol={"k": [2, 5], "bootstrap_samples": 20})
    assert figures.columns == ["model", "history_removed", "metric", "k", "value", "low", "high", "cases", "users"]
    assert set(figures["model"]) == {"popular"}
    assert set(figures["k"]) == {2, 5}
    with_interval = figures.filter(pl.col("low").is_not_null())
    assert (with_interval["low"] <= with_interval["value"]).all()
    assert popular.evaluate(log, protocol={"k": [2, 5], "bootstrap_samples": 20}).equals(figures)


def test_two_models_of_a_kind_on_one_log_do_not_mix(log: upnext.EventLog):
    first, second = upnext.Popular(view="all").fit(log), upnext.Popular(view="watched").fit(log)
    protocol = {"view": "all", "k": [3], "bootstrap_samples": 10}
    assert not first.evaluate(protocol=protocol).equals(second.evaluate(protocol=protocol))
    assert first.recommend([1])["score"][0] > second.recommend([1])["score"][0]
    assert first.config.model.view == "all"


def test_another_log_or_a_wrong_protocol_is_refused(popular: upnext.Popular):
    other = upnext.EventLog.from_frame(events().head(390), COLUMNS)
    with pytest.raises(UserError, match="was fitted on another log"):
        popular.evaluate(other)
    with pytest.raises(BadConfig, match=r"Popular.evaluate, protocol: unknown key 'histroy'; allowed here: bootstrap"):
        popular.evaluate(protocol={"histroy": "rolling"})


# --- save and load ---------------------------------------------------------------------------------------------------


def test_a_saved_model_recommends_the_same_without_its_log(tmp_path: Path):
    log = upnext.EventLog.from_frame(events(), COLUMNS, items=items(), views=VIEWS, split=SPLIT)
    model = upnext.SASRec(view="watched", width=8, layers=1, max_length=10, training={"epochs": 1}).fit(log)
    expected = model.recommend([1, 2, 99])
    assert model.save(tmp_path / "deep" / "model") == tmp_path / "deep" / "model"
    model.save(str(tmp_path / "deep" / "model"))  # again: the first one is replaced
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]
    Artifact.open(tmp_path / "deep" / "model", verify=True)
    del model, log
    first, second = upnext.load(tmp_path / "deep" / "model"), upnext.load(str(tmp_path / "deep" / "model"))
    assert first.recommend([1, 2, 99]).equals(expected)
    assert second.recommend([1, 2, 99]).equals(expected)
    assert repr(first) == "<Recommender: sasrec, 13 items>"


def test_nothing_but_a_saved_model_is_replaced(popular: upnext.Popular, tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(BadArtifact, match="is there and holds no release; give a new folder"):
        popular.save(precious)
    with pytest.raises(BadArtifact, match="is there"):
        popular.save(precious / "thesis.txt")
    with pytest.raises(BadArtifact, match="cannot write"):
        popular.save(precious / "thesis.txt" / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["precious", "thesis.txt"]


def test_what_is_no_release_is_not_loaded(popular: upnext.Popular, tmp_path: Path):
    with pytest.raises(BadArtifact, match="is no finished artifact"):
        upnext.load(tmp_path)
    with pytest.raises(BadArtifact, match="is a model, not a release"):
        upnext.load(popular.artifact.folder)
    (tmp_path / "work" / "current").mkdir(parents=True)
    with pytest.raises(BadArtifact, match="holds no 'release' yet"):
        upnext.load(tmp_path / "work")
    popular.save(tmp_path / "damaged")
    manifest = json.loads((tmp_path / "damaged" / "manifest.json").read_text())
    (tmp_path / "damaged" / next(iter(manifest["files"]))).write_bytes(b"x")
    with pytest.raises(BadArtifact, match="was changed after it was written"):
        upnext.load(tmp_path / "damaged")
    shutil.rmtree(tmp_path / "damaged")


# --- the package -----------------------------------------------------------------------------------------------------


def test_the_public_names_are_those_of_the_package():
    assert set(dir(upnext)) == set(upnext.__all__)
    assert all(getattr(upnext, name) is not None for name in upnext.__all__)
    with pytest.raises(AttributeError, match=r"has no attribute 'Log'; it has ARGUS, Columns, EventLog"):
        _ = upnext.Log
