"""ARGUS's two tasks in one pass: the next item, and the feedback on it."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from upnext.base.batches import SequenceBatch
from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.base.schema import feedback_column
from upnext.base.views import TARGET
from upnext.losses.pointwise import (
    binary_cross_entropy,
    poisson_deviance,
    squared_probability_error,
    weighted_logistic_loss,
)
from upnext.models.argus import ARGUS
from upnext.objectives.softmax import CatalogueSoftmax, trained_rows

__all__ = ["ARGUSObjective", "FeedbackLoss", "TaskConfig"]

LossKind = Literal["bce", "squared", "poisson", "weighted"]
_ALLOWED: dict[str, tuple[LossKind, ...]] = {
    "binary": ("bce", "squared"),
    "fraction": ("bce", "squared"),
    "amount": ("poisson", "weighted"),
}


class FeedbackLoss(Config):
    """How one feedback is learnt."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Its share in the loss; 0 leaves it out."""
    loss: LossKind | None = None
    """`bce` or `squared` for binary feedback and fractions, `poisson` or `weighted` for amounts. Unset: the first."""


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

    Args:     means: the mean of each amount over the training part: its loss is divided by it.
    Source:   Khrylchenko et al. 2025.
    """

    def __init__(self, model: ARGUS, softmax: CatalogueSoftmax, config: TaskConfig, means: dict[str, float]) -> None:
        super().__init__()
        kinds = model.inputs.feedback
        for name in config.feedback.keys() - kinds.keys():
            raise BadConfig(f"the loss of a feedback {name!r}; the log has {sorted(kinds)}")
        self.model, self.softmax, self.config = model, softmax, config
        self.losses: dict[str, tuple[LossKind, float]] = {}
        for name, kind in kinds.items():
            asked = config.feedback.get(name, FeedbackLoss())
            if asked.loss is not None and asked.loss not in _ALLOWED[kind]:
                raise BadConfig(f"loss {asked.loss!r} of the {kind} {name!r}; allowed: {', '.join(_ALLOWED[kind])}")
            if asked.weight > 0:
                self.losses[name] = asked.loss or _ALLOWED[kind][0], asked.weight
        self.scales = {name: torch.tensor(max(mean, 1e-6)) for name, mean in means.items()}
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
                column = batch.columns[feedback_column(name)]
                observed, values = column.observed[selected], column.values[selected]
                kind, weight = self.losses[name]
                losses = self._feedback(kind, logits[observed, number], values[observed], name)
                terms[f"feedback.{name}"] = weight * losses.sum(), observed.sum().to(torch.float32)
        return terms

    def _next_item(self, batch: SequenceBatch, selected: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        targets = self.row_of_item[batch.item[selected]]
        if self.config.next_item_view is not None:
            asked = batch.views[self.config.next_item_view][selected]
            queries, targets = queries[asked], targets[asked]
        loss = self.config.next_item * self.softmax(queries.contiguous(), targets, self._vectors)
        return loss, torch.tensor(float(len(targets)), device=loss.device)

    def _vectors(self, rows: Tensor) -> Tensor:
        return self.model.vectors_of(self.trained_items[rows])

    def _feedback(self, kind: LossKind, logits: Tensor, values: Tensor, name: str) -> Tensor:
        match kind:
            case "bce":
                return binary_cross_entropy(logits, values)
            case "squared":
                return squared_probability_error(logits, values)
            case "poisson":
                return poisson_deviance(logits, values, self.scales[name].to(logits.device))
            case "weighted":
                return weighted_logistic_loss(logits, values, self.scales[name].to(logits.device))
