"""Coverage, popularity and Gini of lists: arithmetic by hand, and bounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.errors import BadBatch
from upnext.metrics.beyond_accuracy import (
    coverage,
    gini,
    popularity_bias,
    popularity_rank,
    shares_by_popularity,
)

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


def test_popularity_rank_by_hand() -> None:
    top = lists([0, 1], [2, -1])
    assert popularity_rank(top, np.array([10, 4, 4])) == pytest.approx((1 + 2.5 + 2.5) / 3)
    assert popularity_rank(lists([2]), np.array([10, 4, 1])) == 3
    assert math.isnan(popularity_rank(NOTHING, np.array([10, 4, 1])))


def test_shares_by_popularity_by_hand() -> None:
    top = lists([0, 1], [0, -1])
    shares = shares_by_popularity(top, np.array([9, 5, 5, 0]), 2)
    np.testing.assert_allclose(shares, [2.5 / 3, 0.5 / 3])
    np.testing.assert_allclose(shares_by_popularity(lists([3]), np.array([9, 5, 5, 0]), 4), [0, 0, 0, 1])
    np.testing.assert_allclose(shares_by_popularity(lists([0], [1], [2]), np.array([3, 2, 1]), 2), [0.5, 0.5])
    assert np.isnan(shares_by_popularity(NOTHING, np.array([1, 2]), 3)).tolist() == [True] * 3
    with pytest.raises(BadBatch, match="column 3"):
        shares_by_popularity(lists([3]), np.array([1, 2, 3]))


@settings(deadline=None)
@given(
    lists_of_items,
    st.lists(st.integers(0, 4), min_size=V, max_size=V),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_shares_and_ranks_of_popularity_do_not_depend_on_the_numbers_of_items(rows, popularity, groups, random) -> None:
    """They add up to 1, and items of equal popularity take each other's place without a trace."""
    top, counts = lists(*rows), np.array(popularity)
    order = np.array(random.sample(range(V), V))
    labels, moved = np.append(order, -1), np.empty(V, np.int64)
    moved[order] = counts
    shares = shares_by_popularity(top, counts, groups)
    np.testing.assert_allclose(shares_by_popularity(labels[top], moved, groups), shares)
    np.testing.assert_allclose(popularity_rank(labels[top], moved), popularity_rank(top, counts))
    assert math.isnan(shares.sum()) or shares.sum() == pytest.approx(1)
