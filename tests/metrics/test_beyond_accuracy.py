"""Coverage, popularity and Gini of lists: arithmetic by hand, and bounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.errors import BadBatch
from upnext.metrics.beyond_accuracy import coverage, gini, popularity_bias

V = 11
NOTHING = np.full((2, 3), -1, dtype=np.int64)
lists_of_items = st.lists(st.lists(st.integers(-1, V - 1), min_size=3, max_size=3), min_size=1, max_size=5)


def lists(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def test_coverage_by_hand() -> None:
    assert coverage(lists([0, 1], [1, -1]), 4) == 2 / 4
    assert coverage(lists([0, 1], [2, 3]), 4) == 1
    assert coverage(NOTHING, 4) == 0
    assert math.isnan(coverage(NOTHING, 0))


def test_popularity_bias_by_hand() -> None:
    top = lists([0, 1], [2, -1], [-1, -1])  # means 7 and 1, and a list of nothing
    assert popularity_bias(top, np.array([10, 4, 1])) == 4
    assert popularity_bias(top, np.array([10, 4, 1]) / 20) == pytest.approx(4 / 20)
    assert math.isnan(popularity_bias(NOTHING, np.array([10, 4, 1])))


def test_gini_by_hand() -> None:
    assert gini(lists([0, 1], [1, 1]), 4) == pytest.approx(5 / 6)  # shares 0, 0, 1/4, 3/4
    assert gini(lists([0, 1], [2, 3]), 4) == 0  # equally often
    assert gini(lists([3, -1], [3, -1]), 4) == 1  # one item has every place
    assert math.isnan(gini(NOTHING, 4))
    assert math.isnan(gini(lists([0]), 1))


@settings(deadline=None)
@given(lists_of_items)
def test_gini_equals_the_mean_difference_of_all_pairs(rows: list[list[int]]) -> None:
    """G = sum over pairs |x_i - x_j| / (2 V (V - 1) mean), another formula of the same index."""
    top = lists(*rows)
    counts = [int((top == item).sum()) for item in range(V)]
    if sum(counts) == 0:
        return
    differences = sum(abs(x - y) for x in counts for y in counts)
    assert gini(top, V) == pytest.approx(differences / (2 * (V - 1) * sum(counts)))


@settings(deadline=None)
@given(lists_of_items, st.randoms(use_true_random=False))
def test_relabelling_items_changes_neither_coverage_nor_gini(rows: list[list[int]], random) -> None:
    top = lists(*rows)
    labels = np.array([*random.sample(range(V), V), -1])  # -1 reads the last and stays -1
    assert coverage(labels[top], V) == coverage(top, V)
    np.testing.assert_equal(gini(labels[top], V), gini(top, V))


def test_lists_that_do_not_fit_the_catalogue_are_refused() -> None:
    with pytest.raises(BadBatch, match="2 distinct items; catalogue_size is 1"):
        coverage(lists([0, 1]), 1)
    with pytest.raises(BadBatch, match="2 distinct items; catalogue_size is 1"):
        gini(lists([0, 1]), 1)
    with pytest.raises(BadBatch, match="column 3"):
        popularity_bias(lists([0, 3]), np.array([10, 4, 1]))
