"""The fallback: what everyone is shown when their own page is not ready in time."""

import time

import numpy as np

from upnext.base.ids import FIRST
from upnext.serving.histories import Histories
from upnext.serving.pasts import Pasts
from upnext.serving.recommend import Page, Query, Row, row_for_anyone
from upnext.serving.retrieve import hidden_items

__all__ = ["Fallback"]

_LIFETIME_S = 10
_LONGEST_ROW = 1000
"""What one user may not be shown is taken out of it."""


class Fallback:
    """Keeps a row that suits anyone, and makes a page of it in a moment: no model runs."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self.refresh()

    def is_old(self) -> bool:
        """Whether it is time for `refresh`."""
        return time.monotonic() - self._since > _LIFETIME_S

    def refresh(self) -> None:
        """Ask the models what suits anyone now."""
        now = time.time_ns() // 1_000_000 + 1
        self._row = row_for_anyone(self._histories.release, self._histories, now, _LONGEST_ROW)
        self._since = time.monotonic()

    def page(self, query: Query, reason: str) -> Page:
        """A page of one row, without what the user may not be shown."""
        release, assortment = self._histories.release, self._histories.assortment
        ((events, _),) = self._histories.read([query.user_id])
        past = Pasts.join([events.take((events.time_ms < query.time_ms) & (events.item >= FIRST))])
        context = query.context or {}
        hidden = set(hidden_items(release, past, np.array(query.unfamiliar), [context])[1].tolist())
        hidden |= set(assortment.blocked_in(context, len(assortment)).tolist())
        pairs = zip(self._row.items, self._row.scores, strict=True)
        best = [(item, score) for item, score in pairs if item not in hidden and assortment.is_shown[item]][: query.k]
        row = Row(self._row.name, self._row.title, self._row.reason, [i for i, _ in best], [s for _, s in best])
        is_known = len(past.in_view(release.view).events) > 0
        return Page(query.user_id, is_known, [row] if best else [], fallback_reason=reason)
