"""Popularity: the baselines that know no user.

*Popular* counts training events; *recently popular* counts the last hours before each request, over the whole
stream. Shape letters: B rows, V catalogue, C candidates.
"""

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

__all__ = ["Popular", "PopularConfig", "RecentlyPopular", "RecentlyPopularConfig"]


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

    def _scores(self, state: State, request: Request) -> Tensor:
        return self.counts.float().expand(len(state), -1)

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
        self._items, self._times_ms = items[order], times_ms[order]

    def observe(self, items: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        """Add events of the stream; requests still see only what lies strictly before them."""
        items = np.concatenate([self._items, items])
        times_ms = np.concatenate([self._times_ms, times_ms])
        order = np.argsort(times_ms, kind="stable")
        self._items, self._times_ms = items[order], times_ms[order]

    def _scores(self, state: State, request: Request) -> Tensor:
        times = request.time_ms.cpu().numpy()
        ends = np.searchsorted(self._times_ms, times, side="left")
        last = self._times_ms[np.maximum(ends - 1, 0)] if len(self._times_ms) else np.zeros_like(times)
        starts = np.where(ends > 0, np.searchsorted(self._times_ms, last - self.config.window, side="right"), 0)
        scores = np.zeros((len(times), len(self._before)), np.float32)
        # Requests in time order share their windows: counts change only where the window moves.
        recent, older = np.zeros_like(self._before), self._before.copy()
        low = high = 0
        for row in np.argsort(ends, kind="stable"):
            start, end = int(starts[row]), int(ends[row])
            left = self._count(low, start)
            recent += self._count(high, end) - left
            older += left
            low, high = start, end
            scores[row] = recent + older / (older.max() + 1)
        return torch.from_numpy(scores)

    def _count(self, start: int, end: int) -> NDArray[np.int64]:
        return np.bincount(self._items[start:end], minlength=len(self._before))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the stream's last window, and how often each item came before it."""
        start = int(np.searchsorted(self._times_ms, self._times_ms[-1:] - self.config.window, side="right").sum())
        return {
            "before": torch.from_numpy(self._before + self._count(0, start)),
            "items": torch.from_numpy(self._items[start:]),
            "times_ms": torch.from_numpy(self._times_ms[start:]),
        }

    @classmethod
    def from_tensors(cls, config: RecentlyPopularConfig, tensors: dict[str, Tensor]) -> "RecentlyPopular":
        """Rebuild a model from `tensors()`."""
        return cls(config, *(tensors[name].numpy() for name in ("items", "times_ms", "before")))
