"""Ranking metrics over the whole catalogue: the rank of each target, and what one case makes of its ranks.

C cases (one list each), V catalogue size, T targets (a case may have several, or none), k length of a list.

The rank is the average over orders of tied items, so that a constant score gains nothing. The metrics read
ranks alone: score once, then ask for every metric at every k.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from upnext.base.errors import BadBatch, BadConfig
from upnext.base.selection import best_of_rows

__all__ = ["group_ndcg", "hit_rate", "ndcg", "rank_of_targets", "recall", "reciprocal_rank", "top_k"]

_BLOCK = 1 << 18
"""Scores compared at once: a megabyte, which stays in the processor's cache."""


def rank_of_targets(
    scores: Float[np.ndarray, "C V"],
    case: Int[np.ndarray, " T"],
    target: Int[np.ndarray, " T"],
    excluded: Bool[np.ndarray, "C V"] | None = None,
) -> Float[np.ndarray, " T"]:
    """Rank each target among all items of its case: 1 + items scored higher + half of the other items tied.

    Scores 0.9, 0.5, 0.5, 0.1 with target column 1: one item is higher and one is tied, so the rank is 2.5.

    Args:     scores: (C, V) float32, higher is better; -inf or NaN where the model cannot score the item:
                  such an item is above no target, and such a target has rank inf, a miss at every k.
              case: (T,) int64 row of each target.
              target: (T,) int64 column of each target. The other targets of its case are ordinary items.
              excluded: (C, V) bool, items left out of the ranking of that case: history, padding, unknown.
                  A target is never left out of its own ranking, even if flagged; to count a target that
                  would not be served as a miss, give it the score -inf.
    Returns:  (T,) float64, from 1 to V in halves, or inf. No targets give an empty array.
    Raises:   BadBatch: shapes that do not fit; a case or a target outside the scores.
    """
    _check_excluded(scores, excluded)
    _check_cases(target, case, len(scores))
    V = scores.shape[1]
    if target.size and not (target.min() >= 0 and target.max() < V):
        raise BadBatch(f"targets run from {target.min()} to {target.max()}; scores have columns 0 to {V - 1}")
    ranks = np.empty(len(target), dtype=np.float64)
    step = max(1, _BLOCK // max(1, V))
    for start in range(0, len(target), step):
        block = slice(start, start + step)
        rows, columns = case[block], target[block, None]
        others = scores[rows]  # a copy, so it may be written to
        own = np.take_along_axis(others, columns, axis=1)
        if excluded is not None:
            np.copyto(others, -np.inf, where=excluded[rows])
            np.put_along_axis(others, columns, own, axis=1)
        best = 1 + (others > own).sum(axis=1, dtype=np.int32)  # int32 sums twice as fast as the default
        worst = (others >= own).sum(axis=1, dtype=np.int32)  # the target ties with itself
        can_score = own[:, 0] > -np.inf  # False for NaN
        ranks[block] = np.where(can_score, (best + worst) / 2, np.inf)
    return ranks


def top_k(
    scores: Float[np.ndarray, "C V"], k: int, excluded: Bool[np.ndarray, "C V"] | None = None
) -> Int[np.ndarray, "C k"]:
    """List the k items with the highest scores of each case.

    Scores 0.5, 0.9, 0.5, -inf with k = 4 give columns 1, 0, 2, -1.

    Args:     scores: (C, V) float32; an item scored -inf or NaN is never listed.
              excluded: (C, V) bool, items that are not listed either.
    Returns:  (C, k) int64 columns by descending score, ties by lower column; -1 where items run out.
    Raises:   BadConfig: k below 1.  BadBatch: shapes that do not fit.
    """
    _check_cutoff(k)
    _check_excluded(scores, excluded)
    hidden = np.isnan(scores) if excluded is None else np.isnan(scores) | excluded
    columns, _ = best_of_rows(torch.from_numpy(np.where(hidden, np.float32(-np.inf), scores).astype(np.float32)), k)
    top: NDArray[np.int64] = columns.numpy()
    return top


def hit_rate(
    ranks: Float[np.ndarray, " T"], case: Int[np.ndarray, " T"], num_cases: int, k: int
) -> Float[np.ndarray, " num_cases"]:
    """Hit rate at k: 1 if any target of the case has rank <= k, else 0.

    At k = 10 a case with ranks 4 and 12 has 1, a case with rank 12 has 0.

    Args:     ranks: (T,) float64 from `rank_of_targets`.  case: (T,) int64, below num_cases.
    Returns:  (num_cases,) float64; NaN for a case without targets.
    Raises:   BadConfig: k below 1.  BadBatch: shapes that do not fit; a case outside 0 … num_cases - 1.
    """
    _check_cutoff(k)
    num_targets = _num_targets(ranks, case, num_cases)
    num_hits = np.bincount(case[ranks <= k], minlength=num_cases)
    return np.where(num_targets > 0, (num_hits > 0).astype(np.float64), np.nan)


def recall(
    ranks: Float[np.ndarray, " T"], case: Int[np.ndarray, " T"], num_cases: int, k: int
) -> Float[np.ndarray, " num_cases"]:
    """Recall at k: the share of the case's targets that have rank <= k.

    At k = 10 a case with ranks 1, 4 and 12 has 2/3.

    Args:     ranks: (T,) float64 from `rank_of_targets`.  case: (T,) int64, below num_cases.
    Returns:  (num_cases,) float64 in [0, 1]; NaN for a case without targets. The number of targets is not
              capped at k: four targets without ties have at most 1/2 at k = 2.
    Raises:   BadConfig: k below 1.  BadBatch: shapes that do not fit; a case outside 0 … num_cases - 1.
    """
    _check_cutoff(k)
    num_targets = _num_targets(ranks, case, num_cases)
    num_hits = np.bincount(case[ranks <= k], minlength=num_cases)
    return _divide(num_hits, num_targets)


def ndcg(
    ranks: Float[np.ndarray, " T"], case: Int[np.ndarray, " T"], num_cases: int, k: int
) -> Float[np.ndarray, " num_cases"]:
    """Normalised discounted cumulative gain at k, with binary gains.

    DCG = sum over targets of [rank <= k] / log2(1 + rank), divided by the DCG of min(number of targets, k)
    targets at ranks 1, 2, …. At k = 10 a case with ranks 1 and 3 has
    (1/log2(2) + 1/log2(4)) / (1/log2(2) + 1/log2(3)) = 1.5 / 1.6309 = 0.9197.

    Args:     ranks: (T,) float64 from `rank_of_targets`.  case: (T,) int64, below num_cases.
    Returns:  (num_cases,) float64 in [0, 1]; NaN for a case without targets. Capped at 1: targets that tie
              share an average rank, and more of them than there are places may then be above the cut (three
              at rank 2 when k = 2); an item given twice as a target of one case does the same.
    Raises:   BadConfig: k below 1.  BadBatch: shapes that do not fit; a case outside 0 … num_cases - 1.
    Source:   Järvelin and Kekäläinen (2002), with discount log2(1 + rank).
    """
    _check_cutoff(k)
    num_targets = _num_targets(ranks, case, num_cases)
    gains = np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)
    places = np.arange(1, min(k, num_targets.max(initial=0)) + 1)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(1 + places))])
    dcg = np.bincount(case, weights=gains, minlength=num_cases)
    capped: np.ndarray = np.minimum(1.0, _divide(dcg, ideal[np.minimum(num_targets, k)]))
    return capped


