"""Every interface in Upnext. Implementations live in the rooms; contract tests hold them to these words.

Shape letters: B rows of a batch, C candidates, V catalogue, D vector width, k answers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Protocol, Self, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.batches import Candidates, ItemTable, Request, SequenceBatch, State
from upnext.base.schema import FeedbackKind
from upnext.base.selection import Parts

__all__ = [
    "LINKS",
    "EncodesPrefixes",
    "Index",
    "Link",
    "Model",
    "Objective",
    "Ranker",
    "Retriever",
    "Store",
    "TrainingBatch",
    "VectorRetriever",
    "expectation",
    "lag_of",
    "offsets_of",
    "prefixes_of",
]


@runtime_checkable
class Model(Protocol):
    """Turns histories into states. It reads the events of one view, the last `max_length` of them."""

    @property
    def view(self) -> str:
        """The view of the log that it reads."""
        ...

    @property
    def max_length(self) -> int:
        """The longest history that changes its answer, in events of its view."""
        ...

    def encode(self, histories: SequenceBatch) -> State:
        """Encode histories, of any length (0 included), into a state per row."""
        ...


def lag_of(model: Model) -> int | None:
    """How old a model's states are when they are used: its `lag_ms`, if it has one.

    It then knows only events strictly before the request's time - lag, so 0 leaves out those of the same instant.
    None for a model that reads everything before the request.
    """
    lag_ms: int | None = getattr(model, "lag_ms", None)  # to look for a protocol's methods would take much longer
    return lag_ms


class EncodesPrefixes(Model, Protocol):
    """A causal model: one pass over a history gives what `encode` would make of each of its beginnings."""

    def encode_prefixes(self, histories: SequenceBatch, row: Tensor, count: Tensor) -> State:
        """The states after the first `count` (n,) events of rows `row` (n,); at most `max_length` events per row."""
        ...


def prefixes_of(model: Model) -> EncodesPrefixes | None:
    """A model as one that encodes prefixes; None if it cannot, as its `shares_prefixes` says."""
    return cast("EncodesPrefixes", model) if getattr(model, "shares_prefixes", False) else None


@runtime_checkable
class Retriever(Model, Protocol):
    """Chooses items from the whole catalogue."""

    def score(self, state: State, request: Request, items: Tensor) -> Tensor:
        """Score items for each request; larger is better.

        Args:     items: (B, C) or (1, C) int64 dense ids.
        Returns:  (B, C) float32; -inf where the model cannot score an item (it never saw it).
        """
        ...

    def top_k(self, state: State, request: Request, k: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Choose the k best items.

        Args:     allowed: (B, V) or (1, V) bool by dense id; None allows every real item.
        Returns:  items (B, k) int64 and scores (B, k) float32 in falling order; where fewer than k items can be
                  had, the item is 0 and the score -inf.
        """
        ...


@runtime_checkable
class VectorRetriever(Retriever, Protocol):
    """A retriever whose score is a dot product, so that an index can answer `top_k`; see also `offsets_of`."""

    def query_vectors(self, state: State, request: Request) -> Tensor:
        """(B, D) float32."""
        ...

    def item_vectors(self, items: ItemTable) -> Tensor:
        """(V, D) float32, a row for each row of the table; zeros for an item that cannot be scored."""
        ...

    def can_score(self, items: ItemTable) -> Tensor:
        """(V,) bool: the items whose vector means something."""
        ...


def offsets_of(model: VectorRetriever, state: State, request: Request) -> Tensor | None:
    """What a model adds to its dot products, by dense id: its `offsets`, a row per request or one for all.

    None for a model whose score is the dot product alone.
    """
    offsets: Callable[[State, Request], Tensor | None] | None = getattr(model, "offsets", None)
    return None if offsets is None else offsets(state, request)


class Link(Enum):
    """How a component's raw output becomes an expectation; ORDER_ONLY never enters one."""

    SIGMOID = "sigmoid"
    IDENTITY = "identity"
    EXP = "exp"
    ORDER_ONLY = "order_only"


LINKS: Mapping[FeedbackKind, Link] = {"binary": Link.SIGMOID, "fraction": Link.SIGMOID, "amount": Link.EXP}
"""The link of what predicts a feedback, by its kind."""


def expectation(output: Tensor, link: Link) -> Tensor:
    """Turn a component's raw output into what it expects; an order has no expectation and stays as it is."""
    if link is Link.SIGMOID:
        return output.sigmoid()
    return output.exp() if link is Link.EXP else output


@runtime_checkable
class Ranker(Model, Protocol):
    """Predicts what a user would do with each candidate."""

    @property
    def components(self) -> Mapping[str, Link]:
        """What it predicts, with the link of each."""
        ...

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Tensor]:
        """Raw outputs (B, C) per component; masked candidates may hold anything finite."""
        ...


class TrainingBatch(Protocol):
    """What one step of training reads."""

    @property
    def lengths(self) -> Tensor:
        """(B,) events per row."""
        ...

    def to(self, device: torch.device) -> Self:
        """Copy every tensor to the device."""
        ...


_Batch = TypeVar("_Batch", contravariant=True)


class Objective(Protocol[_Batch]):
    """What training minimises: named terms, each as (sum, weight), so that parts of a batch add up exactly."""

    def __call__(self, batch: _Batch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The term's value is sum / weight; both are 0-d tensors."""
        ...


class Store(Protocol):
    """A durable map of bytes to bytes with ordered keys. What `put` returned from survives a crash."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none."""
        ...

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Write all of them or none; durable when it returns."""
        ...

    def delete(self, keys: Sequence[bytes]) -> None:
        """Forget keys, all or none; unknown ones are ignored."""
        ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with the prefix, ascending, with their values, as of the moment of the call."""
        ...

    def close(self) -> None:
        """Give back what it holds; a second call does nothing."""
        ...


class Index(Protocol):
    """Nearest neighbours by dot product over vectors numbered 0 … V-1."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        excluded: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        offsets: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k rows with the largest dot product.

        Args:     queries: (B, D); allowed: (B, V) or (1, V), None for all; excluded: two (n,) arrays, query numbers
                  in rising order and the row that each may not have: a few of many need no mask; offsets: (B, W) or
                  (1, W) float32, added to the dot products with the first W rows: an index that does not look at
                  every row cannot have them, and refuses them.
        Returns:  rows (B, k), -1 where there are fewer, and scores (B, k), -inf there; falling order, ties by
                  the lower row.
        """
        ...

    def search_parts(
        self,
        queries: NDArray[np.float32],
        k: int,
        parts: Parts,
        excluded: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        offsets: NDArray[np.float32] | None = None,
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the k rows with the largest dot product within each of several sets of rows: a page asks so.

        Args:     parts: sets of row numbers; the others as `search` has them.
        Returns:  for each set what `search` gives with only its rows allowed.
        """
        ...
