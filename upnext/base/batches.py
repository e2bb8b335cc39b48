"""What models read and write: events, histories, requests, candidates, states. All are frozen.

Shape letters: N events, B rows of a batch, L history length, C candidates, V catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.errors import BadBatch
from upnext.base.ids import PADDING
from upnext.base.views import ALL

__all__ = [
    "CORE",
    "NO_ITEMS",
    "Candidates",
    "Column",
    "Events",
    "ItemTable",
    "Layout",
    "Request",
    "SequenceBatch",
    "State",
]

CORE = ("item", "item_hash", "time_ms", "order", "request")
"""The columns that every event has."""


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _to(part, device) for name, part in value.items()}
    return value.to(device) if isinstance(value, OnDevice) else value


@dataclass(frozen=True)
class OnDevice:
    """Frozen tensors that move to a device together."""

    def to(self, device: torch.device) -> Self:
        """Copy every tensor to the device."""
        return replace(self, **{part.name: _to(getattr(self, part.name), device) for part in fields(self)})


@dataclass(frozen=True)
class Column(OnDevice):
    """Values with the mask of what was observed: missing is not zero."""

    values: Tensor
    observed: Tensor

    def take(self, rows: Tensor) -> "Column":
        """Select rows, repeats allowed."""
        return Column(self.values[rows], self.observed[rows])


@dataclass(frozen=True)
class FlatColumn:
    """A column of flat events: values (N,) and observed (N,) bool; unobserved values are 0."""

    values: NDArray[Any]
    observed: NDArray[np.bool_]


@dataclass(frozen=True)
class Layout(OnDevice):
    """Where the tokens of a right-padded batch sit: what layers know besides their input.

    `event` numbers a row's tokens; `request` is equal for tokens that must not see each other's item or
    feedback; `time_ms` is int64 UTC. `visible` (B, L, P + L) bool says which of P cached and L own tokens each token
    may see; None means itself and everything before it, less, with `siblings_apart`, the tokens of other events of its
    own request.
    """

    lengths: Tensor
    time_ms: Tensor
    event: Tensor
    request: Tensor
    visible: Tensor | None = None
    siblings_apart: bool = False

    @property
    def mask(self) -> Tensor:
        """(B, L) bool: true at real tokens."""
        return torch.arange(self.event.shape[1], device=self.lengths.device) < self.lengths[:, None]


@dataclass(frozen=True)
class SequenceBatch(OnDevice):
    """Histories of B users, right-padded to L: (B, L) tensors, zero at padding.

    `request` groups siblings: rows of one request or one instant share a number, and numbers never fall along
    a row. `columns` holds contexts and feedback under their full names. `views` are boolean masks
    such as `watched`.
    """

    lengths: Tensor
    item: Tensor
    item_hash: Tensor
    time_ms: Tensor
    order: Tensor
    request: Tensor
    columns: Mapping[str, Column] = field(default_factory=dict)
    views: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def mask(self) -> Tensor:
        """(B, L) bool: true at real events."""
        return torch.arange(self.item.shape[1], device=self.lengths.device) < self.lengths[:, None]

    @property
    def layout(self) -> Layout:
        """The layout of one token per event; positions count from the chunk's start."""
        event = torch.arange(self.item.shape[1], device=self.item.device).expand_as(self.item)
        return Layout(self.lengths, self.time_ms, event, self.request)

    @property
    def num_visible(self) -> Tensor:
        """(B, L) int64: how many events of the row lie before the request that each event belongs to.

        This is what a prediction of the event may look at: every earlier event but its siblings.
        """
        is_first = torch.ones_like(self.request, dtype=torch.bool)
        is_first[:, 1:] = self.request[:, 1:] != self.request[:, :-1]
        start = torch.where(is_first, self.layout.event, 0)
        return torch.cummax(start, dim=1).values if start.shape[1] else start

    def view(self, name: str) -> "SequenceBatch":
        """Gather the events of a view into a right-padded batch of their own.

        Raises:   BadBatch: the batch has no such view.
        """
        if name == ALL:
            return self
        if name not in self.views:
            raise BadBatch(f"no view {name!r} in this batch; it has {sorted({ALL, *self.views})}")
        selected = self.views[name] & self.mask
        return self if bool((selected == self.mask).all()) else self._gather(selected)

    def first(self, length: int) -> "SequenceBatch":
        """Keep the first `length` events of each row."""
        return SequenceBatch(
            lengths=self.lengths.clamp(max=length),
            **{name: getattr(self, name)[:, :length] for name in CORE},
            columns={n: Column(c.values[:, :length], c.observed[:, :length]) for n, c in self.columns.items()},
            views={name: view[:, :length] for name, view in self.views.items()},
        )

    def last(self, length: int) -> "SequenceBatch":
        """Keep the last `length` events of each row."""
        if self.item.shape[1] <= length:
            return self
        event = self.layout.event
        return self._gather(self.mask & (event >= self.lengths[:, None] - length))

    def _gather(self, selected: Tensor) -> "SequenceBatch":
        lengths = selected.sum(1)
        # A stable sort puts the selected events first and keeps their order.
        order = torch.sort((~selected).to(torch.int8), dim=1, stable=True).indices
        order = order[:, : int(lengths.max()) if len(lengths) else 0]
        keep = torch.arange(order.shape[1], device=order.device) < lengths[:, None]

        def pick(values: Tensor) -> Tensor:
            picked = values.gather(1, order)
            return picked.masked_fill(~keep, 0)

        return SequenceBatch(
            lengths=lengths,
            **{name: pick(getattr(self, name)) for name in CORE},
            columns={name: Column(pick(c.values), pick(c.observed)) for name, c in self.columns.items()},
            views={name: pick(view) for name, view in self.views.items()},
        )


