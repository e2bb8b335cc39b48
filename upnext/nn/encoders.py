"""Encoders of an event's three parts (context, item, feedback) into vectors.

Shape letters: B rows, L events, V items, M values of a feature, D width.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from upnext.base.batches import Column, ItemTable
from upnext.base.configuration import Config
from upnext.base.schema import FeatureKind, FeedbackKind, Schema, context_column, feedback_column
from upnext.nn.embeddings import Embeddings, Lookup
from upnext.nn.slots import slot

__all__ = [
    "LOOKED_UP",
    "NUM_GAPS",
    "ContextEncoder",
    "FeedbackEncoder",
    "Inputs",
    "ItemEncoder",
    "UserEncoder",
    "gap_bucket",
    "looked_up",
    "lookup",
]

_ITEM = "item"
LOOKED_UP = ("categorical", "multi", "text")
"""The kinds of features whose values have embeddings."""
NUM_GAPS = 64
_FRACTION_STEPS = 10
_AMOUNT_STEPS = 40


class Inputs(Config):
    """What a log offers to a model; saved with the model, so that it is never fed with another log's columns."""

    has_times: bool
    """Without times no gaps between events are read."""
    contexts: dict[str, int]
    """Per context the number of its codes, or 0 for a number."""
    feedback: dict[str, FeedbackKind]
    item_features: dict[str, FeatureKind]
    vector_widths: dict[str, int] = {}
    """The width of each item feature that is a vector."""

    @classmethod
    def of(cls, schema: Schema, contexts: Mapping[str, int], items: ItemTable) -> "Inputs":
        """What a log offers; `contexts` gives the number of codes of each context, 0 for a number."""
        vectors = [name for name, kind in schema.item_features.items() if kind == "vector"]
        return cls(
            has_times=schema.has_times,
            contexts=dict(contexts),
            feedback=schema.feedback,
            item_features=schema.item_features,
            vector_widths={name: items.features[name].values.shape[1] for name in vectors},
        )


