"""Dropout whose masks are cheap to draw on the CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Dropout"]

_STEPS = 2**16


class Dropout(nn.Module):
    """Inverted dropout: in training each number is zeroed with probability `rate`, and the rest scaled up.

    On the CPU a mask costs its random numbers, so one 64-bit draw decides about four numbers, 16 bits each. The
    rate is thereby rounded to 1/65536; the scale is that of the rounded rate, so that the expectation is exact.

    Source:   Srivastava et al. 2014.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training; the identity in evaluation."""
        if not self.training or not self.rate:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        dropped = min(round(self.rate * _STEPS), _STEPS - 1)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - _STEPS // 2
        return x * (keep * (_STEPS / (_STEPS - dropped)))

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"rate={self.rate}"
