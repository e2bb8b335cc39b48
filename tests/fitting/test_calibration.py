"""Two numbers after training: as two bisections find them, never worse, and the same order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fitting.planted import planted
from tests.fitting.test_distillation import SHAPES, config
from tests.reference import calibration as reference
from upnext.base.batches import NO_ITEMS
from upnext.evaluation.distilled import set_figures
from upnext.fitting.calibration import scale_and_shift
from upnext.fitting.distillation import OverFeatures, fit_student, scores_of
from upnext.metrics.classification import log_loss
from upnext.models.build import load_any, save_any
from upnext.training.loop import Start

examples = st.lists(st.tuples(st.floats(-5, 5), st.booleans()), max_size=30)


def loss(scores, is_positive):
    return float(np.logaddexp(0, np.where(is_positive, -scores, scores)).mean())


def split(drawn):
    return np.array([s for s, _ in drawn], np.float64), np.array([y for _, y in drawn], bool)


@pytest.mark.parametrize(("level", "spread"), [(0.0, 1.0), (-4.0, 0.2), (300.0, 20.0)])
def test_equals_two_bisections(level, spread):
    generator = np.random.default_rng(3)
    truth = generator.normal(-0.5, 1.5, 60)
    is_positive = generator.random(60) < 1 / (1 + np.exp(-truth))
    scores = truth * spread + level
    expected = reference.scale_and_shift(scores.tolist(), is_positive.tolist())
    assert scale_and_shift(scores, is_positive) == pytest.approx(expected, rel=1e-6)


@given(examples)
def test_it_is_never_worse_and_keeps_the_order(drawn):
    scores, is_positive = split(drawn)
    a, b = scale_and_shift(scores, is_positive)
    assert a > 0
    assert np.isfinite([a, b]).all()
    if drawn:
        assert loss(a * scores + b, is_positive) <= loss(scores, is_positive) + 1e-12


def test_by_hand():
    # A score of each kind, a third and two thirds of them positive: log-odds of -log 2 and log 2 at 0 and 1.
    scores, is_positive = np.array([0.0, 0, 0, 1, 1, 1]), np.array([1, 0, 0, 1, 1, 0], bool)
    assert scale_and_shift(scores, is_positive) == pytest.approx((2 * np.log(2), -np.log(2)))


@pytest.mark.parametrize(
    ("first", "labels"), [(-1.0, [0, 0, 0]), (-1.0, [1, 1, 1]), (-1.0, [1, 0, 0]), (2.0, [1, 0, 0])]
)
def test_what_cannot_be_fitted_stays(first, labels):
    assert scale_and_shift(np.array([first, 2.0, 2.0]), np.array(labels, bool)) == (1.0, 0.0)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda one: one["kind"])
def test_a_student_of_the_order_has_the_right_level_afterwards(shape, tmp_path):
    """Trained on the order alone it has no level; calibrated its order and NDCG are the same, also after saving."""
    sets = planted(num_sets=120)
    before, after = (
        fit_student(config(shape, {"kind": "label_list"}, calibrate=calibrate), sets, None, tmp_path, Start())
        for calibrate in (False, True)
    )
    plain, right = scores_of(before, sets), scores_of(after, sets)
    np.testing.assert_array_equal(np.argsort(plain, kind="stable"), np.argsort(right, kind="stable"))
    held = np.flatnonzero(sets.part == 1)
    place, asked = sets.candidates_of(held), sets.take(held)
    found = [set_figures(asked, scores[place], are_logits=True) for scores in (plain, right)]
    assert found[0]["ndcg"] == found[1]["ndcg"]
    assert found[1]["log_loss"] < found[0]["log_loss"]
    probability = 1 / (1 + np.exp(-right[place]))
    assert probability.mean() == pytest.approx(asked.is_positive.mean(), abs=1e-5)  # what a shift that fits has right
    a, b = scale_and_shift(plain[place], asked.is_positive)
    assert found[1]["log_loss"] == pytest.approx(log_loss(1 / (1 + np.exp(-a * plain[place] - b)), asked.label).mean())
    save_any(after, tmp_path / "saved")
    loaded = load_any(tmp_path / "saved", NO_ITEMS)
    assert isinstance(loaded, OverFeatures)
    np.testing.assert_array_equal(scores_of(loaded, sets), right)


def test_grades_are_left_alone(tmp_path):
    graded = {"kind": "label", "form": "squared"}
    assert not config(SHAPES[0], graded).is_calibrated
    with pytest.raises(ValueError, match="'calibrate' has no effect on grades"):
        config(SHAPES[0], graded, calibrate=True)
