"""Draws from lists: of what is allowed, none twice, all alike, and never changed by another list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.sampling.among import draw_among, draw_below


@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(1, 6), st.integers(1, 8))
def test_draws_are_allowed_and_none_comes_twice(seed, P, k, count):
    g = np.random.default_rng(seed)
    items = np.stack([g.permutation(20)[:k] for _ in range(P)]) if P else np.empty((0, k), np.int64)
    allowed, owner = g.random((P, k)) < 0.7, np.arange(P) - 2
    drawn = draw_among(items, allowed, count, [owner], seed)
    assert drawn.shape == (P, count)
    for row in range(P):
        may = set(items[row][allowed[row]].tolist())
        got = drawn[row][drawn[row] >= 0].tolist()
        assert len(got) == len(set(got)) == min(count, len(may))
        assert set(got) <= may
        assert drawn[row].tolist() == got + [-1] * (count - len(got))
    order = g.permutation(P)
    some = order[: P // 2]  # neither the order of the lists nor who else draws changes anything
    again = draw_among(items[some], allowed[some], count, [owner[some]], seed)
    assert again.tolist() == drawn[some].tolist()


def test_each_item_is_as_likely_as_the_other_wherever_it_stands():
    P, k, n = 20_000, 5, 2
    items = np.tile(np.array([7, 3, 9, 4, 8]), (P, 1))
    drawn = draw_among(items, items != 9, n, [np.arange(P), np.full(P, 2**60)], 3)
    counts = np.array([(drawn == item).sum() for item in (7, 3, 4, 8)])
    assert (drawn != 9).all()
    # Each of four is drawn with probability 1/2: five standard deviations.
    assert (np.abs(counts - P / 2) < 5 * np.sqrt(P / 4)).all()
    pairs = [((drawn == one).any(1) & (drawn == other).any(1)).sum() for one, other in ((7, 3), (3, 4), (4, 8))]
    assert (np.abs(np.array(pairs) - P / 6) < 5 * np.sqrt(P * 5 / 36)).all()
    assert (
        draw_among(items, items > 0, k, [np.arange(P)], 4).tolist()
        != draw_among(items, items > 0, k, [np.arange(P)], 5).tolist()
    )


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 5))
def test_numbers_below_an_end(ends, count):
    ends_ = np.array(ends, np.int64)
    drawn = draw_below(ends_, count, [np.arange(len(ends))], 1)
    assert drawn.shape == (len(ends), count)
    assert (drawn[ends_ == 0] == -1).all()
    assert (drawn < np.maximum(ends_, 0)[:, None]).all()
    assert (drawn[ends_ > 0] >= 0).all()


def test_numbers_below_an_end_are_alike():
    drawn = draw_below(np.full(5000, 4), 4, [np.arange(5000)], 0)
    counts = np.bincount(drawn.ravel(), minlength=4)
    assert counts == pytest.approx(5000, abs=5 * np.sqrt(20_000 * 3 / 16))
