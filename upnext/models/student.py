"""Students: small rankers over the features of candidates alone, quick enough to answer for hundreds at once.

    linear       numbers and categories, added up
    mlp          layers over all of them
    towers       a vector of the request and one of each candidate; their dot product, and what each adds by itself

Shape letters: B requests or sets, N candidates, F features, D width, V values of a category.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from upnext.base.batches import Candidates, Column, FlatColumn, Request, SequenceBatch, State
from upnext.base.configuration import Config
from upnext.base.errors import BadBatch, BadConfig
from upnext.base.protocols import Link
from upnext.base.views import ALL
from upnext.features.aggregates import Aggregate
from upnext.features.quantiles import quantiles_of
from upnext.models.trees import told_apart
from upnext.nn.quantiles import QuantileNumbers, powers, stacked

__all__ = ["LayersConfig", "LinearConfig", "Student", "StudentConfig", "StudentInputs", "TowersConfig", "inputs_of"]

_Widths = list[Annotated[int, Field(ge=1, le=65_536)]]


class _FeaturesConfig(Config):
    """What every student over features reads."""

    ignore: list[str] = []
    """Of the examples' features, what it does not read: what only the teacher may see."""
    width: Annotated[int, Field(ge=1, le=4096)] = 8
    """Width of the vector of a category's value."""
    most_categories: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Of each category the most frequent values are told apart; the others count as missing."""


class LinearConfig(_FeaturesConfig):
    """A sum over the features."""

    kind: Literal["linear"] = "linear"


class LayersConfig(_FeaturesConfig):
    """Layers with ReLU over the features."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[_Widths, Field(min_length=1)] = [32]
    """The widths of the layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of activations dropped in training."""


class TowersConfig(_FeaturesConfig):
    """A tower for what belongs to the request and one for what belongs to the candidate; their dot product."""

    kind: Literal["towers"] = "towers"
    hidden: _Widths = [32]
    """The widths of each tower's layers."""
    dimensions: Annotated[int, Field(ge=1, le=4096)] = 16
    """The length of the vectors that are multiplied."""


StudentConfig = LinearConfig | LayersConfig | TowersConfig


class StudentInputs(Config):
    """What a student reads and what it says; saved with it."""

    numbers: list[str]
    categories: dict[str, int]
    """By name, how many values are told apart."""
    of_request: list[str] = []
    """Those that all candidates of a request share."""
    aggregates: list[Aggregate] = []
    """Those that are aggregates."""
    component: str
    link: Link


@dataclass(frozen=True)
class _Known:
    """What the training part says of the features: quantiles of numbers, (F, Q), and the values of categories."""

    bounds: Tensor
    values: Mapping[str, Tensor]


class _Reader(nn.Module):
    """Some features as one vector per candidate: ranks of numbers with their powers, embeddings of categories."""

    def __init__(self, inputs: StudentInputs, names: Sequence[str], width: int) -> None:
        super().__init__()
        places = [
            [place for place, name in enumerate(of) if name in names] for of in (inputs.numbers, inputs.categories)
        ]
        self.rows, self.codes = (torch.tensor(of, dtype=torch.int64) for of in places)
        self.is_whole = len(places[0]) == len(inputs.numbers)
        sizes = list(inputs.categories.values())
        self.tables = nn.ModuleList(nn.Embedding(sizes[place] + 1, width) for place in places[1])
        self.width = 4 * len(places[0]) + width * len(places[1])
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.05)  # type: ignore[arg-type]

    def forward(self, ranks: Float[Tensor, "*B F"], codes: Int[Tensor, "*B G"]) -> Float[Tensor, "*B width"]:
        """Read ranks, -1 where a number was not observed, and codes, 0 where a value is not known."""
        r = ranks if self.is_whole else ranks[..., self.rows]
        parts = [powers(Column(r, r >= 0)).flatten(-2)]
        return torch.cat(
            [*parts, *(table(codes[..., n]) for n, table in zip(self.codes, self.tables, strict=True))], -1
        )


