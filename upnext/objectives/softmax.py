"""The softmax over the catalogue that next-item prediction trains with: full, or from sampled negatives.

Shape letters: N positions, V items, n draws, D width.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from upnext.base.configuration import Config
from upnext.losses.sampled import Correction, Drawn, sampled_softmax_loss
from upnext.losses.softmax import BLOCK, full_softmax_loss
from upnext.nn.temperature import HIGHEST, LOWEST, Temperature
from upnext.sampling.frequency import SketchConfig
from upnext.sampling.negatives import InBatch, Mixed, Popularity, Sampler, Uniform

__all__ = [
    "CatalogueSoftmax",
    "FullSoftmax",
    "FullSoftmaxConfig",
    "LossConfig",
    "SampledSoftmax",
    "SampledSoftmaxConfig",
    "make_softmax",
    "trained_rows",
]

Vectors = Callable[[Tensor], Tensor]
"""Item vectors (n, D) of rows (n,) of the trained catalogue."""


def trained_rows(trained: Bool[Tensor, " V"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " V"]]:
    """The trained items in the order of their dense ids, and the row of each item among them, 0 for the others."""
    items = trained.nonzero().squeeze(1)
    row_of_item = torch.zeros_like(trained, dtype=torch.int64)
    row_of_item[items] = torch.arange(len(items), device=trained.device)
    return items, row_of_item


class FullSoftmaxConfig(Config):
    """The exact cross-entropy over all trained items."""

    kind: Literal["full"] = "full"
    temperature: Annotated[float, Field(ge=LOWEST, le=HIGHEST)] | Literal["learned"] = 1.0
    """Logits are divided by it."""


class SampledSoftmaxConfig(Config):
    """The softmax over each target and a set of negatives, drawn anew for every batch and shared by its targets."""

    kind: Literal["sampled"] = "sampled"
    negatives: Literal["uniform", "in_batch", "popularity", "mixed"] = "mixed"
    """Uniform over the trained items; the batch's own targets; by training frequency; in-batch and uniform."""
    num_in_batch: Annotated[int, Field(ge=1)] | None = None
    """How many of the batch's targets, for `in_batch` and `mixed`. Unset: all of them."""
    num_drawn: Annotated[int, Field(ge=1, le=10_000_000)] = 1024
    """How many more are drawn per batch: uniformly for `uniform` and `mixed`, by frequency for `popularity`."""
    correction: Correction = "corrected"
    """For how likely each negative was: none, the standard logQ, or the corrected logQ."""
    mask_hits: bool = True
    """Leave out negatives that are the target itself; `corrected` always does."""
    temperature: Annotated[float, Field(ge=LOWEST, le=HIGHEST)] | Literal["learned"] = 1.0
    """Logits are divided by it."""
    sketch: SketchConfig | None = None
    """Count frequencies with a count-min sketch of this size. Unset: exactly."""

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> "SampledSoftmaxConfig":
        kind, given = self.negatives, self.model_fields_set
        if kind in ("uniform", "popularity") and "num_in_batch" in given:
            raise ValueError(f"num_in_batch has no effect with {kind} negatives; remove it, or use num_drawn")
        if kind == "in_batch" and "num_drawn" in given:
            raise ValueError("num_drawn has no effect with in_batch negatives; remove it, or use 'mixed'")
        if self.correction == "corrected" and not self.mask_hits:
            raise ValueError("the correction 'corrected' masks hits; remove mask_hits, or use 'standard'")
        if kind == "uniform" and self.correction == "standard":
            raise ValueError(
                "the correction 'standard' has no effect with uniform negatives, which are all as likely; use 'none'"
                " or 'corrected'"
            )
        if self.sketch is not None and (kind == "uniform" or (kind != "popularity" and self.correction == "none")):
            raise ValueError(
                f"sketch has no effect with {kind} negatives and the correction {self.correction!r}: nothing asks for"
                " a frequency; remove it"
            )
        return self


LossConfig = Annotated[FullSoftmaxConfig | SampledSoftmaxConfig, Field(discriminator="kind")]


class FullSoftmax(nn.Module):
    """Cross-entropy of the targets over all V items."""

    def __init__(self, config: FullSoftmaxConfig, num_items: int) -> None:
        super().__init__()
        self.temperature = Temperature(config.temperature)
        self.num_items = num_items

    def forward(self, queries: Float[Tensor, "N D"], targets: Int[Tensor, " N"], vectors: Vectors) -> Tensor:
        """Sum over positions."""
        items = vectors(torch.arange(self.num_items, device=queries.device))
        return full_softmax_loss(self.temperature(queries), items, targets)

    def num_activations(self, positions: int, width: int) -> int:
        """How many float32 numbers it holds: 2 · N · D + 2 · 256 · V + 4 · V · D.

        Queries and their gradient; a block of logits; the item vectors, their gradient, and what that adds to the
        embedding's.
        """
        return 2 * positions * width + (2 * BLOCK + 4 * width) * self.num_items


class SampledSoftmax(nn.Module):
    """The softmax over each target and one set of negatives for all positions of a batch.

    Args:     counts: (V,) int64, training events per item, at least 1 each: what frequencies are computed from.
    """

    def __init__(self, config: SampledSoftmaxConfig, counts: Int[Tensor, " V"]) -> None:
        super().__init__()
        self.temperature = Temperature(config.temperature)
        self.config = config
        self.sampler = _sampler(config, counts)

    def forward(self, queries: Float[Tensor, "N D"], targets: Int[Tensor, " N"], vectors: Vectors) -> Tensor:
        """Sum over positions; only vectors of targets and negatives are read, and only they get gradients."""
        negatives = self.sampler(targets)
        distinct = negatives.distinct(targets)
        drawn = Drawn(vectors(distinct.ids), distinct.count, distinct.log_q, negatives.target_log_q, distinct.hit)
        return sampled_softmax_loss(
            self.temperature(queries), vectors(targets), drawn, self.config.correction, self.config.mask_hits
        )

    def num_activations(self, positions: int, width: int) -> int:
        """How many float32 numbers it holds: 8 · (N + n) · D + 2 · 256 · n.

        Queries, the targets' and the negatives' vectors, each with its gradient; sparse gradients of the rows, before
        and after repeated rows are summed, with their row numbers; a block of logits.
        """
        n = self.sampler.num_negatives(positions)
        return 8 * (positions + n) * width + 2 * BLOCK * n


CatalogueSoftmax = FullSoftmax | SampledSoftmax


def make_softmax(config: LossConfig, counts: Int[Tensor, " V"]) -> CatalogueSoftmax:
    """The loss of a configuration, over items with these training counts."""
    if isinstance(config, FullSoftmaxConfig):
        return FullSoftmax(config, len(counts))
    return SampledSoftmax(config, counts)


def _sampler(config: SampledSoftmaxConfig, counts: Tensor) -> Sampler:
    match config.negatives:
        case "uniform":
            return Uniform(len(counts), config.num_drawn)
        case "popularity":
            return Popularity(counts, config.num_drawn)
        case "in_batch":
            return InBatch(counts, config.num_in_batch)
        case "mixed":
            return Mixed(counts, config.num_in_batch, config.num_drawn)
