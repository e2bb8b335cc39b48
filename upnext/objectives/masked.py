"""Masked sub-model training: aggregators also learn what stood at positions that they could not see.

Nothing of it belongs to the model: what masks with, and what it is compared by, are the objective's own.

Shape letters: B sequences, L positions, N masked ones, D width, V items.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.losses.masked import max_margin_loss, same_sequence_loss
from upnext.models.main_model import Behaviour, MainModel, MainModelConfig
from upnext.nn.aggregators import SelfAttentionConfig
from upnext.objectives.ranking import OrderRanking, PointwiseRanking, RankingBatch
from upnext.objectives.softmax import FullSoftmaxConfig, SampledSoftmaxConfig, make_softmax, trained_rows
from upnext.sampling.masks import one_position, some_positions

__all__ = ["MaskedConfig", "MaskedTraining", "masked_aggregators"]


class MaxMarginConfig(Config):
    """The original is to be ahead of every other row of the table by a margin."""

    kind: Literal["max_margin"] = "max_margin"
    margin: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """By how much."""


class SameSequenceConfig(Config):
    """The softmax over the inputs of the same sequence alone."""

    kind: Literal["same_sequence"] = "same_sequence"


Compare = Annotated[
    FullSoftmaxConfig | SampledSoftmaxConfig | MaxMarginConfig | SameSequenceConfig, Field(discriminator="kind")
]


class MaskedConfig(Config):
    """How the self-attention aggregators learn from masked positions."""

    weight: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    """w₁ in L = w₁ · L_masked + L_ranking. At 0 positions are masked and nothing is learnt of them: a control."""
    mode: Literal["together", "in_turn", "only"] = "together"
    """Both losses of one pass, whose main output is computed from the masked features; by turns, step by step, the
    ranking loss then without masks; or the masked loss alone, as a pre-training for a ranker with `from`."""
    rate: Annotated[float, Field(gt=0, lt=1)] | Literal["one"] = 0.05
    """With what probability each position is masked; or `"one"`: exactly one of each sequence."""
    embedding: Literal["shared", "per_position", "random", "fixed"] = "shared"
    """What stands at a masked position, for the item and all that is known of the event: one learned vector; a learned
    one for each position; one drawn anew each time; one drawn once and never learned."""
    compare: Compare = FullSoftmaxConfig()
    """What the last feature at a masked position is compared with, by dot product: the whole embedding table, a sample
    of it, its nearest rival, or the inputs of its own sequence."""
    aggregators: list[str] | None = None
    """The aggregators that learn so, all self-attention. Unset: every aggregator of the model."""


def masked_aggregators(config: MaskedConfig, shape: MainModelConfig) -> list[str]:
    """The names of the aggregators that are trained with masks.

    Raises:   BadConfig: one that there is not, or one that only sums: it relates no input to another.
    """
    names = list(shape.aggregators) if config.aggregators is None else config.aggregators
    attending = [name for name, one in shape.aggregators.items() if isinstance(one, SelfAttentionConfig)]
    if not names:
        raise BadConfig("masked.aggregators = [] leaves nothing to mask; name some, or remove [masked]")
    for name in names:
        if name not in shape.aggregators:
            raise BadConfig(f"masked.aggregators names {name!r}; the model has {sorted(shape.aggregators)}")
        if name not in attending:
            raise BadConfig(
                f"masked training of the aggregator {name!r}: its kind is sum_pooling, which relates no event to"
                " another, so that a masked one cannot be told from the rest; "
                + (f"set masked.aggregators = {attending}" if attending else "remove [masked], or use self_attention")
            )
    return names


class MaskedTraining(nn.Module):
    """L = w₁ · L_masked + L_ranking, L_masked = Σ over aggregators of the mean loss of their masked positions.

    A masked position is given a mask embedding in place of everything that was known of its event; where it stands is
    known. The feature that the last layer makes of it, before events are summed, is compared with item vectors, to find
    the item that was there. Where no position is masked L_masked is 0. Items without a training event are not masked.

    Args:     ranking: of a main model; counts: (V,) training events per item, 0 for what was never trained.
    Source:   US 12,389,079 B2, figures 4 to 6.
    """

    def __init__(self, ranking: PointwiseRanking | OrderRanking, config: MaskedConfig, counts: Tensor) -> None:
        super().__init__()
        self.ranking, self.config = ranking, config
        shape = self.model.config
        self.names, D = masked_aggregators(config, shape), shape.width
        longest = max(shape.aggregators[name].length for name in self.names)
        rows = longest if config.embedding == "per_position" else 1
        # An embedding: those are not decayed. It begins as large as what it stands for.
        self.mask = nn.ModuleDict()
        if config.embedding in ("shared", "per_position"):
            self.mask = nn.ModuleDict({str(n): nn.Embedding(rows, D) for n in range(len(self.names))})
            for table in self.mask.values():
                assert isinstance(table, nn.Embedding)
                nn.init.trunc_normal_(table.weight, std=_STD * D**0.5)
        self.fixed: Tensor
        self.register_buffer("fixed", torch.randn(len(self.names), D) * _STD * D**0.5)
        self.trained_items, self.row_of_item = trained_rows(counts > 0)
        self._is_trained = counts > 0
        compare = config.compare
        self.softmax = (
            make_softmax(compare, counts[self.trained_items])
            if isinstance(compare, FullSoftmaxConfig | SampledSoftmaxConfig)
            else None
        )

    @property
    def model(self) -> MainModel:
        """What is trained, and all that is kept."""
        assert isinstance(self.ranking.model, MainModel), "only a main model has aggregators"
        return self.ranking.model

    def num_activations(self, tokens: int, candidates: int) -> int:
        """How many float32 numbers a step holds: the ranking's, and those of masked positions."""
        D, V = self.model.config.width, len(self.trained_items)
        positions = tokens if self.config.rate == "one" else int(tokens * self.config.rate) + 1
        compared = 12 * V * D + 3 * positions * min(V, 256)
        if self.softmax is not None:
            compared += self.softmax.num_activations(positions, D)
        return self.ranking.num_activations(tokens, candidates) + compared

    def forward(self, batch: RankingBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The terms `masked.<aggregator>`: (w₁ · sum of losses, masked positions), and those of the ranking."""
        if self.config.mode == "in_turn" and step % 2 == 0:
            return self.ranking.forward(batch, step)
        histories, model = self.model.read(batch.histories), self.model
        behaviours = model.behaviours(histories)
        terms, features = self._masked(behaviours, None)
        if self.config.mode != "together":
            return terms
        others = {name: model.features(name, one) for name, one in behaviours.items() if name not in features}
        state = model.state(histories, behaviours, features | others)
        return terms | self.ranking.terms(batch, state)

    def held_out(self, batch: RankingBatch, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """What the validation looks at: the ranking, as it is served; where it is not trained, the masked loss."""
        if self.config.mode != "only":
            return self.ranking.forward(batch, 0)
        return self._masked(self.model.behaviours(self.model.read(batch.histories)), generator)[0]

    def _masked(
        self, behaviours: Mapping[str, Behaviour], generator: torch.Generator | None
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
        """The masked terms, and the features that they were computed from, by aggregator."""
        terms, features = {}, {}
        needs_all = isinstance(self.config.compare, FullSoftmaxConfig | MaxMarginConfig)
        table = self.model.vectors_of(self.trained_items) if needs_all else None  # once for all aggregators
        chosen = {name: self._choose(behaviours[name], generator) for name in self.names}
        for number, (name, is_masked) in enumerate(chosen.items()):
            behaviour = behaviours[name]
            put = self._embedding(number, behaviour, generator)
            x = torch.where(is_masked[..., None], put.to(behaviour.x.dtype), behaviour.x)
            features[name] = self.model.features(name, replace(behaviour, x=x))
            loss = self.config.weight * self._loss(behaviour, features[name], is_masked, table)
            terms[f"masked.{name}"] = loss, is_masked.sum().to(torch.float32)
        return terms, features

    def _choose(self, behaviour: Behaviour, generator: torch.Generator | None) -> Bool[Tensor, "B L"]:
        allowed = behaviour.events.mask & self._is_trained[behaviour.events.item]
        if self.config.rate == "one":
            return one_position(allowed, generator)
        return some_positions(allowed, self.config.rate, generator)

    def _embedding(
        self, number: int, behaviour: Behaviour, generator: torch.Generator | None
    ) -> Float[Tensor, "#B #L D"]:
        """What masked positions are given; positions count from the last event."""
        x, lengths = behaviour.x, behaviour.events.lengths
        match self.config.embedding:
            case "shared":
                vectors: Tensor = self.mask[str(number)](torch.zeros(1, 1, dtype=torch.int64, device=x.device))
            case "per_position":
                event = torch.arange(x.shape[1], device=x.device)
                vectors = self.mask[str(number)]((lengths[:, None] - 1 - event).clamp(min=0))
            case "random":
                vectors = torch.randn(x.shape, generator=generator).to(x.device) * (_STD * x.shape[2] ** 0.5)
            case "fixed":
                vectors = self.fixed[number][None, None]
        return vectors

    def _loss(
        self,
        behaviour: Behaviour,
        features: Float[Tensor, "B L D"],
        chosen: Bool[Tensor, "B L"],
        table: Float[Tensor, "V D"] | None,
    ) -> Tensor:
        """Σ over masked positions."""
        found, events, compare = features[chosen], behaviour.events, self.config.compare
        items = events.item[chosen]
        if isinstance(compare, SameSequenceConfig):
            row, position = chosen.nonzero(as_tuple=True)
            places, ids = events.mask[row], events.item[row]
            is_own = torch.arange(ids.shape[1], device=ids.device) == position[:, None]
            vectors = self._of_rows(events.item)[row]
            return same_sequence_loss(found, vectors, places & (is_own | (ids != items[:, None])), position)
        targets = self.row_of_item[items]
        if isinstance(compare, MaxMarginConfig):
            assert table is not None
            return max_margin_loss(found, table, targets, compare.margin)
        assert self.softmax is not None
        loss: Tensor = self.softmax(
            found.contiguous(), targets, self._vectors if table is None else lambda rows: table[rows]
        )
        return loss

    def _of_rows(self, item: Tensor) -> Tensor:
        """Vectors of the items at positions, each different one encoded once."""
        distinct, place = torch.unique(item, return_inverse=True)
        return self.model.vectors_of(distinct)[place]

    def _vectors(self, rows: Tensor) -> Tensor:
        return self.model.vectors_of(self.trained_items[rows])


_STD = 0.02
