"""A retriever as a ranker: its score orders candidates, and means nothing else."""

from collections.abc import Mapping

from torch import Tensor

from upnext.base.batches import Candidates, Request, SequenceBatch, State
from upnext.base.protocols import Link, Retriever, lag_of

__all__ = ["SCORE", "Ordering"]

SCORE = "score"
"""What the output of such a ranker is called."""


class Ordering:
    """Answers as a ranker does, with the score of a retriever."""

    def __init__(self, model: Retriever) -> None:
        self.model = model
        self.lag_ms = lag_of(model)

    @property
    def view(self) -> str:
        """The view it reads."""
        return self.model.view

    @property
    def max_length(self) -> int:
        """The longest history it reads."""
        return self.model.max_length

    @property
    def components(self) -> Mapping[str, Link]:
        """One score that orders."""
        return {SCORE: Link.ORDER_ONLY}

    def encode(self, histories: SequenceBatch) -> State:
        """As the retriever does."""
        return self.model.encode(histories)

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Tensor]:
        """The retriever's scores; -inf where it has none."""
        return {SCORE: self.model.score(state, request, candidates.item)}
