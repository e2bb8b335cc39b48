"""What a model's predictions of feedback cost: a loss for each feedback, by its kind."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from upnext.base.batches import Column
from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.base.schema import FeedbackKind
from upnext.losses.pointwise import (
    approximate_weighted_logistic_loss,
    binary_cross_entropy,
    poisson_deviance,
    squared_probability_error,
    weighted_logistic_loss,
)

__all__ = ["FeedbackLoss", "FeedbackLosses"]

LossKind = Literal["bce", "squared", "poisson", "weighted", "weighted_approximate"]
_ALLOWED: dict[FeedbackKind, tuple[LossKind, ...]] = {
    "binary": ("bce", "squared"),
    "fraction": ("bce", "squared"),
    "amount": ("poisson", "weighted", "weighted_approximate"),
}


class FeedbackLoss(Config):
    """How one feedback is learnt."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Its share in the loss; 0 leaves it out."""
    loss: LossKind | None = None
    """`bce` or `squared` for binary feedback and fractions, `poisson`, `weighted` or `weighted_approximate` for
    amounts. Unset: the first."""


class FeedbackLosses:
    """The loss of each feedback that a model predicts. Feedback that was not observed is no target.

    Args:     kinds: of the feedback that is predicted; asked: how, where it is not the default.
              means: the mean of each amount over the training part: its loss is divided by it.
    Raises:   BadConfig: a loss of a feedback that is not predicted, or one that its kind does not allow.
    """

    def __init__(
        self, kinds: Mapping[str, FeedbackKind], asked: Mapping[str, FeedbackLoss], means: Mapping[str, float]
    ) -> None:
        for name in asked.keys() - kinds.keys():
            raise BadConfig(f"the loss of a feedback {name!r}; the log has {sorted(kinds)}")
        self._losses: dict[str, tuple[LossKind, float]] = {}
        for name, kind in kinds.items():
            one = asked.get(name, FeedbackLoss())
            if one.loss is not None and one.loss not in _ALLOWED[kind]:
                raise BadConfig(f"loss {one.loss!r} of the {kind} {name!r}; allowed: {', '.join(_ALLOWED[kind])}")
            if one.weight > 0:
                self._losses[name] = one.loss or _ALLOWED[kind][0], one.weight
        self._scales = {name: torch.tensor(max(mean, 1e-6)) for name, mean in means.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._losses

    def term(self, name: str, logits: Tensor, targets: Column) -> tuple[Tensor, Tensor]:
        """The weighted sum of losses of one feedback, and how many targets were observed.

        Args:     logits: (N,); targets: (N,).
        """
        kind, weight = self._losses[name]
        losses = self._of(kind, logits[targets.observed], targets.values[targets.observed], name)
        return weight * losses.sum(), targets.observed.sum().to(torch.float32)

    def _of(self, kind: LossKind, logits: Tensor, values: Tensor, name: str) -> Tensor:
        match kind:
            case "bce":
                return binary_cross_entropy(logits, values)
            case "squared":
                return squared_probability_error(logits, values)
            case "poisson":
                return poisson_deviance(logits, values, self._scales[name].to(logits.device))
            case "weighted":
                return weighted_logistic_loss(logits, values, self._scales[name].to(logits.device))
            case "weighted_approximate":
                return approximate_weighted_logistic_loss(logits, values, self._scales[name].to(logits.device))
