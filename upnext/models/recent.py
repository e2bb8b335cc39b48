"""What was chosen lately, as the prior of a model's next item: P(i | h, c, t) ∝ Q(i | t, c, h) · exp(s(h, c, i)).

    R_0(i) = n(i) / N                              the events in the window before the request
    R_k(i) = (n_k(i) + κ R_k-1(i)) / (N_k + κ)     of them, those whose first k contexts are the request's
                                                   and, last, those that followed the item that this user chose last
    Q(i)   = (1 - ε) R(i) + ε / V                  R the last of these; 1/V where the window holds no event

A model trained with negatives drawn from Q learns s alone (`objectives/recent.py`), and adds log Q when it is asked.

Shape letters: B requests, N events, V items with a training event, W items by dense id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from upnext.base.batches import Column, Events, Request
from upnext.base.configuration import Config, Duration
from upnext.base.schema import LAST_ITEM, context_column
from upnext.models.popularity import places_in

__all__ = ["MOST_CODES", "STREAM", "RecentConfig", "RecentPrior"]

MOST_CODES = 2**20
"""So many values may a context have that events are counted within."""

STREAM = "recent."
"""How the names of what a checkpoint holds of a prior begin."""

_KEPT = 32
"""Priors that are kept until the next event: one per value of the contexts that are asked about."""


Keys = TypeVar("Keys", Tensor, NDArray[np.int64])


class RecentConfig(Config):
    """A prior of what was chosen lately, by anybody."""

    window: Annotated[Duration, Field(gt=0)] = 3_600_000
    """How far back events count, from the last one before the request."""
    within: Annotated[list[str], Field(max_length=3)] = []
    """Contexts whose values tell what is chosen: events of the request's own values count first, then those of its
    value of all but the last context, and so on."""
    follows: bool = False
    """Also count, closest of all, what followed the user's last item: events of those who came from it."""
    shrinkage: Annotated[float, Field(gt=0, le=1e9)] = 100.0
    """With `within` or `follows`: how many events of the same values weigh as much as all others together."""
    others: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The share of the prior that all items have alike, so that what nobody chose lately can be recommended too."""
    strangers: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """The share of items whose ids are hidden in each step of training, so that a model knows what to make of items
    without a training event: of them it reads the features, and the prior."""

    def keys(self, columns: Mapping[str, Any], time_ms: Keys) -> list[Keys]:
        """What events are counted within: for each k an integer per event or request, alike in shape to `time_ms`.

        For k = 1 … the values of the first k contexts, 0 for one that is unobserved; with `follows` the last item.
        """
        keys: list[Keys] = []
        key = time_ms * 0  # int64, whatever the codes are
        for name in self.within:
            column = columns[context_column(name)]
            key = key * MOST_CODES + column.values * column.observed
            keys.append(key)
        if self.follows:
            keys.append(columns[LAST_ITEM].values)
        return keys

    @property
    def num_keys(self) -> int:
        """How many `keys` there are."""
        return len(self.within) + self.follows


class RecentPrior:
    """log Q of a stream of events, before each request.

    The window ends at the last event before the request, so that a service that stood still has an answer too.

    Args:     view: the events it counts; num_alike: V, the items that share ε; num_items: W.
    """

    def __init__(self, config: RecentConfig, view: str, num_alike: int, num_items: int) -> None:
        self.config, self.view = config, view
        self._num_alike, self._num_items = max(1, num_alike), num_items
        # In the order of their times, with room behind for more.
        self._items, self._times_ms = np.empty(0, np.int64), np.empty(0, np.int64)
        self._keys = np.empty((0, config.num_keys), np.int64)
        self._size = 0
        self._window = _Window(0, 0, np.zeros(num_items, np.int64))
        self._known: dict[tuple[int, ...], Tensor] = {}

    def anew(self, events: Events, num_items: int) -> "RecentPrior":
        """The same prior of another stream."""
        other = RecentPrior(self.config, self.view, self._num_alike, max(num_items, self._num_items))
        other.observe(events)
        return other

    def cover(self, num_items: int) -> None:
        """Give so many items a probability, those without events too; it never covers fewer than before."""
        if (missing := num_items - self._num_items) > 0:
            self._num_items = num_items
            window = self._window
            self._window = _Window(window.start, window.end, np.pad(window.counts, (0, missing)))
            self._known.clear()

    def observe(self, events: Events) -> None:
        """Add events of the view; requests still see only what lies strictly before them.

        With `follows` the events have a column LAST_ITEM: what each one's user chose last before its request, or 0.
        """
        keys = self.config.keys(events.columns, events.time_ms)
        self._add(events.item, events.time_ms, np.array(keys, np.int64).reshape(len(keys), len(events)).T)

    def _add(self, items: NDArray[np.int64], times_ms: NDArray[np.int64], keys: NDArray[np.int64]) -> None:
        if not len(items):
            return
        self.cover(int(items.max()) + 1)
        self._known.clear()
        order = np.argsort(times_ms, kind="stable")
        old, new = self._size, self._size + len(items)
        if new > len(self._items):  # twice the room, so that an event costs the same however long the stream is
            room = max(new, 2 * old)
            self._items, self._times_ms = (np.resize(part, room) for part in (self._items, self._times_ms))
            self._keys = np.resize(self._keys, (room, self._keys.shape[1]))
        places = np.searchsorted(self._times_ms[:old], times_ms[order], side="right")
        first = int(places[0])  # what lies after the first late event moves
        parts = ((self._items, items), (self._times_ms, times_ms), (self._keys, keys))
        for part, added in parts:
            part[first:new] = np.insert(part[first:old], places - first, added[order], axis=0)
        self._size = new
        if first < self._window.end:
            self._window = _Window(0, 0, np.zeros(self._num_items, np.int64))

    def retract(self, items: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        """Take back events that were observed."""
        stream = self._items[: self._size], self._times_ms[: self._size]
        if len(places := places_in(*stream, items, times_ms)):
            self._items, self._times_ms = (np.delete(part, places) for part in stream)
            self._keys = np.delete(self._keys[: self._size], places, axis=0)
            self._size -= len(places)
            self._window = _Window(0, 0, np.zeros(self._num_items, np.int64))
            self._known.clear()

    def log_q(self, request: Request, last_item: Int[Tensor, " B"] | None = None) -> Float[Tensor, "_ W"]:
        """log Q of every dense id: a row per request, or one row where it is the same for all.

        Args:     last_item: with `follows`, what each user chose last, 0 for nothing.
        """
        times = request.time_ms.cpu()
        known = {name: column.to(times.device) for name, column in request.context.items()}
        if self.config.follows:
            assert last_item is not None
            known[LAST_ITEM] = Column(last_item.cpu(), last_item.cpu() > 0)
        ends = np.searchsorted(self._times_ms[: self._size], times.numpy(), side="left")
        asked = np.stack([ends, *(key.numpy() for key in self.config.keys(known, times))], axis=1)
        rows = [torch.empty(0)] * len(asked)
        for row in np.argsort(ends, kind="stable").tolist():  # in time order, so that counts change little
            moment = tuple(asked[row].tolist())
            if moment not in self._known:
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[moment] = torch.from_numpy(np.log(self._q(*moment)).astype(np.float32))
            rows[row] = self._known[moment]
        if not rows:
            return torch.empty(0, self._num_items)
        same = all(row is rows[0] for row in rows)
        return (rows[0][None] if same else torch.stack(rows)).to(request.time_ms.device)

    def _q(self, end: int, *keys: int) -> NDArray[np.float64]:
        """(W,) Q after the first `end` events, for contexts with these keys."""
        if end == 0:
            return np.full(self._num_items, 1 / self._num_alike)
        start = self._start(end)
        self._window = self._window.moved(start, end, self._items)
        recent = self._window.counts / (end - start)
        for level, key in enumerate(keys):
            own = self._items[start:end][self._keys[start:end, level] == key]
            counts, kappa = np.bincount(own, minlength=self._num_items), self.config.shrinkage
            recent = (counts + kappa * recent) / (len(own) + kappa)
        return (1 - self.config.others) * recent + self.config.others / self._num_alike

    def _start(self, end: int) -> int:
        """Where the window of the first `end` events begins."""
        last_ms = self._times_ms[: self._size][end - 1 : end]
        return int(np.searchsorted(self._times_ms[: self._size], last_ms - self.config.window, side="right").sum())

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the stream's last window."""
        last = slice(self._start(self._size), self._size)
        parts = {"items": self._items[last], "times_ms": self._times_ms[last], "keys": self._keys[last]}
        return {STREAM + name: torch.from_numpy(part.copy()) for name, part in parts.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Observe what `tensors` gave."""
        self._add(*(tensors[STREAM + name].numpy() for name in ("items", "times_ms", "keys")))


@dataclass(frozen=True)
class _Window:
    """The events [start, end) of a stream, and counts per item (W,)."""

    start: int
    end: int
    counts: NDArray[np.int64]

    def moved(self, start: int, end: int, items: NDArray[np.int64]) -> "_Window":
        """The window elsewhere: only what differs is counted."""
        if (start, end) == (self.start, self.end):
            return self
        if start >= self.end or end <= self.start:
            return _Window(start, end, np.bincount(items[start:end], minlength=len(self.counts)))
        counts = self.counts.copy()
        for here, there, sign in ((self.start, start, -1), (self.end, end, 1)):
            low, high = min(here, there), max(here, there)
            counts += (sign if there > here else -sign) * np.bincount(items[low:high], minlength=len(counts))
        return _Window(start, end, counts)
