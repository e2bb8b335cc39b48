"""Ranking: what came of candidates that were shown together, from the past before they were shown.

Shape letters: S sets of candidates, B rows of requests, C candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from upnext.base.batches import Candidates, Column, OnDevice, Request, SequenceBatch, State
from upnext.models.main_model import MainModel
from upnext.objectives.feedback import FeedbackLosses

__all__ = ["NeuralRanker", "PointwiseRanking", "RankingBatch"]


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


NeuralRanker = MainModel
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

    def terms(self, batch: RankingBatch, state: State) -> dict[str, tuple[Tensor, Tensor]]:
        """The same from states (S) of the sets' pasts."""
        outputs = self.model.predict(state.take(batch.set), batch.request, batch.candidates)
        found = {}
        for name in self.model.components:
            if name in self.losses:
                mask = batch.candidates.mask
                found[f"feedback.{name}"] = self.losses.term(name, outputs[name][mask], batch.feedback[name].take(mask))
        return found
