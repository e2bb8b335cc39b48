"""The next item beside what was chosen lately: what a model learns that has a prior of recent events.

Shape letters: N positions, n draws per position, V items, D width.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from upnext.base.configuration import Config
from upnext.losses.contrastive import ranking_nce_loss
from upnext.nn.temperature import Temperature
from upnext.objectives.softmax import Vectors
from upnext.sampling.recent import RecentEvents

__all__ = ["RecentSoftmax", "RecentSoftmaxConfig"]


class RecentSoftmaxConfig(Config):
    """Tells what was chosen from what others chose lately: of a model with a prior (`model.recent`), its one loss."""

    kind: Literal["recent"] = "recent"
    num_drawn: Annotated[int, Field(ge=1, le=100_000)] = 64
    """How many items are drawn from the prior for each event."""


class RecentSoftmax(nn.Module):
    """Each target among items drawn from the prior at its own time and place.

    The draws come from Q, so the model's score s is compared with s, and what is learnt is P(i) ∝ Q(i) · e^s.
    """

    def __init__(self, config: RecentSoftmaxConfig, sampler: RecentEvents) -> None:
        super().__init__()
        self.config, self.sampler = config, sampler
        self.temperature = Temperature()  # 1: scores are logits, to which log Q is added

    def forward(
        self,
        queries: Float[Tensor, "N D"],
        targets: Int[Tensor, " N"],
        times_ms: Int[Tensor, " N"],
        keys: Sequence[Int[Tensor, " N"]],
        vectors: Vectors,
    ) -> Tensor:
        """Sum over positions.

        Args:     times_ms: when each was asked; keys: the values of its contexts, as the sampler has them.
        """
        drawn = self.sampler(times_ms, keys, self.config.num_drawn)
        # One look at the item tower for all, so that an item's id is hidden from all or from none.
        items, place = torch.unique(torch.cat([targets[:, None], drawn], dim=1), return_inverse=True)
        of = vectors(items)
        return ranking_nce_loss(queries, of[place[:, 0]], of, place[:, 1:])

    def num_activations(self, positions: int, width: int) -> int:
        """How many float32 numbers it holds: 2 · N · (n + 1) · D + 4 · N · n, drawn vectors, their gradient, logits."""
        n = self.config.num_drawn
        return positions * (2 * (n + 1) * width + 4 * n)
