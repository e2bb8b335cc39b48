"""One release at work: its histories, its catalogue with changes, and what it counts of the stream of events.

Two of them share nothing but the live store, so that one can be made ready while the other answers. Nothing here
refers to itself in a circle: an old one is gone, and its memory with it, when its last request has ended.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from upnext.base.ids import ExternalId
from upnext.base.protocols import Store
from upnext.serving.assortment import Assortment
from upnext.serving.changes import Changes
from upnext.serving.choose import Choice, Chosen, choose
from upnext.serving.fallback import Fallback
from upnext.serving.histories import Histories, Told
from upnext.serving.recommend import Page, Query, follow_stream, recommend
from upnext.serving.records import ItemRecord
from upnext.serving.release import Release

__all__ = ["Running"]


class Running:
    """A loaded release with what was posted since; `catch_up` first, then only one thread at a time may use it."""

    def __init__(self, release: Release, live: Store) -> None:
        self.release = release
        self.histories = Histories(release, live)
        self.unseen: deque[Told] = deque()
        """Posted events that are yet to be counted; any thread may add to them."""
        self.changes = Changes(live, release.catalogue, "server", partial(_take_over, self.histories))

    def catch_up(self, border: Callable[[], None] = lambda: None) -> None:
        """Count every event that was posted before, and make a page for nobody: no visitor waits for either.

        Args:     border: where events are posted meanwhile, which go into `unseen`: returns once those are there that
                  were on disk when it was called.
        """
        posted = self.histories.posted()
        border()
        told = {row.key() for _, row in self.unseen}  # in both, and to be counted once
        self.changes.follow()  # after the events: now every item that they are of is known
        known = self.histories.events_of([row for row in posted if row.key() not in told])
        follow_stream(self.release, self.histories, known)
        self.fallback = Fallback(self.histories)
        recommend(self.release, self.histories, [Query("", time.time_ns() // 1_000_000)])

    def recommend(self, queries: Sequence[Query]) -> list[Page]:
        """Answer queries from everything that is known by now."""
        self._take_in()
        pages = recommend(self.release, self.histories, queries)
        if self.fallback.is_old():
            self.fallback.refresh()
        return pages

    def choose(self, choices: Sequence[Choice]) -> list[Chosen]:
        """Order candidates by everything that is known by now."""
        self._take_in()
        return choose(self.release, self.histories, choices)

    def _take_in(self) -> None:
        self.changes.follow()
        new = [self.unseen.popleft() for _ in range(len(self.unseen))]
        follow_stream(self.release, self.histories, *self.histories.changed(new))


def _take_over(histories: Histories, records: Mapping[ExternalId, ItemRecord]) -> None:
    assortment = Assortment(histories.release, records)
    assortment.prepare()  # here, so that no request has to wait for it
    histories.assortment = assortment
