"""Popularity: the baselines that know no user.

*Popular* counts training events; *recently popular* counts the last hours before each request, over the whole
stream. Shape letters: B rows, V catalogue, C candidates.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from upnext.base.batches import Request, SequenceBatch, State
from upnext.base.configuration import Config, Duration
from upnext.base.views import ALL
from upnext.models.top_k import top_k_of_scores

__all__ = ["Popular", "PopularConfig", "RecentlyPopular", "RecentlyPopularConfig", "places_in"]


class PopularConfig(Config):
    """What to count."""

    kind: Literal["popular"] = "popular"
    view: str = ALL
    """The events it counts."""


class RecentlyPopularConfig(Config):
    """What to count, and how far back."""

    kind: Literal["recently_popular"] = "recently_popular"
    view: str = ALL
    """The events it counts."""
    window: Annotated[Duration, Field(gt=0)] = 86_400_000
    """How far back it counts, from the last event before the request."""


class _Counting:
    """What both have in common: no history enters their answer."""

    max_length = 0

    def encode(self, histories: SequenceBatch) -> State:
        """A state without content: only its number of rows matters."""
        return State({"rows": torch.zeros(len(histories), 0)})

    def counts_at(self, time_ms: int) -> Float[Tensor, " V"]:
        """Everybody's scores at a moment: the same tensor as in the call before, while nothing changed."""
        raise AssertionError("each baseline has its own")

    def _scores(self, state: State, request: Request) -> Tensor:
        raise AssertionError("each baseline has its own")

    def score(self, state: State, request: Request, items: Int[Tensor, "_ C"]) -> Float[Tensor, "B C"]:
        """Counts; 0 for an item without events."""
        return self._scores(state, request).gather(1, items.expand(len(state), -1))

    def top_k(
        self, state: State, request: Request, k: int, allowed: Tensor | None = None
    ) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"]]:
        """The k items with the most events."""
        return top_k_of_scores(self._scores(state, request), k, allowed)


class Popular(_Counting):
    """Ranks items by their number of training events."""

    def __init__(self, config: PopularConfig, counts: Int[Tensor, " V"]) -> None:
        self.config = config
        self.view = config.view
        self.counts = counts

    @classmethod
    def fit(cls, config: PopularConfig, items: NDArray[np.int64], num_items: int) -> "Popular":
        """Count training events: `items` (N,) dense ids, `num_items` = V."""
        return cls(config, torch.from_numpy(np.bincount(items, minlength=num_items)))

    @cached_property
    def _everyones(self) -> Tensor:
        return self.counts.float()

    def counts_at(self, time_ms: int) -> Float[Tensor, " V"]:
        """Training events."""
        return self._everyones

    def _scores(self, state: State, request: Request) -> Tensor:
        return self._everyones.expand(len(state), -1)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        return {"counts": self.counts}

    @classmethod
    def from_tensors(cls, config: PopularConfig, tensors: dict[str, Tensor]) -> "Popular":
        """Rebuild a model from `tensors()`."""
        return cls(config, tensors["counts"])


