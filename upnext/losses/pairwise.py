"""Losses of the order of two items: pure functions.

Shape letters: P pairs, B requests, C candidates.
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pairwise_logistic_loss", "request_pairwise_loss"]


def pairwise_logistic_loss(
    better: Float[Tensor, " P"], worse: Float[Tensor, " P"], weights: Float[Tensor, " P"]
) -> Float[Tensor, ""]:
    """Σ w · -log σ(s_better - s_worse).

    One pair of equal scores and weight 2 costs 2 log 2. No pairs cost 0.
    """
    return (weights * F.softplus(worse - better)).sum()


def request_pairwise_loss(
    scores: Float[Tensor, "B C"], utility: Float[Tensor, "B C"], mask: Bool[Tensor, "B C"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`pairwise_logistic_loss` over every pair of candidates of one request whose utilities U differ.

    A pair weighs U_a - U_b for U_a > U_b. Utilities 0, 2, 3 with equal scores cost (2 + 3 + 1) log 2. Candidates
    outside the mask are in no pair. A constant added to all scores of a request changes nothing.

    Returns:  the sum, and the sum of the weights; 0 and 0 where there is no pair.
    """
    weights = (utility[:, :, None] - utility[:, None, :]).clamp(min=0)
    weights = weights * (mask[:, :, None] & mask[:, None, :])
    request, better, worse = (weights > 0).nonzero(as_tuple=True)
    weight = weights[request, better, worse]
    return pairwise_logistic_loss(scores[request, better], scores[request, worse], weight), weight.sum()