def reciprocal_rank(
    ranks: Float[np.ndarray, " T"], case: Int[np.ndarray, " T"], num_cases: int, k: int | None = None
) -> Float[np.ndarray, " num_cases"]:
    """Reciprocal rank: 1 / the best rank among the case's targets, or 0 where that rank is above k.

    A case with ranks 4 and 12 has 1/4, and 0 at k = 3. The mean over cases is MRR.

    Args:     ranks: (T,) float64 from `rank_of_targets`.  case: (T,) int64, below num_cases.
              k: the cut; None for none.
    Returns:  (num_cases,) float64 in [0, 1]; NaN for a case without targets.
    Raises:   BadConfig: k below 1.  BadBatch: shapes that do not fit; a case outside 0 … num_cases - 1.
    """
    cut = np.inf if k is None else _check_cutoff(k)
    num_targets = _num_targets(ranks, case, num_cases)
    best = np.full(num_cases, np.inf)
    np.minimum.at(best, case, ranks)
    return np.where(num_targets > 0, np.where(best <= cut, 1 / best, 0.0), np.nan)


def group_ndcg(
    scores: Float[np.ndarray, " I"], gains: Float[np.ndarray, " I"], group: Int[np.ndarray, " I"]
) -> Float[np.ndarray, " G"]:
    """Normalised discounted cumulative gain of every group of candidates, with graded gains and no cut.

    DCG = sum over candidates of gain / log2(1 + rank), divided by the DCG of the candidates in the order of their
    gains; candidates of equal scores share the mean discount of their ranks. Gains 0, 2, 1 with scores 3, 2, 1 have
    (2/log2(3) + 1/log2(4)) / (2/log2(2) + 1/log2(3)) = 1.7619 / 2.6309 = 0.6697.

    Args:     scores, gains: (I,) float64, gains not below 0; group: (I,) int64, any numbering.
    Returns:  (G,) float64 in the order of the groups' numbers; NaN for a group whose gains are all 0.
    Source:   Järvelin and Kekäläinen (2002); ties as McSherry and Najork (2008).
    """
    _, case = np.unique(group, return_inverse=True)
    num_groups = int(case.max(initial=-1)) + 1

    def dcg(by: np.ndarray) -> np.ndarray:
        order = np.lexsort((-by, case))
        c, s = case[order], by[order]
        rank = np.arange(len(c)) - np.searchsorted(c, np.arange(num_groups))[c] + 1
        is_new = np.ones(len(c), bool)
        is_new[1:] = (c[1:] != c[:-1]) | (s[1:] != s[:-1])
        tie = np.cumsum(is_new) - 1
        shared = np.bincount(tie, weights=1 / np.log2(1 + rank)) / np.bincount(tie)
        return np.bincount(c, weights=gains[order] * shared[tie], minlength=num_groups)

    return _divide(dcg(scores), dcg(gains))