class RecentlyPopular(_Counting):
    """Ranks items by their number of events in the last hours strictly before the request.

    The window ends at the last event before the request, so that a service that stood still has an answer too.
    Items with equal counts are ranked by their number of events before the window.

    Args:     items, times_ms: (N,) the stream, in any order; before: (V,) counts of events older than the stream.
    """

    def __init__(
        self,
        config: RecentlyPopularConfig,
        items: NDArray[np.int64],
        times_ms: NDArray[np.int64],
        before: NDArray[np.int64],
    ) -> None:
        self.config = config
        self.view = config.view
        self._before = before
        order = np.argsort(times_ms, kind="stable")
        self._items, self._times_ms = items[order], times_ms[order]  # with room behind for more
        self._size = len(order)
        self._window = _Window(0, 0, np.zeros_like(before), before)

    def __copy__(self) -> "RecentlyPopular":
        """A model of its own: what one observes the other does not."""
        stream = slice(0, self._size)
        return RecentlyPopular(self.config, self._items[stream].copy(), self._times_ms[stream].copy(), self._before)

    def cover(self, num_items: int) -> None:
        """Count so many items, those without events as 0; it never counts fewer than before."""
        if (missing := num_items - len(self._before)) > 0:
            self._before = np.pad(self._before, (0, missing))
            window = self._window
            recent, older = np.pad(window.recent, (0, missing)), np.pad(window.older, (0, missing))
            self._window = _Window(window.start, window.end, recent, older)

    def observe(self, items: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        """Add events of the stream; requests still see only what lies strictly before them."""
        if not len(items):
            return
        self.cover(int(items.max()) + 1)
        order = np.argsort(times_ms, kind="stable")
        items, times_ms = items[order], times_ms[order]
        old, new = self._size, self._size + len(items)
        if new > len(self._items):  # twice the room, so that an event costs the same however long the stream is
            room = max(new, 2 * old) - old
            self._items, self._times_ms = (np.pad(part[:old], (0, room)) for part in (self._items, self._times_ms))
        places = np.searchsorted(self._times_ms[:old], times_ms, side="right")
        self._size = new
        if places[0] == old:
            self._items[old:new], self._times_ms[old:new] = items, times_ms
            return
        first = int(places[0])  # late events: what lies after the first of them moves
        self._items[first:new] = np.insert(self._items[first:old], places - first, items)
        self._times_ms[first:new] = np.insert(self._times_ms[first:old], places - first, times_ms)
        self._window = self._window.with_late(items, places)

    def retract(self, items: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        """Take back events of the stream that were observed."""
        stream = self._items[: self._size], self._times_ms[: self._size]
        if len(places := places_in(*stream, items, times_ms)):
            self._items, self._times_ms = (np.delete(part, places) for part in stream)
            self._size -= len(places)
            self._window = _Window(0, 0, np.zeros_like(self._before), self._before)

    def counts_at(self, time_ms: int) -> Float[Tensor, " V"]:
        """Events of the window that ends before a moment."""
        starts, ends = self._windows(np.array([time_ms]))
        self._move(int(starts[0]), int(ends[0]))
        return self._window.scores

    def _scores(self, state: State, request: Request) -> Tensor:
        starts, ends = self._windows(request.time_ms.cpu().numpy())
        scores = torch.empty(len(ends), len(self._before))
        # Requests in time order share their windows, also with the call before: counts change where the window moves.
        for row in np.argsort(ends, kind="stable").tolist():
            self._move(int(starts[row]), int(ends[row]))
            scores[row] = self._window.scores
        return scores

    def _windows(self, times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in the stream the windows of requests start and end."""
        stream = self._times_ms[: self._size]
        ends = np.searchsorted(stream, times, side="left")
        last = stream[np.maximum(ends - 1, 0)] if len(stream) else np.zeros_like(times)
        return np.where(ends > 0, np.searchsorted(stream, last - self.config.window, side="right"), 0), ends

    def _move(self, start: int, end: int) -> None:
        window = self._window
        if (start, end) != (window.start, window.end):
            left = self._count(window.start, start)
            recent = window.recent + self._count(window.end, end) - left
            self._window = _Window(start, end, recent, window.older + left)

    def _count(self, start: int, end: int) -> NDArray[np.int64]:
        """How often each item comes in a part of the stream; backwards it counts below zero."""
        if end < start:
            return -self._count(end, start)
        return np.bincount(self._items[start:end], minlength=len(self._before))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the stream's last window, and how often each item came before it."""
        items, times_ms = self._items[: self._size], self._times_ms[: self._size]
        start = int(np.searchsorted(times_ms, times_ms[-1:] - self.config.window, side="right").sum())
        return {
            "before": torch.from_numpy(self._before + self._count(0, start)),
            "items": torch.from_numpy(items[start:]),
            "times_ms": torch.from_numpy(times_ms[start:]),
        }

    @classmethod
    def from_tensors(cls, config: RecentlyPopularConfig, tensors: dict[str, Tensor]) -> "RecentlyPopular":
        """Rebuild a model from `tensors()`."""
        return cls(config, *(tensors[name].numpy() for name in ("items", "times_ms", "before")))


def places_in(
    stream: NDArray[np.int64], stream_ms: NDArray[np.int64], items: NDArray[np.int64], times_ms: NDArray[np.int64]
) -> list[int]:
    """Where events stand in a stream that is sorted by time: each at a place of its own, those that are not there
    nowhere."""
    places: set[int] = set()
    for item, time_ms in zip(items.tolist(), times_ms.tolist(), strict=True):
        start, end = np.searchsorted(stream_ms, [time_ms, time_ms + 1]).tolist()
        alike = (np.flatnonzero(stream[start:end] == item) + start).tolist()
        places.update([place for place in alike if place not in places][:1])
    return sorted(places)


@dataclass(frozen=True)
class _Window:
    """The events [start, end) of a stream, and counts per item (V,): inside it, and before it."""

    start: int
    end: int
    recent: NDArray[np.int64]
    older: NDArray[np.int64]

    @cached_property
    def scores(self) -> Tensor:
        """(V,) float32: events in the window; the share of earlier ones decides between equal counts."""
        return torch.from_numpy((self.recent + self.older / (self.older.max() + 1)).astype(np.float32))

    def with_late(self, items: NDArray[np.int64], places: NDArray[np.int64]) -> "_Window":
        """The same window of a stream into which events were inserted at rising places."""
        num_left = int(np.searchsorted(places, self.start))
        num_inside = int(np.searchsorted(places, self.end)) - num_left
        older, recent = self.older.copy(), self.recent.copy()
        np.add.at(older, items[:num_left], 1)
        np.add.at(recent, items[num_left : num_left + num_inside], 1)
        return _Window(self.start + num_left, self.end + num_left + num_inside, recent, older)
