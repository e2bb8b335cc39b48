import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.metrics.calibration import calibration_error, equal_mass_bins, reliability
from upnext.metrics.intervals import bootstrap_groups, bootstrap_over_users

predicted = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30)


def slow_error(p: list[float], y: list[float], num_bins: int) -> float:
    """Sort, put each level of the prediction where its middle lies, and add up the differences of the means."""
    bins: dict[int, list[int]] = {}
    for i, value in enumerate(p):
        middle = sum(other < value for other in p) + sum(other == value for other in p) / 2
        bins.setdefault(min(num_bins - 1, int(middle / len(p) * num_bins)), []).append(i)
    return sum(
        len(rows) / len(p) * abs(sum(p[i] for i in rows) / len(rows) - sum(y[i] for i in rows) / len(rows))
        for rows in bins.values()
    )


@given(predicted, st.integers(1, 5))
def test_equals_a_slow_loop(rows, num_bins):
    p, y = np.array([row[0] for row in rows]) / 8, np.array([row[1] for row in rows], float)
    assert calibration_error(p, y, num_bins) == pytest.approx(slow_error(p.tolist(), y.tolist(), num_bins))
    users = np.array([row[2] for row in rows])
    curve = reliability(p, y, users, num_bins=num_bins, num_samples=20)
    assert curve.share.sum() == pytest.approx(1)
    assert (curve.share * np.abs(curve.predicted - curve.observed)).sum() == pytest.approx(
        calibration_error(p, y, num_bins)
    )
    assert (np.diff(curve.predicted) > 0).all()
    assert not (curve.low > curve.high).any()


def test_by_hand():
    p, y = np.array([0.1, 0.1, 0.4, 0.4]), np.array([0.0, 0, 1, 0])
    assert equal_mass_bins(p, 2).tolist() == [0, 0, 1, 1]
    assert equal_mass_bins(np.array([0.1, 0.1, 0.1, 0.4]), 2).tolist() == [0, 0, 0, 1]
    assert equal_mass_bins(np.full(5, 0.3)).tolist() == [0] * 5
    assert calibration_error(p, y, 2) == pytest.approx(0.1)
    assert calibration_error(np.array([0.25] * 4), np.array([1.0, 0, 0, 0])) == 0
    assert math.isnan(calibration_error(p[:0], y[:0]))


def test_what_is_right_on_average_is_calibrated_and_what_is_too_sure_is_not():
    g = np.random.default_rng(0)
    truth = g.uniform(0.05, 0.95, 40_000)
    came = (g.random(len(truth)) < truth).astype(float)
    noise = math.sqrt(2 / math.pi * 0.2 * 15 / len(truth))
    assert calibration_error(truth, came) < 2 * noise
    too_sure = 1 / (1 + (1 / truth - 1) ** 2)
    # Its mean is right, so that only the bins show it.
    assert abs(too_sure.mean() - came.mean()) < 0.01
    assert calibration_error(too_sure, came) == pytest.approx(np.abs(too_sure - truth).mean(), abs=0.01)


def test_nothing_at_all():
    empty = reliability(np.empty(0), np.empty(0), np.empty(0, np.int64))
    assert len(empty.predicted) == len(empty.low) == 0


def test_groups_are_drawn_together_and_one_group_is_the_plain_bootstrap():
    g = np.random.default_rng(1)
    values, users = g.normal(size=60), g.integers(0, 9, 60)
    (alone,) = bootstrap_groups(values, np.zeros(60, np.int64), users, num_samples=50)
    assert alone == bootstrap_over_users(values, users, num_samples=50)
    halves = bootstrap_groups(values, users % 2, users, num_samples=400)
    for number, half in enumerate(halves):
        assert half.value == pytest.approx(values[users % 2 == number].mean())
        assert half.low < half.value < half.high
