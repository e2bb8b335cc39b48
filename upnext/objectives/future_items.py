"""Contrastive training of two towers for retrieval: the user vector of a moment against what was chosen later.

Shape letters: I impressions, M positives, P pairs, E width of the vectors, V items.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from upnext.base.batches import OnDevice
from upnext.base.configuration import Config
from upnext.losses.pairwise import pairwise_logistic_loss
from upnext.models.two_towers import TwoTowers
from upnext.objectives.pairwise import ImpressionBatch
from upnext.objectives.softmax import CatalogueSoftmax, trained_rows

__all__ = ["FutureBatch", "FutureItems", "PositivesConfig"]


class PositivesConfig(Config):
    """What is learnt to be retrieved."""

    view: str | None = None
    """The events that count as chosen. Unset: every event that the model reads."""
    among_next: Annotated[int, Field(ge=1, le=1000)] = 1
    """At each moment one of the user's next so many chosen items is drawn; 1 is the very next."""
    hard_negatives: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """The weight of a second term: the chosen item against each item that was shown beside it and not chosen."""


@dataclass(frozen=True)
class FutureBatch(OnDevice):
    """Impressions with their histories, and which of them were chosen.

    `chosen` (M,) numbers impressions; `item` (M,) dense ids: what each one's user vector is to be near to. The pairs of
    `impressions` are a chosen one over one that was shown beside it.
    """

    impressions: ImpressionBatch
    chosen: Tensor
    item: Tensor

    @property
    def lengths(self) -> Tensor:
        """(B,) events per row."""
        return self.impressions.lengths


class FutureItems(nn.Module):
    """The softmax of the later item's vector over the trained items, or sampled negatives, at the moment of a choice.

    The moment of a choice is the last state strictly before its request - lag.
    """

    def __init__(self, model: TwoTowers, softmax: CatalogueSoftmax, config: PositivesConfig) -> None:
        super().__init__()
        self.model, self.softmax, self.config = model, softmax, config
        self.trained_items, self.row_of_item = trained_rows(model.trained)

    def num_activations(self, tokens: int, impressions: int) -> int:
        """How many float32 numbers a step holds: the model's, the softmax's, the item tower's, and impressions'."""
        V, D, E = len(self.trained_items), self.model.config.encoder.width, self.model.config.width
        softmax = self.softmax.num_activations(impressions, E) + 12 * V * D
        return self.model.argus.num_activations(tokens) + softmax + 2 * tokens * E + impressions * (6 * E + 12 * D)

    def forward(self, batch: FutureBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The terms `future_items` and, if they have a weight, `hard_negatives`: (sum of losses, weight)."""
        shown = batch.impressions
        users = self.model.user_vectors(shown.histories)[shown.row, shown.state]
        loss = self.softmax(users[batch.chosen].contiguous(), self.row_of_item[batch.item], self._vectors)
        terms = {"future_items": (loss, torch.tensor(float(len(batch.chosen)), device=loss.device))}
        if self.config.hard_negatives > 0:
            items, place = torch.unique(shown.item, return_inverse=True)
            scores = (self.softmax.temperature(users) * self.model.vectors_of(items)[place]).sum(1)
            hard = pairwise_logistic_loss(scores[shown.better], scores[shown.worse], shown.weight)
            terms["hard_negatives"] = self.config.hard_negatives * hard, shown.weight.sum()
        return terms

    def _vectors(self, rows: Tensor) -> Tensor:
        return self.model.vectors_of(self.trained_items[rows])
