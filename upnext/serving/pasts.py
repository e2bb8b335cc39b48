"""Pasts: what some users did, as flat arrays, so that nothing is done user by user.

Shape letters: B users, N events of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import Events
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

    def lately(self, user: int, count: int) -> NDArray[np.int64]:
        """The items of a user's last events, at most so many, in the order of time."""
        end = int(self.offsets[user + 1])
        return self.events.item[max(int(self.offsets[user]), end - count) : end]

    def of(self, users: NDArray[np.int64]) -> "Pasts":
        """Keep some users, by number, rising."""
        if len(users) == len(self):
            return self
        is_kept = np.zeros(len(self), np.bool_)
        is_kept[users] = True
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths[users])])
        return Pasts(self.events.take(np.repeat(is_kept, self.lengths)), offsets)

    def without_columns(self) -> "Pasts":
        """Drop contexts and feedback."""
        return replace(self, events=self.events.without_columns())

    def count_before(self, user: NDArray[np.int64], time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many events each of some users had strictly before a moment: (n,) int64, for users and times (n,)."""
        owner, moment = np.concatenate([self.user, user]), np.concatenate([self.events.time_ms, time_ms])
        is_event = np.arange(len(owner)) < len(self.events)
        order = np.lexsort((is_event, moment, owner))  # of one moment the question comes first
        before = np.cumsum(is_event[order])
        found = np.empty(len(user), np.int64)
        is_question = ~is_event[order]
        found[order[is_question] - len(self.events)] = before[is_question]
        return found - self.offsets[user]
