"""Diversity: rows of items that are worth being shown and unlike each other, by maximal marginal relevance.

    next = argmax over the rest of (1 - share) r(i) - share max over those chosen of cos(i, j)

r is the score, scaled so that a row's candidates lie in [0, 1]; cos is that of the retriever's item vectors. The first
is the one with the best score.

Shape letters: B queries, R rows of a page, n rows of pages, C candidates of a row, D vector width.

Source:   Carbonell and Goldstein 1998, "The use of MMR, diversity-based reranking", with share = 1 - lambda.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from upnext.base.ids import FIRST, PADDING
from upnext.index.exact import ExactIndex
from upnext.serving.assortment import Assortment
from upnext.serving.rank import Best

__all__ = ["diversified", "marginal_order"]

_NUMBERS = 1 << 22
"""So many numbers of item vectors are in memory together."""


def diversified(
    assortment: Assortment, best: Sequence[Best], counts: NDArray[np.int64], share: float, steps: int
) -> list[Best]:
    """Order the candidates of each row by their marginal relevance.

    Args:     best: for each of R rows the candidates (B, C) of all queries, best first. counts: (B,) how many of them
              each query considers: the first ones. share: what being unlike counts, in (0, 1]. steps: how many places
              are filled so; the rest follows in the order of its scores.
    Returns:  the same items with their scores, which no longer fall; -1 and -inf behind them.
    """
    vectors = cast("ExactIndex", assortment.index).vectors
    B, C = best[0][0].shape
    items, scores = (np.concatenate([one[part] for one in best]) for part in (0, 1))
    is_there = (items >= FIRST) & (np.arange(C) < np.tile(counts, len(best))[:, None])
    items, scores = np.where(is_there, items, -1), np.where(is_there, scores, -np.inf).astype(np.float32)
    order = np.empty(items.shape, np.int64)
    at_once = max(1, _NUMBERS // max(1, C * vectors.shape[1]))
    for begin in range(0, len(items), at_once):
        some = slice(begin, begin + at_once)
        of_items = vectors[np.maximum(items[some], PADDING)]
        lengths = np.linalg.norm(of_items, axis=2, keepdims=True)
        order[some] = marginal_order(scores[some], of_items / np.maximum(lengths, 1e-12), share, steps)
    items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
    return [(items[begin : begin + B], scores[begin : begin + B]) for begin in range(0, len(items), B)]


def marginal_order(
    scores: NDArray[np.float32], directions: NDArray[np.float32], share: float, steps: int
) -> NDArray[np.int64]:
    """The order of candidates by maximal marginal relevance: (n, C) places, ties by the lower one.

    Args:     scores: (n, C), -inf where there is no candidate; directions: (n, C, D) of length 1.
    """
    n, C = scores.shape
    is_there, rows = scores > -np.inf, np.arange(n)
    low = np.where(is_there, scores, np.inf).min(1, initial=np.inf, keepdims=True)
    above = np.subtract(scores, low, out=np.zeros((n, C), np.float32), where=is_there)
    relevance = above / np.maximum(above.max(1, initial=0, keepdims=True), 1e-12)
    gain = np.where(is_there, (1 - share) * relevance, -np.inf)
    nearest = np.zeros((n, C), np.float32)
    rank = np.tile(np.arange(C), (n, 1)) + C
    for step in range(min(C, steps)):
        place = (gain - share * nearest if step else np.where(is_there, scores, -np.inf)).argmax(1)
        is_left = gain[rows, place] > -np.inf
        rank[rows[is_left], place[is_left]] = step
        gain[rows, place] = -np.inf
        likeness = np.matmul(directions, directions[rows, place][:, :, None])[:, :, 0]
        nearest = np.maximum(nearest, likeness) if step else likeness
    return np.argsort(rank, axis=1, kind="stable")
