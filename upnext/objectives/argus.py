"""ARGUS's two tasks in one pass: the next item, and the feedback on it."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from upnext.base.batches import SequenceBatch
from upnext.base.configuration import Config
from upnext.base.schema import feedback_column
from upnext.base.views import TARGET
from upnext.models.argus import ARGUS
from upnext.objectives.feedback import FeedbackLoss, FeedbackLosses
from upnext.objectives.recent import RecentSoftmax
from upnext.objectives.softmax import CatalogueSoftmax, trained_rows

__all__ = ["ARGUSObjective", "TaskConfig"]


class TaskConfig(Config):
    """The weights of the two tasks."""

    next_item: Annotated[float, Field(ge=0)] = 1.0
    """The weight of next-item prediction; 0 leaves it out."""
    next_item_view: str | None = None
    """The events that next-item prediction learns. Unset: every event that the model reads."""
    feedback: dict[str, FeedbackLoss] = {}
    """Per feedback of the log; those that are not named have the defaults."""


class ARGUSObjective(nn.Module):
    """L = w · NIP + Σ_k w_k · FP_k, every target event of a chunk from one pass.

    Feedback that was not observed is no target. Batches hold events of the model's view and mark the predicted ones in
    the view `target`.

    Args:     softmax: that of recent events for a model with a prior, and for no other. means: the mean of each amount
              over the training part: its loss is divided by it.
    Source:   Khrylchenko et al. 2025.
    """

    def __init__(
        self,
        model: ARGUS,
        softmax: CatalogueSoftmax | RecentSoftmax,
        config: TaskConfig,
        means: dict[str, float],
    ) -> None:
        super().__init__()
        assert isinstance(softmax, RecentSoftmax) == (model.recent is not None)
        self.model, self.softmax, self.config = model, softmax, config
        self.losses = FeedbackLosses(model.inputs.feedback, config.feedback, means)
        self.trained_items, self.row_of_item = trained_rows(model.trained)

    def num_activations(self, tokens: int) -> int:
        """How many float32 numbers a step of T tokens holds: the model's, the softmax's and the item tower's."""
        V, D = len(self.trained_items), self.model.config.width
        return self.model.num_activations(tokens) + self.softmax.num_activations(tokens, D) + 12 * V * D

    def forward(self, batch: SequenceBatch, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The terms `next_item` and `feedback.<name>`: (weighted sum of losses, number of targets)."""
        selected = batch.views[TARGET] & batch.mask
        queries, logits = self.model.moments(batch, selected)
        terms = {}
        if self.config.next_item > 0:
            terms["next_item"] = self._next_item(batch, selected, queries)
        for number, name in enumerate(self.model.inputs.feedback):
            if name in self.losses:
                column = batch.columns[feedback_column(name)].take(selected)
                terms[f"feedback.{name}"] = self.losses.term(name, logits[:, number], column)
        return terms

    def _next_item(self, batch: SequenceBatch, selected: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        asked = selected
        if self.config.next_item_view is not None:
            asked = selected & batch.views[self.config.next_item_view]
            queries = queries[asked[selected]]
        targets, queries = self.row_of_item[batch.item[asked]], queries.contiguous()
        if isinstance(self.softmax, RecentSoftmax):
            assert self.model.config.recent is not None
            # Asked when its request began: what came later, its siblings too, is not yet known.
            began_ms = batch.time_ms.gather(1, batch.num_visible)[asked]
            keys = self.model.config.recent.keys(batch.columns, batch.time_ms)
            loss = self.softmax(queries, targets, began_ms, [key[asked] for key in keys], self._vectors)
        else:
            loss = self.softmax(queries, targets, self._vectors)
        return self.config.next_item * loss, torch.tensor(float(len(targets)), device=loss.device)

    def _vectors(self, rows: Tensor) -> Tensor:
        return self.model.vectors_of(self.trained_items[rows])