def gap_bucket(gap_ms: Int[Tensor, "*B"], has_earlier: Tensor) -> Int[Tensor, "*B"]:
    """Bucket the time since the event before: 0 where there is none, else 1 + floor(ln(max(1, seconds)) / 0.301).

    Source:   HSTU's time buckets (Zhai et al. 2024), over seconds; the last bucket holds everything from 5 years on.
    """
    seconds = (gap_ms.clamp(min=0) // 1000).clamp(min=1).to(torch.float32)
    bucket = (seconds.log() / 0.301).floor().to(torch.int64).clamp(max=NUM_GAPS - 2)
    return torch.where(has_earlier, bucket + 1, 0)


class _Number(nn.Module):
    """A number as a vector: a linear map of x, x² and √|x|, or a learned vector where it was not observed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width)
        self.missing = nn.Parameter(torch.zeros(width))

    def forward(self, column: Column) -> Tensor:
        x = column.values.to(torch.float32)
        vector = self.linear(torch.stack([x, x * x, x.abs().sqrt()], dim=-1))
        return torch.where(column.observed[..., None], vector, self.missing)


class ContextEncoder(nn.Module):
    """The sum of a vector per context, and one for the time since the last event that may be seen."""

    def __init__(self, inputs: Inputs, width: int) -> None:
        super().__init__()
        self.sizes = dict(inputs.contexts)
        sizes = inputs.contexts.items()
        self.codes = nn.ModuleDict({slot(name): nn.Embedding(size, width) for name, size in sizes if size})
        self.numbers = nn.ModuleDict({slot(name): _Number(width) for name, size in sizes if not size})
        self.gap = nn.Embedding(NUM_GAPS, width) if inputs.has_times else None
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, columns: Mapping[str, Column], gap: Int[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
        """Encode contexts stored under their full names; `gap` comes from `gap_bucket`."""
        total = self.bias.expand(*gap.shape, -1)
        if self.gap is not None:
            total = total + self.gap(gap)
        for name, size in self.sizes.items():
            column = columns[context_column(name)]
            if size:
                # Codes that came into being after training count as unknown.
                code = torch.where(column.values < size, column.values, 1)
                total = total + self.codes[slot(name)](torch.where(column.observed, code, 0))
            else:
                squashed = column.values.sign() * column.values.abs().log1p()
                total = total + self.numbers[slot(name)](Column(squashed, column.observed))
        return total


class FeedbackEncoder(nn.Module):
    """The sum of a vector per feedback: by its value for binary ones, by steps for fractions and amounts."""

    def __init__(self, inputs: Inputs, width: int) -> None:
        super().__init__()
        sizes = {"binary": 3, "fraction": _FRACTION_STEPS + 2, "amount": _AMOUNT_STEPS + 2}
        self.kinds = dict(inputs.feedback)
        self.tables = nn.ModuleDict({slot(name): nn.Embedding(sizes[kind], width) for name, kind in self.kinds.items()})
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, columns: Mapping[str, Column], shape: torch.Size) -> Float[Tensor, "*B D"]:
        """Encode feedback stored under full names; row 0 of a table stands for what was not observed."""
        total = self.bias.expand(*shape, -1)
        for name, kind in self.kinds.items():
            column = columns[feedback_column(name)]
            step = torch.where(column.observed, 1 + _step(column.values, kind), 0)
            total = total + self.tables[slot(name)](step)
        return total


def _step(values: Tensor, kind: FeedbackKind) -> Int[Tensor, "*B"]:
    if kind == "binary":
        return (values >= 0.5).to(torch.int64)
    if kind == "fraction":
        return (values * _FRACTION_STEPS).round().to(torch.int64).clamp(0, _FRACTION_STEPS)
    # Amounts: two steps for each doubling.
    return (2 * values.clamp(min=0).log1p() / 0.6931).floor().to(torch.int64).clamp(0, _AMOUNT_STEPS)


class ItemEncoder(nn.Module):
    """The item tower: the id's embedding and those of its features, summed; a linear map and a small network on top.

    It sees nothing but the item, so its vectors can be computed once and stored.
    """

    def __init__(self, inputs: Inputs, embeddings: Embeddings, width: int) -> None:
        super().__init__()
        self.features = dict(inputs.item_features)
        self.embeddings = embeddings
        numeric = [name for name, kind in self.features.items() if kind == "numeric"]
        self.numbers = nn.ModuleDict({slot(name): _Number(width) for name in numeric})
        self.vectors = nn.ModuleDict(
            {slot(name): nn.Linear(size, width, bias=False) for name, size in inputs.vector_widths.items()}
        )
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.linear.weight)
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, items: ItemTable, known: Bool[Tensor, " V"] | None = None) -> Float[Tensor, "V D"]:
        """Encode items; rows of features that were not observed add nothing, nor do ids that are not `known`."""
        lookups: list[Lookup] = [(_ITEM, items.item_hash[:, None], None if known is None else known[:, None])]
        lookups += [lookup(name, items.features[name]) for name, kind in self.features.items() if kind in LOOKED_UP]
        total = self.embeddings.sum_of(lookups)
        for name, kind in self.features.items():
            column = items.features[name]
            if kind in LOOKED_UP:
                continue
            if kind == "numeric":
                total = total + self.numbers[slot(name)](column)
            else:
                total = total + self.vectors[slot(name)](column.values) * column.observed[:, None]
        out: Tensor = self.linear(total) + self.network(total)
        return out


class UserEncoder(nn.Module):
    """The sum of a vector per feature of a user; ids are no feature."""

    def __init__(self, features: Mapping[str, FeatureKind], widths: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.features = dict(features)
        numeric = [name for name, kind in features.items() if kind == "numeric"]
        self.numbers = nn.ModuleDict({slot(name): _Number(width) for name in numeric})
        self.vectors = nn.ModuleDict({slot(name): nn.Linear(size, width, bias=False) for name, size in widths.items()})
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, embeddings: Embeddings, columns: Mapping[str, Column], count: int) -> Float[Tensor, "B D"]:
        """Encode `count` users; features that were not observed add nothing, or, numbers, a vector of their own.

        Args:     embeddings: those of items, which one matrix may hold for all.
        """
        total = self.bias.expand(count, -1)
        read = [(self.known_as(name), columns[name]) for name, kind in self.features.items() if kind in LOOKED_UP]
        if read:
            total = total + embeddings.sum_of([lookup(*one) for one in read])
        for name, kind in self.features.items():
            column = columns[name]
            if kind in LOOKED_UP:
                continue
            if kind == "numeric":
                total = total + self.numbers[slot(name)](column)
            else:
                total = total + self.vectors[slot(name)](column.values) * column.observed[:, None]
        return total

    @staticmethod
    def known_as(name: str) -> str:
        """What the embeddings call a feature: one of items may have the same name."""
        return f"user.{name}"


def looked_up(embeddings: Embeddings, name: str, column: Column) -> Tensor:
    """The mean vector of what was observed of a feature, zeros where that is nothing."""
    vectors: Tensor = embeddings.sum_of([lookup(name, column)])
    return vectors


def lookup(name: str, column: Column) -> Lookup:
    """A feature as embeddings are asked for it."""
    if column.values.dim() == 1:
        return name, column.values[:, None], column.observed[:, None]
    return name, column.values, column.observed
