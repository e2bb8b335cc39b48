"""Embeddings of high-cardinality values: one hashed matrix for all features, or a plain table for each.

Values are signed 64-bit hashes of external values, as `base.ids.stable_hash` makes them; they never pass through a
float. Shape letters: N things, M values of a thing, R rows, E width, K hashes.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from upnext.base.configuration import Config
from upnext.base.ids import stable_hash
from upnext.nn.slots import slot

__all__ = [
    "Embeddings",
    "EmbeddingsConfig",
    "HashedConfig",
    "HashedEmbeddings",
    "Lookup",
    "PlainConfig",
    "PlainEmbeddings",
]

_STD = 0.02

Lookup = tuple[str, Tensor, Tensor | None]
"""A feature, values (N, M), and which of them were observed; None for all."""


class HashedConfig(Config):
    """One matrix that all features share; a value reads the sum of several of its rows."""

    kind: Literal["hashed"] = "hashed"
    rows: Annotated[int, Field(ge=1, le=2**31)] = 65_536
    """Rows of the matrix; a few times the number of distinct values keeps collisions rare."""
    hashes: Annotated[int, Field(ge=1, le=8)] = 3
    """Rows that a value reads: two values are confused only where all of theirs coincide."""
    sparse: bool = False
    """Sparse gradients: a step then costs what the batch touches, not what the matrix holds."""


class PlainConfig(Config):
    """A table per feature with a row for every value that the log knows, and one for all others."""

    kind: Literal["plain"] = "plain"


EmbeddingsConfig = Annotated[HashedConfig | PlainConfig, Field(discriminator="kind")]


class HashedEmbeddings(nn.Module):
    """Unified embeddings: every feature's values share one matrix, told apart by a salt made of the feature's name.

    A value that was never trained still has a vector: the sum of rows that other values train, and of rows that
    nobody does, which are small.

    Source:   Coleman et al. 2023, "Unified Embedding"; K rows by K salted hashes, summed.
    """

    def __init__(self, config: HashedConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.table = nn.EmbeddingBag(config.rows, width, mode="sum", sparse=config.sparse)
        nn.init.trunc_normal_(self.table.weight, std=_STD / config.hashes**0.5)

    def rows(self, feature: str, values: Int[Tensor, "*N"]) -> Int[Tensor, "*N K"]:
        """The K rows that each value of a feature reads."""
        salts = [stable_hash(f"{feature}#{number}") for number in range(self.config.hashes)]
        mixed = _mix(values[..., None] ^ torch.tensor(salts, device=values.device))
        return (mixed & _POSITIVE) % self.config.rows

    def forward(
        self, feature: str, values: Int[Tensor, "N M"], observed: Bool[Tensor, "N M"] | None = None
    ) -> Float[Tensor, "N E"]:
        """The mean over a thing's observed values, each the sum of its rows; zeros where none is observed."""
        return self.sum_of([(feature, values, observed)])

    def sum_of(self, lookups: Sequence[Lookup]) -> Float[Tensor, "N E"]:
        """The sum of what several features give for the same things: one reading of the matrix for all of them.

        A gradient has then one part. Where gradients are sparse, adding up several cost more than all else.
        """
        rows, weights, K = [], [], self.config.hashes
        for feature, values, observed in lookups:
            rows.append(self.rows(feature, values).flatten(1))
            shares = torch.full(values.shape, 1 / values.shape[1], device=values.device)
            weights.append((shares if observed is None else _shares(observed)).repeat_interleave(K, dim=1))
        all_are_one = all(observed is None and values.shape[1] == 1 for _, values, observed in lookups)
        read, weight = torch.cat(rows, 1), None if all_are_one else torch.cat(weights, 1)
        if not (self.config.sparse and torch.is_grad_enabled()):
            out: Tensor = self.table(read, per_sample_weights=weight)
            return out
        # Words recur: a sparse gradient then has one part for each row that was read, not for each reading.
        distinct, place = torch.unique(read, return_inverse=True)
        vectors = F.embedding(distinct, self.table.weight, sparse=True)
        return F.embedding_bag(place, vectors, mode="sum", per_sample_weights=weight)


class PlainEmbeddings(nn.Module):
    """One table per feature; row 0 stands for every value that was not known when the model was made.

    Args:     known: per feature, its distinct values: (n,) int64 hashes in any order.
    """

    def __init__(self, known: Mapping[str, Int[Tensor, " n"]], width: int) -> None:
        super().__init__()
        self.width = width
        self.tables = nn.ModuleDict()
        for feature, values in known.items():
            self._know(slot(feature), torch.unique(values))

    def _know(self, kept: str, distinct: Int[Tensor, " n"]) -> None:
        """Begin a table for values in rising order, kept in the feature's slot."""
        self.register_buffer(f"known_{kept}", distinct)
        table = nn.EmbeddingBag(len(distinct) + 1, self.width, mode="sum")
        nn.init.trunc_normal_(table.weight, std=_STD)
        self.tables[kept] = table

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Take the values that were known when the model was made, whatever the catalogue holds by now."""
        for kept in self.tables:
            if (known := state_dict.get(f"{prefix}known_{kept}")) is not None:
                self._know(kept, torch.empty_like(known))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def rows(self, feature: str, values: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        """The row of each value: 1 + its place among the known ones, 0 for an unknown one."""
        known = self.get_buffer(f"known_{slot(feature)}")
        if not len(known):
            return torch.zeros_like(values)
        place = torch.searchsorted(known, values).clamp(max=len(known) - 1)
        return torch.where(known[place] == values, place + 1, 0)

    def forward(
        self, feature: str, values: Int[Tensor, "N M"], observed: Bool[Tensor, "N M"] | None = None
    ) -> Float[Tensor, "N E"]:
        """The mean over a thing's observed values; zeros where none is observed."""
        weights = _shares(torch.ones_like(values, dtype=torch.bool) if observed is None else observed)
        out: Tensor = self.tables[slot(feature)](self.rows(feature, values), per_sample_weights=weights)
        return out

    def sum_of(self, lookups: Sequence[Lookup]) -> Float[Tensor, "N E"]:
        """The sum of what several features give for the same things."""
        return torch.stack([self(*lookup) for lookup in lookups]).sum(0)


Embeddings = HashedEmbeddings | PlainEmbeddings


def _shares(observed: Bool[Tensor, "N M"]) -> Float[Tensor, "N M"]:
    """Weights that make a sum the mean over what is observed."""
    return observed / observed.sum(1, keepdim=True).clamp(min=1)


_POSITIVE = (1 << 63) - 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _mix(x: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
    """Scramble 64-bit integers: the finaliser of splitmix64 (Steele et al. 2014); products wrap around."""
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: Int[Tensor, "*N"], bits: int) -> Int[Tensor, "*N"]:
    """Shift right without dragging the sign along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
