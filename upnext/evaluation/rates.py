"""Rates: what feedback an item gets on average. The baseline that any feedback prediction has to beat.

Shape letters: B rows, C candidates, V items, K feedbacks.
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from upnext.base.batches import Candidates, FlatColumn, Request, SequenceBatch, State
from upnext.base.configuration import Config
from upnext.base.protocols import LINKS, Link
from upnext.base.schema import FeedbackKind
from upnext.base.views import ALL

__all__ = ["Rates", "RatesConfig"]


class RatesConfig(Config):
    """How items' rates are counted."""

    view: str = ALL
    """The events that are counted."""
    prior: Annotated[float, Field(gt=0)] | None = 20.0
    """Every item begins with so many events of the average; unset, all items have the average."""


class Rates:
    """Each item's mean feedback over the training part, drawn towards the mean of all: (Σ f + m · mean) / (n + m).

    It reads no history. A mean of 0 or 1 is kept 1e-6 away from it.
    """

    def __init__(self, config: RatesConfig, feedback: Mapping[str, FeedbackKind], rates: Float[Tensor, "V K"]) -> None:
        self.config, self.feedback, self.rates = config, dict(feedback), rates

    @classmethod
    def fit(
        cls,
        config: RatesConfig,
        feedback: Mapping[str, FeedbackKind],
        items: NDArray[np.int64],
        columns: Mapping[str, FlatColumn],
        num_items: int,
    ) -> "Rates":
        """Count the events of the training part; `columns` by the feedbacks' short names."""
        rates = np.zeros((num_items, len(feedback)))
        for number, name in enumerate(feedback):
            seen = columns[name].observed
            values = columns[name].values[seen].astype(np.float64)
            mean = values.mean() if len(values) else 0.0
            sums = np.bincount(items[seen], values, minlength=num_items)
            counts = np.bincount(items[seen], minlength=num_items)
            m = config.prior
            rates[:, number] = mean if m is None else (sums + m * mean) / (counts + m)
        return cls(config, feedback, torch.from_numpy(rates).to(torch.float32))

    @property
    def view(self) -> str:
        """The view it counts."""
        return self.config.view

    @property
    def max_length(self) -> int:
        """It reads no history."""
        return 0

    @property
    def components(self) -> Mapping[str, Link]:
        """Each feedback, with the link of its output."""
        return {name: LINKS[kind] for name, kind in self.feedback.items()}

    def encode(self, histories: SequenceBatch) -> State:
        """Nothing to remember."""
        return State({"nothing": torch.zeros(len(histories), 0)})

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Float[Tensor, "B C"]]:
        """The items' rates, through the inverse of each link."""
        rates = self.rates[candidates.item.clamp(max=len(self.rates) - 1)]
        outputs = {}
        for number, (name, link) in enumerate(self.components.items()):
            rate = rates[..., number]
            outputs[name] = rate.clamp(min=1e-6).log() if link is Link.EXP else rate.clamp(1e-6, 1 - 1e-6).logit()
        return outputs

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        return {"rates": self.rates}
