"""Ranking: what came of candidates that were shown together, from the past before they were shown.

Shape letters: S sets of candidates, B rows of requests, C candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from upnext.base.batches import Candidates, Column, OnDevice, Request, SequenceBatch, State
from upnext.losses.listwise import listwise_softmax_loss
from upnext.losses.pairwise import request_pairwise_loss
from upnext.models.main_model import MainModel
from upnext.models.youtube import YouTubeRanker
from upnext.objectives.feedback import FeedbackLosses

__all__ = ["NeuralRanker", "OrderRanking", "PointwiseRanking", "RankingBatch", "by_set"]


@dataclass(frozen=True)
class RankingBatch(OnDevice):
    """Sets of candidates, with the past that each set knows.

    A set is what was shown together: its past is encoded once. Its candidates lie in one row of requests, or in
    several, where they differ in context: `set` (B,) says which set a row belongs to. `feedback` (B, C) is what came of
    each candidate, by short name; where `candidates.mask` is false it is not observed.
    """

    histories: SequenceBatch
    set: Tensor
    request: Request
    candidates: Candidates
    feedback: Mapping[str, Column]

    @property
    def lengths(self) -> Tensor:
        """(S,) events and candidates of each set."""
        of_rows = self.candidates.mask.sum(1)
        return self.histories.lengths.index_add(0, self.set, of_rows)


NeuralRanker = MainModel | YouTubeRanker
"""The rankers that are trained by gradients: each encodes pasts with gradients, and predicts."""


class PointwiseRanking(nn.Module):
    """Σ_k w_k · loss of component k, over every candidate of which feedback k was observed."""

    def __init__(self, model: NeuralRanker, losses: FeedbackLosses) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def num_activations(self, tokens: int, candidates: int) -> int:
        """How many float32 numbers a step holds."""
        return self.model.num_activations(tokens, candidates)

    def forward(self, batch: RankingBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The terms `feedback.<name>`: (weighted sum of losses, number of targets)."""
        return self.terms(batch, self.model.encode(batch.histories))

    def held_out(self, batch: RankingBatch, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """What the validation looks at: the same; nothing is drawn."""
        return self.forward(batch, 0)

    def terms(self, batch: RankingBatch, state: State) -> dict[str, tuple[Tensor, Tensor]]:
        """The same from states (S) of the sets' pasts."""
        return self.losses_of(batch, self.model.predict(state.take(batch.set), batch.request, batch.candidates))

    def losses_of(self, batch: RankingBatch, outputs: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """The same from what the model put out."""
        found = {}
        for name in self.model.components:
            if name in self.losses:
                mask = batch.candidates.mask
                found[f"feedback.{name}"] = self.losses.term(name, outputs[name][mask], batch.feedback[name].take(mask))
        return found


class OrderRanking(nn.Module):
    """The order of what was shown together, by the utility U = Σ_k w_k f_k of what came of it; for one output.

    `pairwise`: every pair of a set whose utilities differ, as `request_pairwise_loss`. `listwise`: the softmax over a
    set, as `listwise_softmax_loss`. Feedback that was not observed adds nothing.
    """

    def __init__(
        self, model: NeuralRanker, form: Literal["pairwise", "listwise"], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.model, self.form, self.weights = model, form, dict(weights)

    def num_activations(self, tokens: int, candidates: int) -> int:
        """How many float32 numbers a step holds."""
        return self.model.num_activations(tokens, candidates)

    def forward(self, batch: RankingBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The term `pairs` or `lists`: (sum of losses, weight of the pairs or number of lists)."""
        return self.terms(batch, self.model.encode(batch.histories))

    def held_out(self, batch: RankingBatch, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """What the validation looks at: the same; nothing is drawn."""
        return self.forward(batch, 0)

    def terms(self, batch: RankingBatch, state: State) -> dict[str, tuple[Tensor, Tensor]]:
        """The same from states (S) of the sets' pasts."""
        return self.losses_of(batch, self.model.predict(state.take(batch.set), batch.request, batch.candidates))

    def losses_of(self, batch: RankingBatch, outputs: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """The same from what the model put out."""
        (scores,) = outputs.values()
        utility = torch.zeros_like(scores)
        for name, weight in self.weights.items():
            column = batch.feedback[name]
            utility = utility + weight * torch.where(column.observed, column.values, 0.0).to(scores.dtype)
        scores, utility, mask = by_set(batch, scores, utility)
        if self.form == "pairwise":
            return {"pairs": request_pairwise_loss(scores, utility, mask)}
        return {"lists": listwise_softmax_loss(scores, utility, mask)}


def by_set(batch: RankingBatch, *parts: Tensor) -> tuple[Tensor, ...]:
    """Rows of requests (B, C) as sets (S, C'): a set may lie in several rows, one behind the other.

    Returns:  the parts, 0 where there is no candidate, and then a mask of where there is one.
    """
    mask = batch.candidates.mask
    owner = batch.set[:, None].expand_as(mask)[mask]
    sizes = torch.bincount(owner, minlength=len(batch.histories))
    place = torch.arange(len(owner), device=owner.device) - (sizes.cumsum(0) - sizes)[owner]
    shape = len(sizes), int(sizes.max()) if len(sizes) else 0
    is_there = torch.zeros(shape, dtype=torch.bool, device=mask.device)
    is_there[owner, place] = True
    return *(part.new_zeros(shape).index_put((owner, place), part[mask]) for part in parts), is_there
