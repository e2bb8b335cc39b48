"""Impressions as fine-tuning reads them: joined to what was known of their users, cut into chunks, gathered.

Shape letters: I impressions, R chunks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Events
from upnext.events.impressions import ImpressionChunks, Impressions, cut_chunks, known_until, pairs_within
from upnext.events.log import EventLog
from upnext.objectives.future_items import FutureBatch
from upnext.objectives.pairwise import ImpressionBatch

__all__ = ["ChunkLimits", "FutureData", "ImpressionData"]


@dataclass(frozen=True)
class ChunkLimits:
    """Limits of a chunk: events of its history, events that an impression needs before it, impressions."""

    longest: int
    shortest: int
    most_impressions: int


@dataclass(frozen=True)
class ImpressionData:
    """`TrainingData` for the loop: chunks of histories, each with the impressions that it answers for.

    `events` are those that the model reads; `item`, `group` and `value` (I,) are of the impressions that `chunks`
    numbers. `num_unknown` impressions were left out, because too little was known of their users before the lag.
    """

    events: Events
    chunks: ImpressionChunks
    item: NDArray[np.int64]
    group: NDArray[np.int64]
    value: NDArray[np.float64]
    num_unknown: int

    @classmethod
    def join(
        cls, log: EventLog, read: NDArray[np.int64], impressions: Impressions, lag_ms: int, limits: ChunkLimits
    ) -> "ImpressionData":
        """Join impressions to the last state strictly before the time of their request - lag, and cut chunks.

        Args:     read: rows of the events that the model reads, ascending; all of them may be learnt from.
        """
        request, user = log.request_start[impressions.rows], log.rows.user[impressions.rows]
        offsets = np.searchsorted(read, log.offsets)
        until = known_until(log, read, user, log.rows.time_ms[request], request, lag_ms)
        chunks = cut_chunks(
            user,
            until - offsets[user],
            impressions.group,
            offsets,
            longest=limits.longest,
            shortest=limits.shortest,
            most_impressions=limits.most_impressions,
        )
        item = log.rows.item[impressions.rows]
        num_unknown = len(impressions) - len(chunks.impression)
        return cls(log.events.take(read), chunks, item, impressions.group, impressions.value, num_unknown)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,) events per chunk."""
        return self.chunks.end - self.chunks.start

    @property
    def num_impressions(self) -> NDArray[np.int64]:
        """(R,) impressions per chunk."""
        return np.diff(self.chunks.first)

    def most_impressions(self, tokens_per_batch: int) -> int:
        """The most impressions that a batch can have, as `largest_batch` counts tokens."""
        length, count = np.unique(np.maximum(self.lengths, 1), return_counts=True)
        rows = np.minimum(np.maximum(tokens_per_batch // length, 1), np.cumsum(count))
        return int(rows.max(initial=0) * self.num_impressions.max(initial=0))

    def impressions_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The impressions that some chunks answer for, chunk by chunk: their rows of a batch, and their places."""
        counts = self.num_impressions[rows]
        row = np.repeat(np.arange(len(rows)), counts)
        return row, self.chunks.first[rows][row] + np.arange(len(row)) - (np.cumsum(counts) - counts)[row]

    def batch(self, rows: NDArray[np.int64]) -> ImpressionBatch:
        """Gather chunks with their impressions, and the pairs of them that are to be ordered."""
        chunks, (row, place) = self.chunks, self.impressions_of(rows)
        impression = chunks.impression[place]
        pairs = pairs_within(self.group[impression], self.value[impression])
        return ImpressionBatch(
            histories=self.events.batch(chunks.start[rows], chunks.end[rows]),
            row=torch.from_numpy(row),
            state=torch.from_numpy(chunks.state[place]),
            item=torch.from_numpy(self.item[impression]),
            better=torch.from_numpy(pairs.better),
            worse=torch.from_numpy(pairs.worse),
            weight=torch.from_numpy(pairs.weight.astype(np.float32)),
        )


@dataclass(frozen=True)
class FutureData:
    """`TrainingData` for retrieval: of the impressions those of value 1 were chosen, those of value 0 shown beside."""

    shown: ImpressionData
    rank: NDArray[np.int64]
    """(I,) the number of each chosen impression among all that were chosen."""
    items: NDArray[np.int64]
    """(M,) the items that were chosen, user by user in the order of time."""
    last: NDArray[np.int64]
    """(M,) the number of the last one of the same user."""
    among_next: int

    @classmethod
    def of(cls, shown: ImpressionData, user: NDArray[np.int64], among_next: int) -> "FutureData":
        """Number what was chosen; `user` (I,) of the impressions."""
        is_chosen = shown.value == 1
        owner = user[is_chosen]
        last = np.searchsorted(owner, owner, side="right") - 1
        return cls(shown, np.cumsum(is_chosen) - 1, shown.item[is_chosen], last, among_next)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,) events per chunk."""
        return self.shown.lengths

    def batch(self, rows: NDArray[np.int64]) -> FutureBatch:
        """Gather chunks, and draw for each chosen impression one of the user's next chosen items, its own included."""
        impression = self.shown.chunks.impression[self.shown.impressions_of(rows)[1]]
        chosen = np.flatnonzero(self.shown.value[impression] == 1)
        own = self.rank[impression[chosen]]
        step = torch.randint(self.among_next, (len(own),)).numpy()
        item = self.items[np.minimum(own + step, self.last[own])]
        return FutureBatch(self.shown.batch(rows), torch.from_numpy(chosen), torch.from_numpy(item))
