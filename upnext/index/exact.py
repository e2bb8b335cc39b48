"""The exact index: every dot product, no approximation.

Shape letters: B queries, V vectors, D width, k answers.
"""

import numpy as np
from numpy.typing import NDArray

from upnext.base.errors import BadBatch

__all__ = ["ExactIndex"]


class ExactIndex:
    """Scans all vectors.

    Args:     vectors: (V, D) float32.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k rows with the largest dot product.

        Args:     queries: (B, D); allowed: (B, V) or (1, V) bool, None for all.
        Returns:  rows (B, k), -1 where there are fewer, and scores (B, k), -inf there; falling, ties by lower row.
        Raises:   BadBatch: queries or `allowed` of another width.
        """
        V, D = self.vectors.shape
        if queries.ndim != 2 or queries.shape[1] != D:
            raise BadBatch(f"queries have the shape {queries.shape}; this index holds vectors of width {D}")
        if allowed is not None and allowed.shape not in ((1, V), (len(queries), V)):
            raise BadBatch(f"allowed has the shape {allowed.shape}; give (1, {V}) or ({len(queries)}, {V})")
        all_scores = queries @ self.vectors.T
        if allowed is not None:
            all_scores = np.where(allowed, all_scores, np.float32(-np.inf))
        rows = np.full((len(queries), k), -1)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for number, row_scores in enumerate(all_scores):
            best = _best(row_scores, min(k, V))
            rows[number, : len(best)] = best
            scores[number, : len(best)] = row_scores[best]
        return rows, scores


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k largest finite scores, falling, ties by the lower row."""
    if k == 0:
        return np.empty(0, np.int64)
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    candidates = np.flatnonzero((scores >= kth) & (scores > -np.inf))  # all that tie with the kth are here
    order = np.lexsort((candidates, -scores[candidates]))
    best: NDArray[np.int64] = candidates[order[:k]]
    return best
