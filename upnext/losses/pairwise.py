"""Losses of the order of two items: pure functions.

Shape letters: P pairs.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pairwise_logistic_loss"]


def pairwise_logistic_loss(
    better: Float[Tensor, " P"], worse: Float[Tensor, " P"], weights: Float[Tensor, " P"]
) -> Float[Tensor, ""]:
    """Σ w · -log σ(s_better - s_worse).

    One pair of equal scores and weight 2 costs 2 log 2. No pairs cost 0.
    """
    return (weights * F.softplus(worse - better)).sum()