class Student(nn.Module):
    """A small ranker over the features of candidates: one raw score each, of what its teacher and labels were about.

    It has no history: what it knows of the past comes as features, computed for the moment of the request.
    """

    def __init__(self, config: StudentConfig, inputs: StudentInputs, known: _Known) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.network: Callable[[Tensor, Tensor], Tensor] | None = None
        """Answers in place of `forward` where somebody is served: the same, compiled."""
        self.numbers = QuantileNumbers(inputs.numbers, known.bounds)
        self.values: list[str] = [f"values_{number}" for number in range(len(inputs.categories))]
        for slot, name in zip(self.values, inputs.categories, strict=True):
            self.register_buffer(slot, known.values[name])
        names = [*inputs.numbers, *inputs.categories]
        if isinstance(config, TowersConfig):
            sides = [[n for n in names if (n in inputs.of_request) == asked] for asked in (True, False)]
            readers = [_Reader(inputs, side, config.width) for side in sides]
            wide = config.dimensions + 1  # one for what a side adds by itself
            towers = [_layers([reader.width, *config.hidden, wide], 0.0) for reader in readers]
        else:
            readers = [_Reader(inputs, names, config.width)]
            hidden, dropout = (config.hidden, config.dropout) if isinstance(config, LayersConfig) else ([], 0.0)
            towers = [_layers([readers[0].width, *hidden, 1], dropout)]
        self.readers, self.towers = nn.ModuleList(readers), nn.ModuleList(towers)

    @classmethod
    def fresh(
        cls, config: StudentConfig, inputs: StudentInputs, features: Mapping[str, FlatColumn], base: float
    ) -> "Student":
        """A new one, with what the training part says of the features; it begins with `base` for everybody."""
        bounds = torch.from_numpy(quantiles_of({name: features[name] for name in inputs.numbers}))
        values = {name: torch.from_numpy(told_apart(features[name], size)) for name, size in inputs.categories.items()}
        student = cls(config, inputs, _Known(bounds, values))
        with torch.no_grad():
            last = student.towers[-1][-1]  # type: ignore[index]
            assert isinstance(last, nn.Linear)
            last.bias[-1] = base
        return student

    @classmethod
    def from_tensors(cls, config: StudentConfig, inputs: StudentInputs, tensors: Mapping[str, Tensor]) -> "Student":
        """The student whose tensors these are, in evaluation mode."""
        bounds = torch.zeros_like(tensors["numbers.bounds"])
        values = {name: torch.zeros(size, dtype=torch.int64) for name, size in inputs.categories.items()}
        student = cls(config, inputs, _Known(bounds, values))
        student.load_state_dict(dict(tensors))
        return student.eval()

    @torch.no_grad()
    def rescale(self, scale: float, shift: float) -> None:
        """Make every score s into scale · s + shift: it becomes a part of the last layers."""
        last: nn.Linear
        for tower in self.towers:
            last = tower[-1]  # type: ignore[index]
            # What a tower of requests adds by itself; its vector meets the other tower's, which is scaled.
            rows = slice(None) if tower is self.towers[-1] else slice(-1, None)
            last.weight[rows] *= scale
            last.bias[rows] *= scale
        last.bias[-1] += shift

    @property
    def view(self) -> str:
        """It reads no events."""
        return ALL

    @property
    def max_length(self) -> int:
        """It reads no history."""
        return 0

    @property
    def components(self) -> Mapping[str, Link]:
        """The one thing that it puts out, with its link."""
        return {self.inputs.component: self.inputs.link}

    @property
    def reads(self) -> list[str]:
        """The columns of candidates that it reads."""
        return [*self.inputs.numbers, *self.inputs.categories]

    @property
    def aggregates(self) -> list[Aggregate]:
        """Those of them that are aggregates."""
        return self.inputs.aggregates

    def encode(self, histories: SequenceBatch) -> State:
        """Nothing to remember."""
        return State({"nothing": torch.zeros(len(histories), 0)})

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Float[Tensor, "B N"]]:
        """Raw scores of candidates; where the mask is false they mean nothing.

        Raises:   BadBatch: the candidates lack a feature.
        """
        network = self.network or self
        return {self.inputs.component: network(*self.digest(candidates.features, candidates.item.shape))}

    def digest(self, features: Mapping[str, Column], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What it reads of things of some shape (…,): ranks of numbers (…, F) and codes of categories (…, G).

        Raises:   BadBatch: a feature is missing.
        """
        for name in self.reads:
            if name not in features:
                raise BadBatch(f"the student reads the feature {name!r}; the candidates have {sorted(features)}")
        ranks, codes = torch.zeros(*shape, 0), torch.zeros(*shape, 0, dtype=torch.int64)
        if self.inputs.numbers:
            found = self.numbers.ranks(features, shape)
            ranks = torch.where(found.observed, found.values, -1.0).t().reshape(*shape, -1)
        if self.inputs.categories:
            read, sizes = [features[name] for name in self.inputs.categories], list(self.inputs.categories.values())
            values = stacked([column.values.long() for column in read], shape)
            place = torch.searchsorted(self._known_values, values)
            is_known = stacked([column.observed for column in read], shape) & (place < torch.tensor(sizes)[:, None])
            is_known &= self._known_values.gather(1, place) == values
            codes = torch.where(is_known, place + 1, 0).t().reshape(*shape, -1)
        return ranks, codes

    @cached_property
    def _known_values(self) -> Int[Tensor, "G most"]:
        """The values of categories that are told apart, rising; then the largest number, so that each is found."""
        known = [self.get_buffer(slot) for slot in self.values]
        table = torch.full((len(known), 1 + max(map(len, known))), torch.iinfo(torch.int64).max)
        for row, values in zip(table, known, strict=True):
            row[: len(values)] = values
        return table

    def forward(self, ranks: Float[Tensor, "B N F"], codes: Int[Tensor, "B N G"]) -> Float[Tensor, "B N"]:
        """Raw scores of candidates, from what `digest` gives."""
        if len(self.towers) == 1:
            alone: Tensor = self.towers[0](self.readers[0](ranks, codes)).squeeze(-1)
            return alone
        request = self.towers[0](self.readers[0](ranks[:, :1], codes[:, :1]))
        item = self.towers[1](self.readers[1](ranks, codes))
        product = (request[..., :-1] * item[..., :-1]).sum(-1) / (item.shape[-1] - 1) ** 0.5
        total: Tensor = product + request[..., -1] + item[..., -1]
        return total


def inputs_of(
    config: StudentConfig,
    features: Mapping[str, FlatColumn],
    of_request: Sequence[str],
    aggregates: Sequence[Aggregate],
    component: str,
    link: Link,
) -> StudentInputs:
    """What a student reads of the training part's features.

    Raises:   BadConfig: it ignores what there is not, or reads nothing, or a tower has nothing to read.
    """
    for name in config.ignore:
        if name not in features:
            raise BadConfig(f"student.ignore names {name!r}; the examples have the features {sorted(features)}")
    read = {name: column for name, column in features.items() if name not in config.ignore}
    if not read:
        raise BadConfig("the student has nothing to read: ignore fewer features, or give the examples more")
    if isinstance(config, TowersConfig) and not 0 < len(read.keys() & set(of_request)) < len(read):
        raise BadConfig(
            "two towers need features of the request and features of candidates; the examples have of the request"
            f" {sorted(read.keys() & set(of_request))}, of {sorted(read)}"
        )
    values = {name: told_apart(column, config.most_categories) for name, column in read.items()}
    return StudentInputs(
        numbers=[name for name, known in values.items() if known is None],
        categories={name: len(known) for name, known in values.items() if known is not None},
        of_request=[name for name in of_request if name in read],
        aggregates=[aggregate for aggregate in aggregates if aggregate.name in read],
        component=component,
        link=link,
    )


def _layers(widths: Sequence[int], dropout: float) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        parts += [nn.Linear(before, after), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*parts, nn.Linear(widths[-2], widths[-1]))
