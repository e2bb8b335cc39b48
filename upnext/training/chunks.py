"""Histories cut into chunks, the rows that training gathers batches from.

Shape letters: U users, R chunks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Events, SequenceBatch
from upnext.base.views import TARGET

__all__ = ["Chunks"]


@dataclass(frozen=True)
class Chunks:
    """Training histories cut into non-overlapping chunks, the last one full: `TrainingData` for the loop."""

    events: Events
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    user_starts: NDArray[np.int64]

    @classmethod
    def cut(cls, events: Events, offsets: NDArray[np.int64], max_length: int) -> "Chunks":
        """Cut each user's events, `offsets` (U+1,), from the end into chunks of at most `max_length`."""
        counts = -(-np.diff(offsets) // max_length)
        user = np.repeat(np.arange(len(counts)), counts)
        from_end = np.cumsum(counts)[user] - 1 - np.arange(len(user))
        ends = offsets[1:][user] - from_end * max_length
        starts = np.maximum(ends - max_length, offsets[:-1][user])
        return cls(events, starts, ends, offsets[:-1][user])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,) events per chunk."""
        return self.ends - self.starts

    def batch(self, rows: NDArray[np.int64]) -> SequenceBatch:
        """Gather chunks; the view `target` marks all events but those that a cut left without any history.

        The start token stands for a new user, so it must not learn from the middle of a history.
        """
        batch = self.events.batch(self.starts[rows], self.ends[rows])
        is_whole = torch.from_numpy(self.starts[rows] == self.user_starts[rows])
        targets = batch.mask & (is_whole[:, None] | (batch.num_visible > 0))
        return SequenceBatch(**(vars(batch) | {"views": {**batch.views, TARGET: targets}}))
