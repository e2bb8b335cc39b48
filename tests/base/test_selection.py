"""Choosing the best of a row: the fast way through blocks equals a full sort, ties and infinities included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.selection import BLOCK, best_of_rows


def by_sorting(row: list[float], k: int) -> tuple[list[int], list[float]]:
    order = [column for column in sorted(range(len(row)), key=lambda c: (-row[c], c)) if row[column] > -np.inf][:k]
    missing = k - len(order)
    return order + [-1] * missing, [row[column] for column in order] + [-np.inf] * missing


@settings(deadline=None)
@given(
    width=st.sampled_from([0, 1, 5, 63, 64, 128, 5 * BLOCK, 5 * BLOCK + 1, 40 * BLOCK]),
    k=st.sampled_from([0, 1, 2, 7, 30, 200]),
    values=st.sampled_from([1, 2, 5, 1000]),
    hidden=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 3),
)
def test_equals_a_full_sort(width: int, k: int, values: int, hidden: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = (generator.integers(0, values, (3, width)) - values / 2).astype(np.float32)
    scores[generator.random((3, width)) < hidden] = -np.inf
    columns, best = best_of_rows(torch.from_numpy(scores), k)
    assert (columns.shape, best.shape) == ((3, k), (3, k))
    for row in range(3):
        assert (columns[row].tolist(), best[row].tolist()) == by_sorting(scores[row].tolist(), k)


def test_extremes_and_both_zeros_are_in_order() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    row = [-0.0, 0.0, -tiny, tiny, 3e38, -3e38, float("inf"), -float("inf"), 1.0, -1.0]
    columns, _ = best_of_rows(torch.tensor([row]), 10)
    assert columns[0].tolist() == [6, 4, 8, 3, 0, 1, 2, 9, 5, -1]


@pytest.mark.parametrize("width", [7, 10 * BLOCK])
def test_scores_are_not_changed(width: int) -> None:
    scores = torch.arange(2.0 * width).reshape(2, width)
    before = scores.clone()
    best_of_rows(scores, 2)
    assert torch.equal(scores, before)
