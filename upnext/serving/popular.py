"""What is popular: an order that all users share, so it is worked out when it changes and not for every page.

Shape letters: B users, V items, k answers.
"""

import math
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Request
from upnext.base.selection import Parts, best_of_parts
from upnext.models.popularity import Popular, RecentlyPopular

__all__ = ["PopularOrder"]

_KEPT = 256
"""So many of the best items are kept; who may not see too many of them is answered from all scores."""


class PopularOrder:
    """The best items by counts, without what each user may not be shown.

    Args:     parts: one set of dense ids, those that may be shown.
    """

    def __init__(self, model: Popular | RecentlyPopular, parts: Parts) -> None:
        self._model, self._parts = model, parts
        self._scores = torch.empty(0)
        self._kept: list[tuple[int, float]] = []

    def best(
        self, request: Request, k: int, hidden: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Each user's k best items.

        Args:     hidden: pairs of user number, rising, and the dense id that this user may not see.
        Returns:  dense ids (B, k) and scores (B, k), falling, ties by the lower id; -1 and -inf where there are fewer.
        """
        times = request.time_ms.tolist()
        bounds = np.searchsorted(hidden[0], np.arange(len(times) + 1)).tolist()
        found = [
            self._best_of_one(self._model.counts_at(time_ms), k, hidden[1][bounds[row] : bounds[row + 1]])
            for row, time_ms in enumerate(times)
        ]
        items, scores = np.array(found).reshape(-1, k, 2).transpose(2, 0, 1)
        return items.astype(np.int64), scores.astype(np.float32)

    def _best_of_one(self, scores: torch.Tensor, k: int, hidden: NDArray[np.int64]) -> list[tuple[int, float]]:
        if scores is not self._scores:
            self._scores, self._kept = scores, _best(scores, _KEPT, self._parts)
        unseen = set(hidden.tolist())
        best = list(islice((one for one in self._kept if one[0] not in unseen), k))
        if len(best) < k and len(self._kept) == _KEPT:  # there may be more than what was kept
            left = scores.clone()
            left[torch.from_numpy(hidden[hidden < len(scores)])] = -torch.inf
            best = _best(left, k, self._parts)
        return best + [(-1, -math.inf)] * (k - len(best))


def _best(scores: torch.Tensor, k: int, parts: Parts) -> list[tuple[int, float]]:
    ((columns, values),) = best_of_parts(scores[None], k, parts)
    return [(item, score) for item, score in zip(columns[0].tolist(), values[0].tolist(), strict=True) if item >= 0]
