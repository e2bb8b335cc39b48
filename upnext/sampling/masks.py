"""Which positions of sequences are masked, drawn anew for every batch.

Draws come from torch's generator of the CPU, whatever the device, so that a resumed training draws what an undisturbed
one would have drawn.

Shape letters: B rows, L positions.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

__all__ = ["one_position", "some_positions"]


def some_positions(
    allowed: Bool[Tensor, "B L"], rate: float, generator: torch.Generator | None = None
) -> Bool[Tensor, "B L"]:
    """Each allowed position with probability `rate`, apart from the others."""
    draws = torch.rand(allowed.shape, generator=generator).to(allowed.device)
    return allowed & (draws < rate)


def one_position(allowed: Bool[Tensor, "B L"], generator: torch.Generator | None = None) -> Bool[Tensor, "B L"]:
    """Exactly one allowed position of each row, all as likely; none of a row that has none."""
    if not allowed.shape[1]:
        return allowed
    draws = torch.rand(allowed.shape, generator=generator).to(allowed.device)
    best = draws.masked_fill(~allowed, -1.0).argmax(1, keepdim=True)
    return allowed & torch.zeros_like(allowed).scatter_(1, best, True)
