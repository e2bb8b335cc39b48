"""Pasts: what some users did, as flat arrays, so that nothing is done user by user.

Shape letters: B users, N events of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import Events, SequenceBatch
from upnext.base.ids import FIRST
from upnext.base.views import ALL

__all__ = ["Pasts"]


@dataclass(frozen=True)
class Pasts:
    """What B users did: their events one after the other, those of user b at offsets[b] … offsets[b + 1]."""

    events: Events
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(B,) int64: events per user."""
        return np.diff(self.offsets)

    @property
    def user(self) -> NDArray[np.int64]:
        """(N,) int64: which user each event belongs to, counted from 0."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @staticmethod
    def join(parts: Sequence[Events]) -> "Pasts":
        """Put users' events one after the other; there has to be a user."""
        return Pasts(Events.concatenate(parts), np.cumsum([0, *map(len, parts)]))

    def where(self, chosen: NDArray[np.bool_]) -> "Pasts":
        """Keep the events that are chosen by a mask (N,)."""
        if chosen.all():
            return self
        kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)])
        return Pasts(self.events.take(chosen), kept[self.offsets])

    def in_view(self, view: str) -> "Pasts":
        """Keep the events of a view."""
        return self if view == ALL else self.where(self.events.views[view])

    def before(self, time_ms: NDArray[np.int64]) -> "Pasts":
        """Keep what lies strictly before each user's request, (B,) or one for all, of items that the release knows."""
        moments = np.broadcast_to(time_ms, len(self))
        return self.where((self.events.time_ms < np.repeat(moments, self.lengths)) & (self.events.item >= FIRST))

    def below(self, num_items: int) -> "Pasts":
        """Keep events of the items that a model of so many knows."""
        return self.where(self.events.item < num_items)

    def without_columns(self) -> "Pasts":
        """Drop contexts and feedback."""
        return replace(self, events=self.events.without_columns())

    def last(self, users: NDArray[np.int64], length: int) -> SequenceBatch:
        """The last `length` events of some users, right-padded."""
        ends = self.offsets[users + 1]
        return self.events.batch(np.maximum(ends - length, self.offsets[users]), ends)