@dataclass(frozen=True)
class Events:
    """Events as flat arrays (N,): memory-mapped from a log, or a few rows from a store.

    Within one user they are sorted by (time, order), and `request` groups siblings as in `SequenceBatch`.
    """

    item: NDArray[np.int64]
    item_hash: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    order: NDArray[np.int64]
    request: NDArray[np.int64]
    columns: Mapping[str, FlatColumn] = field(default_factory=dict)
    views: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: NDArray[Any] | slice) -> "Events":
        """Select rows by index, mask or slice."""
        return Events(
            **{name: getattr(self, name)[rows] for name in CORE},
            columns={n: FlatColumn(c.values[rows], c.observed[rows]) for n, c in self.columns.items()},
            views={name: view[rows] for name, view in self.views.items()},
        )

    def without_columns(self) -> "Events":
        """Drop contexts and feedback: models of item ids alone need not gather them."""
        return replace(self, columns={})

    def batch(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> SequenceBatch:
        """Gather the ranges [start, end) into a right-padded batch, one row per range.

        Args:     starts, ends: (B,) int64 with 0 <= start <= end <= N.
        Returns:  a SequenceBatch as long as the longest range; empty ranges give empty rows.
        """
        lengths = ends - starts
        steps = np.arange(lengths.max(initial=0))
        keep = steps < lengths[:, None]
        index = np.where(keep, starts[:, None] + steps, 0)

        def pick(values: NDArray[Any]) -> Tensor:
            if len(values) == 0:
                return torch.zeros(index.shape, dtype=torch.from_numpy(np.empty(0, values.dtype)).dtype)
            picked = values[index]
            picked[~keep] = PADDING
            return torch.from_numpy(picked)

        return SequenceBatch(
            lengths=torch.from_numpy(lengths),
            **{name: pick(getattr(self, name)) for name in CORE},
            columns={name: Column(pick(c.values), pick(c.observed)) for name, c in self.columns.items()},
            views={name: pick(view) for name, view in self.views.items()},
        )

    @staticmethod
    def concatenate(parts: Sequence["Events"]) -> "Events":
        """Join events that have the same columns and views.

        Raises:   BadBatch: their columns or views differ.
        """
        first = parts[0]
        for part in parts[1:]:
            if part.columns.keys() != first.columns.keys() or part.views.keys() != first.views.keys():
                raise BadBatch(
                    f"events with columns {sorted(part.columns)} and views {sorted(part.views)} cannot follow events"
                    f" with columns {sorted(first.columns)} and views {sorted(first.views)}"
                )
        return Events(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in CORE},
            columns={
                name: FlatColumn(
                    np.concatenate([part.columns[name].values for part in parts]),
                    np.concatenate([part.columns[name].observed for part in parts]),
                )
                for name in first.columns
            },
            views={name: np.concatenate([part.views[name] for part in parts]) for name in first.views},
        )


@dataclass(frozen=True)
class Request(OnDevice):
    """Who asks, when and where: (B,) tensors. Nothing here was learnt after the item was chosen."""

    time_ms: Tensor
    user: Tensor
    context: Mapping[str, Column] = field(default_factory=dict)
    features: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ms)

    def take(self, rows: Tensor) -> "Request":
        """Select rows, repeats allowed."""

        def pick(columns: Mapping[str, Column]) -> dict[str, Column]:
            return {name: column.take(rows) for name, column in columns.items()}

        return Request(self.time_ms[rows], self.user[rows], pick(self.context), pick(self.features))


@dataclass(frozen=True)
class Candidates(OnDevice):
    """Items to score for each request: (B, C) dense ids, their hashes, and a mask of the real ones."""

    item: Tensor
    item_hash: Tensor
    mask: Tensor
    features: Mapping[str, Column] = field(default_factory=dict)


@dataclass(frozen=True)
class ItemTable(OnDevice):
    """Items with everything a model may know of them: dense ids (V,), hashes (V,), features (V, ...).

    An item outside the vocabulary has the dense id 1 and still its own hash and features.
    """

    item: Tensor
    item_hash: Tensor
    features: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: Tensor) -> "ItemTable":
        """Select rows, repeats allowed."""
        features = {name: column.take(rows) for name, column in self.features.items()}
        return ItemTable(self.item[rows], self.item_hash[rows], features)


NO_ITEMS = ItemTable(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
"""The catalogue of who has none: students over files read features of candidates alone."""


@dataclass(frozen=True)
class State(OnDevice):
    """What a model keeps of B histories; it saw no request, so it can be stored and used later."""

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def take(self, rows: Tensor) -> "State":
        """Select rows, repeats allowed."""
        return State({name: tensor[rows] for name, tensor in self.tensors.items()})

    @staticmethod
    def concatenate(states: Sequence["State"]) -> "State":
        """Join states of one model; where they differ in their second size they are padded with zeros."""

        def join(tensors: list[Tensor]) -> Tensor:
            if tensors[0].dim() > 1 and len({tensor.shape[1] for tensor in tensors}) > 1:
                longest = max(tensor.shape[1] for tensor in tensors)
                tensors = [
                    torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], dim=1)
                    for part in tensors
                ]
            return torch.cat(tensors)

        return State({name: join([state.tensors[name] for state in states]) for name in states[0].tensors})
