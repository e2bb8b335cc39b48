"""The exact index: every dot product, no approximation.

Shape letters: B queries, V vectors, D width, k answers.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.errors import BadBatch
from upnext.base.selection import BLOCK, Parts, best_of_parts, best_of_rows

__all__ = ["ExactIndex"]

_ROWS = 512
_SCORES = 1 << 25
"""Scores are computed for some queries at a time: at most so many queries, and so many scores."""


class ExactIndex:
    """Scans all vectors, with as many threads as torch may use.

    Args:     vectors: (V, D) float32.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        V, D = vectors.shape
        self._padded = torch.zeros(-(-V // BLOCK) * BLOCK, D)  # to whole blocks: selection is faster so
        self._padded[:V] = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        self.vectors: NDArray[np.float32] = self._padded[:V].numpy()

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        excluded: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        offsets: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k rows with the largest dot product.

        Args:     queries: (B, D); allowed: (B, V) or (1, V) bool, None for all; excluded: two (n,) arrays, query
                  numbers in rising order and the row that each may not have; offsets: (B, W) or (1, W), added to the
                  dot products with the first W rows.
        Returns:  rows (B, k), -1 where there are fewer, and scores (B, k), -inf there; falling, ties by lower row.
        Raises:   BadBatch: queries, `allowed`, `excluded` or `offsets` that do not fit.
        """
        V = len(self.vectors)
        self._check_queries(queries)
        B = len(queries)
        if allowed is not None and allowed.shape not in ((1, V), (B, V)):
            raise BadBatch(f"allowed has the shape {allowed.shape}; give (1, {V}) or ({B}, {V})")
        numbers, hidden = excluded or (np.empty(0, np.int64), np.empty(0, np.int64))
        _check_excluded(numbers, hidden, B, V)
        if offsets is not None and (len(offsets) not in (1, B) or offsets.shape[1] > V):
            raise BadBatch(f"offsets have the shape {offsets.shape}; give 1 or {B} rows of at most {V}")
        wanted = torch.from_numpy(np.ascontiguousarray(queries, np.float32))
        # What no query may have is hidden by its column: the padding, and what a shared mask forbids.
        is_open = np.ones((1, V), bool) if allowed is None or len(allowed) != 1 else allowed
        closed = torch.from_numpy(np.flatnonzero(~np.pad(is_open[0], (0, len(self._padded) - V))))
        rows, scores = torch.full((B, k), -1), torch.full((B, k), -torch.inf)
        step = max(1, min(_ROWS, _SCORES // max(1, len(self._padded))))
        buffer = torch.empty(min(step, B), len(self._padded))
        for begin in range(0, B, step):
            end = min(begin + step, B)
            block = torch.mm(wanted[begin:end], self._padded.T, out=buffer[: end - begin])
            self._add(offsets, block, begin)
            block.index_fill_(1, closed, -torch.inf)
            if allowed is not None and len(allowed) != 1:
                block[:, :V].masked_fill_(_inverse(allowed[begin:end]), -torch.inf)
            first, last = np.searchsorted(numbers, (begin, end))
            block[torch.from_numpy(numbers[first:last] - begin), torch.from_numpy(hidden[first:last])] = -torch.inf
            rows[begin:end], scores[begin:end] = best_of_rows(block, k)
        return rows.numpy(), scores.numpy()

    def search_parts(
        self,
        queries: NDArray[np.float32],
        k: int,
        parts: Parts,
        excluded: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        offsets: NDArray[np.float32] | None = None,
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k rows with the largest dot product within each of several sets; each product is computed once.

        Args:     queries: (B, D); parts: sets of row numbers; excluded, offsets: as `search` has them.
        Returns:  what `search` gives with only the rows of a set allowed, for each set.
        Raises:   BadBatch: queries, `parts`, `excluded` or `offsets` that do not fit.
        """
        V, B = len(self.vectors), len(queries)
        self._check_queries(queries)
        numbers, hidden = excluded or (np.empty(0, np.int64), np.empty(0, np.int64))
        _check_excluded(numbers, hidden, B, V)
        if offsets is not None and (len(offsets) not in (1, B) or offsets.shape[1] > V):
            raise BadBatch(f"offsets have the shape {offsets.shape}; give 1 or {B} rows of at most {V}")
        if parts.end > V:
            raise BadBatch(f"a part names the row {parts.end - 1}; this index has 0 … {V - 1}")
        wanted = torch.from_numpy(np.ascontiguousarray(queries, np.float32))
        step = max(1, min(_ROWS, _SCORES // max(1, len(self._padded))))
        found: list[list[tuple[Tensor, Tensor]]] = []
        for begin in range(0, max(1, B), step):
            block = wanted[begin : begin + step] @ self._padded.T
            self._add(offsets, block, begin)
            first, last = np.searchsorted(numbers, (begin, begin + len(block)))
            block[torch.from_numpy(numbers[first:last] - begin), torch.from_numpy(hidden[first:last])] = -torch.inf
            found.append(best_of_parts(block, k, parts))
        if len(found) == 1:  # as for a page, of which every tenth of a millisecond counts
            return [(rows.numpy(), scores.numpy()) for rows, scores in found[0]]
        together = zip(*found, strict=True)
        return [(torch.cat([r for r, _ in one]).numpy(), torch.cat([s for _, s in one]).numpy()) for one in together]

    def _add(self, offsets: NDArray[np.float32] | None, block: Tensor, begin: int) -> None:
        """Add the offsets of the queries from `begin` on to their dot products."""
        if offsets is not None:
            some = offsets if len(offsets) == 1 else offsets[begin : begin + len(block)]
            block[:, : offsets.shape[1]] += torch.from_numpy(some)

    def _check_queries(self, queries: NDArray[np.float32]) -> None:
        D = self.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != D:
            raise BadBatch(f"queries have the shape {queries.shape}; this index holds vectors of width {D}")


def _inverse(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(~mask)


def _check_excluded(numbers: NDArray[np.int64], hidden: NDArray[np.int64], num_queries: int, num_rows: int) -> None:
    if numbers.shape != hidden.shape or numbers.ndim != 1:
        raise BadBatch(f"excluded has the shapes {numbers.shape} and {hidden.shape}; give two arrays of one length")
    if not len(numbers):
        return
    if numbers[0] < 0 or numbers[-1] >= num_queries or (np.diff(numbers) < 0).any():
        raise BadBatch(f"excluded names queries that do not rise from 0 to {num_queries - 1}; sort the pairs by query")
    if hidden.min() < 0 or hidden.max() >= num_rows:
        raise BadBatch(f"excluded names rows {hidden.min()} … {hidden.max()}; this index has 0 … {num_rows - 1}")
