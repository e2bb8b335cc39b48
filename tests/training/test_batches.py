"""Batches of rows: each row once, the budget kept, similar lengths together, the same for the same seed."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.training import batches
from upnext.training.batches import length_batches, shuffled_batches

LENGTHS = st.lists(st.integers(0, 12), max_size=30).map(lambda values: np.array(values, np.int64))
property_test = settings(max_examples=80, deadline=None)


def tokens(lengths: np.ndarray) -> int:
    """What a batch costs, padding included; an empty row costs as much as one event, its start token."""
    return len(lengths) * max(1, int(lengths.max()))


def check(lengths: np.ndarray, cut: list[np.ndarray], budget: int) -> None:
    assert sorted(row for rows in cut for row in rows.tolist()) == list(range(len(lengths)))
    for rows in cut:
        assert len(rows) == 1 or tokens(lengths[rows]) <= budget


@property_test
@given(LENGTHS, st.integers(1, 40))
def test_each_row_once_within_the_budget(lengths: np.ndarray, budget: int) -> None:
    cut = list(length_batches(lengths, budget))
    check(lengths, cut, budget)
    flat = [int(lengths[row]) for rows in cut for row in rows]
    assert flat == sorted(lengths.tolist())  # shortest first
    for rows, following in pairwise(cut):  # full: the next row would not have fitted
        assert tokens(lengths[np.append(rows, following[0])]) > budget


@property_test
@given(LENGTHS, st.integers(1, 40), st.integers(0, 9), st.integers(1, 3))
def test_a_shuffled_epoch_has_each_row_once_within_the_budget(
    lengths: np.ndarray, budget: int, seed: int, pool: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_POOL", pool)  # so that few rows make several pools
        cut = shuffled_batches(lengths, budget, np.random.default_rng(seed))
        check(lengths, cut, budget)
        again = shuffled_batches(lengths, budget, np.random.default_rng(seed))
    assert [rows.tolist() for rows in again] == [rows.tolist() for rows in cut]


def test_by_hand() -> None:
    cut = length_batches(np.array([4, 1, 30, 2, 4, 0, 2]), 9)
    # Sorted: 0 1 2 2 | 4 4 | 30. Four rows of 2 cost 8; five of 4 would cost 20.
    assert [rows.tolist() for rows in cut] == [[5, 1, 3, 6], [0, 4], [2]]


def test_a_row_longer_than_the_budget_is_alone() -> None:
    lengths = np.array([50, 3, 60, 3])
    for cut in (list(length_batches(lengths, 10)), shuffled_batches(lengths, 10, np.random.default_rng(0))):
        assert sorted(sorted(rows.tolist()) for rows in cut) == [[0], [1, 3], [2]]


def test_no_rows_give_no_batches() -> None:
    assert list(length_batches(np.array([], np.int64), 9)) == []
    assert shuffled_batches(np.array([], np.int64), 9, np.random.default_rng(0)) == []


def test_seeds_and_epochs_mix_the_rows_anew() -> None:
    lengths = np.random.default_rng(0).integers(1, 20, 300)  # one pool
    generator = np.random.default_rng(1)
    epochs = [shuffled_batches(lengths, 60, some) for some in (generator, generator, np.random.default_rng(2))]
    as_sets = [{frozenset(rows.tolist()) for rows in epoch} for epoch in epochs]
    assert as_sets[0] != as_sets[1] != as_sets[2] != as_sets[0]  # not only their order: who meets whom
    first = [int(lengths[rows].max()) for rows in epochs[0]]
    assert first != sorted(first)  # long and short batches take turns


def test_similar_lengths_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    cut = shuffled_batches(lengths, 1000, np.random.default_rng(0))
    padded = sum(tokens(lengths[rows]) for rows in cut)
    in_order = sum(tokens(lengths[start : start + 20]) for start in range(0, 2000, 20))
    assert padded < 1.1 * lengths.sum()  # nearly nothing is padding
    assert in_order > 1.8 * lengths.sum()  # unlike batches of rows as they come
