"""Pairwise fine-tuning of two towers: every impression of a chunk from one run of the transformer.

Shape letters: I impressions, P pairs, E width of the vectors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upnext.base.batches import OnDevice, SequenceBatch
from upnext.losses.pairwise import pairwise_logistic_loss
from upnext.models.two_towers import TwoTowers

__all__ = ["ImpressionBatch", "PairwiseRanking"]


@dataclass(frozen=True)
class ImpressionBatch(OnDevice):
    """Histories, the impressions that each answers for, and the pairs of them that are to be ordered.

    `row` and `state` (I,): the impression asks the user vector of `row` after `state` events. `item` (I,) dense ids.
    `better`, `worse` (P,) number impressions; `weight` (P,) float32.
    """

    histories: SequenceBatch
    row: Tensor
    state: Tensor
    item: Tensor
    better: Tensor
    worse: Tensor
    weight: Tensor

    @property
    def lengths(self) -> Tensor:
        """(B,) events per row."""
        return self.histories.lengths


class PairwiseRanking(nn.Module):
    """Weighted log-loss of score differences, over pairs of impressions that were shown together.

    Source:   Khrylchenko et al. 2025: one run per chunk instead of one per impression.
    """

    def __init__(self, model: TwoTowers) -> None:
        super().__init__()
        self.model = model

    def num_activations(self, tokens: int, impressions: int) -> int:
        """How many float32 numbers a step holds: the model's for T tokens, and the vectors of I impressions.

        A user vector per token and one per impression, an item vector per impression, each with its gradient; the item
        tower keeps about 12 D for each distinct item.
        """
        D, E = self.model.config.encoder.width, self.model.config.width
        return self.model.argus.num_activations(tokens) + 2 * tokens * E + impressions * (6 * E + 12 * D)

    def scores(self, batch: ImpressionBatch) -> Tensor:
        """(I,) dot products of the joined user vectors and the item vectors."""
        users = self.model.user_vectors(batch.histories)[batch.row, batch.state]
        items, place = torch.unique(batch.item, return_inverse=True)
        return (users * self.model.vectors_of(items)[place]).sum(1)

    def forward(self, batch: ImpressionBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The term `pairs`: (weighted sum of losses, sum of weights)."""
        scores = self.scores(batch)
        loss = pairwise_logistic_loss(scores[batch.better], scores[batch.worse], batch.weight)
        return {"pairs": (loss, batch.weight.sum())}
