"""The boosted ranker learns, keeps to its features, and comes back from disk as it was."""

from typing import Any

import numpy as np
import pytest
import torch

from upnext.base.batches import Candidates, Column, FlatColumn, Request, State
from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact, BadBatch, BadConfig
from upnext.base.protocols import Link, Ranker, expectation
from upnext.base.schema import FeedbackKind
from upnext.features.aggregates import Aggregate
from upnext.models.boosted import Boosted, Examples
from upnext.models.boosted_config import UTILITY, BoostedConfig

KINDS: dict[str, FeedbackKind] = {"like": "binary", "played": "fraction", "seconds": "amount"}
TRAINING = {"trees": 60, "learning_rate": 0.2, "least_in_leaf": 10, "patience": 10}
BIG = 2**60  # categories are hashes: neighbours that a float could not tell apart


def config(**changes: Any) -> BoostedConfig:
    return parse_config(BoostedConfig, {"kind": "boosted", "training": TRAINING} | changes, "test")


def rate_of(maker: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The planted truth: a maker is liked, or not, and more in the evening."""
    rate: np.ndarray = 0.1 + 0.6 * (maker % 2) * (x > 0.5)
    return rate


def examples(seed: int, count: int = 3000, **changes: Any) -> Examples:
    g = np.random.default_rng(seed)
    maker, x = g.integers(0, 6, count), g.random(count).astype(np.float32)
    rate = rate_of(maker, x)
    like = (g.random(count) < rate).astype(np.float32)
    feedback = {
        "like": FlatColumn(like, np.ones(count, bool)),
        "played": FlatColumn(rate.astype(np.float32), g.random(count) < 0.8),
        "seconds": FlatColumn((1000 * rate * g.exponential(1, count)).astype(np.float32), np.ones(count, bool)),
    }
    features = {"maker": FlatColumn(maker + BIG, maker < 5), "x": FlatColumn(x, np.ones(count, bool))}
    values: dict[str, Any] = {
        "features": features,
        "feedback": feedback,
        "group": np.arange(count) // 5,
        "utility": like.astype(np.float64),
    }
    return Examples(**(values | changes))


def ask(model: Boosted, maker: np.ndarray, x: np.ndarray) -> dict[str, torch.Tensor]:
    B, C = maker.shape
    features = {
        "maker": Column(torch.from_numpy(maker + BIG), torch.ones(B, C, dtype=torch.bool)),
        "x": Column(torch.from_numpy(x), torch.ones(B, C, dtype=torch.bool)),
        "other": Column(torch.zeros(B, C), torch.zeros(B, C, dtype=torch.bool)),
    }
    nothing = torch.zeros(B, C, dtype=torch.int64)
    request = Request(torch.zeros(B, dtype=torch.int64), torch.zeros(B, dtype=torch.int64))
    candidates = Candidates(nothing, nothing, torch.ones(B, C, dtype=torch.bool), features)
    return model.predict(State({"nothing": torch.zeros(B, 0)}), request, candidates)


MODEL = Boosted.fit(config(utility={"like": 1}), KINDS, examples(0), examples(1))
MAKERS, XS = np.array([[0, 1, 2], [3, 4, 99]]), np.array([[0.9, 0.9, 0.1], [0.1, 0.8, 0.7]], np.float32)


def test_it_is_a_ranker_with_a_link_per_output():
    assert isinstance(MODEL, Ranker)
    assert dict(MODEL.components) == {
        "like": Link.SIGMOID,
        "played": Link.SIGMOID,
        "seconds": Link.EXP,
        UTILITY: Link.ORDER_ONLY,
    }


def test_it_learns_what_was_planted():
    g = np.random.default_rng(5)
    maker, x = g.integers(0, 5, (1, 1000)), g.random((1, 1000)).astype(np.float32)
    truth = rate_of(maker, x)
    answers = {name: expectation(raw, MODEL.components[name]).numpy() for name, raw in ask(MODEL, maker, x).items()}
    for name, scale in (("like", 1.0), ("played", 1.0), ("seconds", 1000.0)):
        error = np.abs(answers[name] / scale - truth).mean()
        assert error < 0.3 * np.abs(truth.mean() - truth).mean(), name
    is_good = truth > 0.5
    assert (answers[UTILITY][is_good][:, None] > answers[UTILITY][~is_good]).mean() > 0.99


def test_candidates_do_not_see_each_other():
    whole = ask(MODEL, MAKERS, XS)
    alone = ask(MODEL, MAKERS[1:, 2:], XS[1:, 2:])
    swapped = ask(MODEL, MAKERS[:, ::-1].copy(), XS[:, ::-1].copy())
    for name, raw in whole.items():
        assert raw.shape == (2, 3)
        assert raw.dtype == torch.float32
        assert alone[name].item() == raw[1, 2].item()
        torch.testing.assert_close(swapped[name].flip(1), raw)
    assert ask(MODEL, MAKERS[:0], XS[:0])["like"].shape == (0, 3)


def test_a_seed_decides_everything(tmp_path):
    again = Boosted.fit(config(utility={"like": 1}), KINDS, examples(0), examples(1))
    other = Boosted.fit(config(training=TRAINING | {"seed": 1}), KINDS, examples(0), examples(1))
    assert torch.equal(ask(again, MAKERS, XS)["like"], ask(MODEL, MAKERS, XS)["like"])
    assert not torch.equal(ask(other, MAKERS, XS)["like"], ask(MODEL, MAKERS, XS)["like"])


def test_it_comes_back_from_disk(tmp_path):
    MODEL.save(tmp_path)
    loaded = Boosted.load(tmp_path)
    assert loaded.config == MODEL.config
    for name, raw in ask(MODEL, MAKERS, XS).items():
        assert torch.equal(ask(loaded, MAKERS, XS)[name], raw)
    (tmp_path / "trees-001.txt").write_text("no trees")
    with pytest.raises(BadArtifact, match="run rank again"):
        Boosted.load(tmp_path)


def test_importance_says_what_the_trees_read():
    shares = MODEL.importance()["played"]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0.1  # the truth needs both
    blind = Boosted.fit(config(ignore=["maker"]), KINDS, examples(0), examples(1))
    assert list(blind.importance()["like"]) == ["x"]


def test_early_stopping_keeps_the_best():
    noise = examples(
        0, feedback={"like": FlatColumn(np.random.default_rng(9).integers(0, 2, 3000), np.ones(3000, bool))}
    )
    held = examples(
        1, feedback={"like": FlatColumn(np.random.default_rng(8).integers(0, 2, 3000), np.ones(3000, bool))}
    )
    told: list[str] = []
    Boosted.fit(config(), {"like": "binary"}, noise, held, told.append)
    trees = int(told[0].split()[1])
    assert trees < 10


def test_many_utilities_become_levels():
    utility = np.random.default_rng(3).random(3000)
    model = Boosted.fit(
        config(feedback=[], utility={"seconds": 1}), KINDS, examples(0, utility=utility), examples(1, utility=utility)
    )
    assert list(model.components) == [UTILITY]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aggregates": [{"by": ["user"]}, {"by": ["user"]}]}, "'user.count' is declared twice"),
        ({"feedback": []}, "leaves nothing to predict"),
        ({"window": "1d"}, "'window' has no effect without a utility"),
        ({"training": {"leaves": 1}}, "leaves"),
    ],
)
def test_settings_that_cannot_be(changes, words):
    with pytest.raises(BadConfig) as error:
        config(**changes)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "kinds", "words"),
    [
        ({"feedback": ["share"]}, KINDS, "feedback names 'share'; the log has the feedback ['like', 'played'"),
        ({"utility": {"share": 1}}, KINDS, "utility names 'share'"),
        ({"utility": {"utility": 1}}, {"utility": "binary"}, "rename it in the source"),
        ({}, {}, "the log has no feedback"),
        ({"ignore": ["age"]}, KINDS, "ignore names 'age'; the candidates have the features ['maker', 'x']"),
        ({"ignore": ["maker", "x"]}, KINDS, "there is nothing to read"),
    ],
)
def test_what_cannot_be_learnt_is_refused(changes, kinds, words):
    with pytest.raises(BadConfig) as error:
        Boosted.fit(config(**changes), kinds, examples(0), examples(1))
    assert words in str(error.value)


def test_feedback_that_one_part_lacks_is_refused():
    never = FlatColumn(np.zeros(3000, np.float32), np.zeros(3000, bool))
    held = examples(1)
    for train, validation, where in (
        (examples(0, feedback={**held.feedback, "like": never}), held, "training"),
        (held, examples(0, feedback={**held.feedback, "like": never}), "validation"),
    ):
        with pytest.raises(BadConfig, match=f"'like' was nowhere observed in the {where} part"):
            Boosted.fit(config(), KINDS, train, validation)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"feedback": ["seconds"]}, "'seconds' is 0 in all of the training part"),
        ({"feedback": ["like"], "utility": {"like": 1}}, "the utility is 3 in all of the training part"),
    ],
)
def test_what_never_differs_cannot_be_learnt(settings, words):
    seconds = FlatColumn(np.zeros(3000, np.float32), np.ones(3000, bool))
    train = examples(0, feedback={**examples(0).feedback, "seconds": seconds}, utility=np.full(3000, 3.0))
    with pytest.raises(BadConfig, match=words):
        Boosted.fit(config(**settings), KINDS, train, examples(1))


def test_candidates_without_a_feature_are_refused():
    table = {name: parse_config(Aggregate, {"by": [name]}, "test") for name in ("user", "item")}
    assert {aggregate.name for aggregate in table.values()} == {"user.count", "item.count"}
    one = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(BadBatch, match="reads the feature 'maker'"):
        MODEL.predict(State({"nothing": one}), Request(one[0], one[0]), Candidates(one, one, one == 0))
