"""A temperature of logits, fixed or learned."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["HIGHEST", "LOWEST", "Temperature"]

LOWEST, HIGHEST = 0.01, 100.0


class Temperature(nn.Module):
    """Divides by a temperature T; a learned one starts at 1 and is learned as log T.

    A learned T stays in [0.01, 100]: it is clamped where it is next used, which is the same as after the step, since
    nothing reads it in between, and needs no hook in the training loop.
    """

    def __init__(self, temperature: float | Literal["learned"] = 1.0) -> None:
        super().__init__()
        self.fixed = 1.0 if temperature == "learned" else temperature
        self.log_value = nn.Parameter(torch.zeros(())) if temperature == "learned" else None

    def forward(self, queries: Tensor) -> Tensor:
        """Queries of any shape, divided by T."""
        if self.log_value is None:
            return queries / self.fixed
        with torch.no_grad():
            self.log_value.clamp_(math.log(LOWEST), math.log(HIGHEST))
        return queries * torch.exp(-self.log_value)

    @property
    def value(self) -> float:
        """T as it is now."""
        if self.log_value is None:
            return self.fixed
        return min(max(math.exp(min(self.log_value.item(), math.log(HIGHEST))), LOWEST), HIGHEST)
