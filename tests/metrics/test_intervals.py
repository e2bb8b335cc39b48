"""Intervals: resampling whole users, paired differences, seeds; by hand, by a slow loop and by simulation."""

import math

import numpy as np
import pytest

from upnext.base.errors import BadBatch, BadConfig
from upnext.metrics import intervals
from upnext.metrics.intervals import (
    Interval,
    bootstrap_over_users,
    bootstrap_ratio,
    bootstrap_together,
    over_seeds,
    paired_difference,
)


def cases(rng: np.random.Generator, num_users: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Make 1 to 5 cases per user around a mean of its own; the mean of all is 0.5."""
    users = np.repeat(np.arange(num_users), rng.integers(1, 6, size=num_users))
    values = 0.5 + spread * rng.standard_normal(num_users)[users] + rng.normal(0, 0.1, size=len(users))
    return values, users


def test_bootstrap_of_two_users_by_hand() -> None:
    values, users = np.array([0.0, 1.0, 0.0, 0.0]), np.array([7, 5, 7, 7])
    # The samples are 0 (a quarter of them), 1/4 (half) and 1 (a quarter).
    assert bootstrap_over_users(values, users) == Interval(0.25, 0.0, 1.0)
    assert bootstrap_over_users(values, users, level=0.3) == Interval(0.25, 0.25, 0.25)


def test_cases_without_targets_are_left_out() -> None:
    values, users = np.array([0.0, math.nan, 1.0, math.nan]), np.array([0, 0, 1, 2])
    assert bootstrap_over_users(values, users) == bootstrap_over_users(np.array([0.0, 1.0]), np.array([0, 1]))


@pytest.mark.parametrize("values", [np.zeros(0), np.array([math.nan, math.nan])])
def test_nothing_to_estimate_is_nan(values: np.ndarray) -> None:
    users = np.arange(len(values))
    for interval in (bootstrap_over_users(values, users), paired_difference(values, values, users)):
        assert all(math.isnan(end) for end in (interval.value, interval.low, interval.high))


def test_bootstrap_equals_a_slow_loop_over_the_same_draws() -> None:
    values, users = cases(np.random.default_rng(1), num_users=5, spread=0.3)
    drawn = np.random.default_rng(3).integers(5, size=(40, 5))
    means = []
    for sample in drawn:
        of_sample = [value for user in sample for value in values[users == user]]
        means.append(sum(of_sample) / len(of_sample))
    low, high = np.quantile(means, [0.05, 0.95])
    fast = bootstrap_over_users(values, users, num_samples=40, level=0.9, seed=3)
    np.testing.assert_allclose([fast.value, fast.low, fast.high], [values.mean(), low, high], rtol=1e-12)


def test_bootstrap_depends_on_its_seed_but_not_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, users = cases(np.random.default_rng(2), num_users=11, spread=0.3)
    whole = bootstrap_over_users(values, users, num_samples=50)
    assert bootstrap_over_users(values, users, num_samples=50) == whole
    assert bootstrap_over_users(values, users, num_samples=50, seed=1) != whole
    monkeypatch.setattr(intervals, "_BLOCK", 33)  # three samples at once
    pieces = bootstrap_over_users(values, users, num_samples=50)
    np.testing.assert_allclose([pieces.low, pieces.high], [whole.low, whole.high], rtol=1e-12)


def test_the_order_of_cases_and_the_numbers_of_users_do_not_matter() -> None:
    values, users = cases(np.random.default_rng(3), num_users=11, spread=0.3)
    shuffled = np.random.default_rng(4).permutation(len(values))
    whole = bootstrap_over_users(values, users)
    moved = bootstrap_over_users(values[shuffled], users[shuffled] * 1000 - 2**60)
    np.testing.assert_allclose([moved.value, moved.low, moved.high], [whole.value, whole.low, whole.high], rtol=1e-12)


def test_the_interval_holds_the_known_mean_in_most_experiments() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        interval = bootstrap_over_users(*cases(rng, num_users=60, spread=0.3), num_samples=400)
        held += interval.low <= 0.5 <= interval.high
    assert 180 <= held <= 199  # 190 expected, with a standard deviation of 3


def test_clustering_by_user_widens_the_interval() -> None:
    values, users = cases(np.random.default_rng(5), num_users=60, spread=0.3)
    by_user = bootstrap_over_users(values, users)
    by_case = bootstrap_over_users(values, np.arange(len(values)))
    assert by_user.value == pytest.approx(by_case.value)
    assert by_user.high - by_user.low > 1.3 * (by_case.high - by_case.low)


def test_a_paired_difference_cancels_what_users_share() -> None:
    rng = np.random.default_rng(6)
    a, users = cases(rng, num_users=60, spread=0.3)
    b = a - 0.05 + rng.normal(0, 0.01, size=len(a))
    difference = paired_difference(a, b, users)
    assert difference.value == pytest.approx(a.mean() - b.mean())
    assert 0.04 < difference.low < 0.05 < difference.high < 0.06
    alone = bootstrap_over_users(a, users)
    assert alone.high - alone.low > 0.1  # far wider than the difference
    mirrored = paired_difference(b, a, users)
    assert mirrored.low == pytest.approx(-difference.high)


def test_a_pair_with_one_nan_is_left_out() -> None:
    a, b = np.array([1.0, math.nan, 5.0]), np.array([0.5, 0.0, math.nan])
    assert paired_difference(a, b, np.array([0, 1, 2])) == Interval(0.5, 0.5, 0.5)


def test_over_seeds_by_hand() -> None:
    interval = over_seeds(np.array([1.0, 2.0, 3.0]))
    assert interval.value == 2
    assert interval.high - 2 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert 2 - interval.low == pytest.approx(interval.high - 2)
    assert over_seeds(np.array([0.3])) == Interval(0.3, 0.3, 0.3)
    assert math.isnan(over_seeds(np.zeros(0)).value)


@pytest.mark.parametrize(
    ("num_seeds", "level", "t"),  # from the printed table of Student's t
    [
        (2, 0.95, 12.706),
        (3, 0.95, 4.303),
        (4, 0.95, 3.182),
        (5, 0.95, 2.776),
        (10, 0.99, 3.250),
        (31, 0.9, 1.697),
    ],
)
def test_t_quantiles_are_those_of_the_table(num_seeds: int, level: float, t: float) -> None:
    values = np.arange(num_seeds, dtype=np.float64)
    interval = over_seeds(values, level=level)
    standard_error = values.std(ddof=1) / math.sqrt(num_seeds)
    assert (interval.high - interval.value) / standard_error == pytest.approx(t, abs=6e-4)


def test_impossible_options_and_unequal_lengths_are_refused() -> None:
    values, users = np.array([0.0, 1.0]), np.array([0, 1])
    for level in (0.0, 1.0, 95.0, math.nan):
        with pytest.raises(BadConfig, match="confidence level"):
            bootstrap_over_users(values, users, level=level)
        with pytest.raises(BadConfig, match="confidence level"):
            over_seeds(values, level=level)
    with pytest.raises(BadConfig, match="num_samples is 0"):
        bootstrap_over_users(values, users, num_samples=0)
    refused = (BadBatch, TypeError)  # jaxtyping, where it watches, speaks first
    with pytest.raises(refused):
        bootstrap_over_users(values, users[:1])
    with pytest.raises(refused):
        paired_difference(values, values[:1], users)


def test_metrics_drawn_together_have_the_intervals_they_have_alone() -> None:
    rng = np.random.default_rng(6)
    values, users = cases(rng, num_users=11, spread=0.3)
    both = np.stack([values, rng.random(len(values))])
    both[:, 3] = math.nan
    for row, found in zip(both, bootstrap_together(both, users, num_samples=50), strict=True):
        alone = bootstrap_over_users(row, users, num_samples=50)
        np.testing.assert_allclose(
            [found.value, found.low, found.high], [alone.value, alone.low, alone.high], rtol=1e-12
        )
    nothing = bootstrap_together(np.full((2, 3), math.nan), np.arange(3))
    assert all(math.isnan(found.value) for found in nothing)


def test_bootstrap_ratio_by_hand() -> None:
    found = bootstrap_ratio(np.array([1.0, 0.0]), np.array([3.0, 1.0]), np.array([5, 6]), num_samples=400)
    assert (found.value, found.low, found.high) == (0.75, 0.0, 1.0)
    ones = np.array([0.0, 1.0, 1.0, 0.0])
    users = np.array([1, 1, 2, 3])
    assert bootstrap_ratio(ones, np.ones(4), users) == bootstrap_over_users(ones, users)
    assert math.isnan(bootstrap_ratio(np.empty(0), np.empty(0), np.empty(0, np.int64)).value)