def _divide(total: np.ndarray, weight: np.ndarray) -> Float[np.ndarray, " num_cases"]:
    quotient = np.full(len(total), np.nan)
    np.divide(total, weight, out=quotient, where=weight > 0)
    return quotient


def _num_targets(ranks: np.ndarray, case: np.ndarray, num_cases: int) -> Int[np.ndarray, " num_cases"]:
    _check_cases(ranks, case, num_cases)
    return np.bincount(case, minlength=num_cases)


def _check_cases(per_target: np.ndarray, case: np.ndarray, num_cases: int) -> None:
    if per_target.ndim != 1 or per_target.shape != case.shape:
        raise BadBatch(f"{per_target.shape} values for targets of cases {case.shape}; both are (T,), one per target")
    if case.size and not (case.min() >= 0 and case.max() < num_cases):
        raise BadBatch(f"cases run from {case.min()} to {case.max()}; allowed is 0 to {num_cases - 1}")


def _check_excluded(scores: np.ndarray, excluded: np.ndarray | None) -> None:
    if scores.ndim != 2:
        raise BadBatch(f"scores have shape {scores.shape}; give (C, V), one row per case")
    if excluded is not None and excluded.shape != scores.shape:
        raise BadBatch(f"excluded has shape {excluded.shape}; give that of scores, {scores.shape}")


def _check_cutoff(k: int) -> int:
    if k < 1:
        raise BadConfig(f"the cutoff k is {k}; give 1 or more")
    return k
