"""Losses of one prediction against one observation, for each kind of feedback: pure functions, element by element.

Shape letters: N predictions.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "approximate_weighted_logistic_loss",
    "binary_cross_entropy",
    "poisson_deviance",
    "squared_probability_error",
    "weighted_logistic_loss",
]


def binary_cross_entropy(logits: Float[Tensor, " N"], targets: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """-y log σ(z) - (1 - y) log(1 - σ(z)) for targets in [0, 1]; a fraction's minimum is its own entropy.

    For z = 0 and y = 1 it is log 2.
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def squared_probability_error(logits: Float[Tensor, " N"], targets: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """(σ(z) - y)² for targets in [0, 1]; for z = 0 and y = 1 it is 1/4."""
    return (logits.sigmoid() - targets).square()


def poisson_deviance(
    logits: Float[Tensor, " N"], targets: Float[Tensor, " N"], scale: Float[Tensor, ""]
) -> Float[Tensor, " N"]:
    """A regression of amounts: (e^z - y z) / m, least where e^z is the mean of y; m > 0 is the amounts' usual size.

    For z = 0, y = 2 and m = 1 it is 1. Its gradient in z is (e^z - y) / m.
    """
    return (logits.exp() - targets * logits) / scale


def weighted_logistic_loss(
    logits: Float[Tensor, " N"], targets: Float[Tensor, " N"], scale: Float[Tensor, ""]
) -> Float[Tensor, " N"]:
    """Logistic regression whose odds learn E[y]: each example is a negative of weight 1 and a positive of its amount.

    Amounts are weights in units of their usual size m: with w = y / m and x = z - log m the loss is
    2 (w softplus(-x) + softplus(x)), and its gradient in z is 2 (σ(x) (1 + w) - w). Of n examples that share z the
    gradients add up to 2 (σ(x) (n + Σw) - Σw), zero where σ(x) = Σw / (n + Σw), so e^x = Σw / n and e^z = Σy / n.

    So it is the same in every unit. The 2 makes the second derivative 1 where e^z = E[y] = m: 2 σ (1 - σ) (1 + 1) = 1.

    Source:   S5 of Covington et al. 2016, with one more negative of weight 1 for each positive: the odds are then E[T]
              and not E[T] / (1 - P), as those of `approximate_weighted_logistic_loss`. The source names no unit.
    """
    weights, x = targets / scale, logits - scale.log()
    return 2 * (weights * F.softplus(-x) + F.softplus(x))


def approximate_weighted_logistic_loss(
    logits: Float[Tensor, " N"], targets: Float[Tensor, " N"], scale: Float[Tensor, ""]
) -> Float[Tensor, " N"]:
    """The published weighted logistic regression: a positive (y > 0) weighs its amount, a negative (y = 0) weighs 1.

    Amounts are weights in units of their usual size m: with w = y / m and x = z - log m the loss is
    2 (w softplus(-x) + [y = 0] softplus(x)), and its gradient in z is 2 (σ(x) (w + [y = 0]) - w). Of n examples that
    share z, k of them positive, the gradients add up to 2 (σ(x) (n - k + Σw) - Σw), zero where
    σ(x) = Σw / (n - k + Σw), so e^x = Σw / (n - k) and

        e^z = Σy / (n - k) = (Σy / n) / (1 - k / n) = E[y] / (1 - P),

    P the share of positives. Four impressions, one of them watched for 30 seconds: e^z = 30 / 3 = 10, the mean is
    7.5. The odds are too large by 1 / (1 - P), 1 % where one in a hundred is watched, and the order of two items that
    differ in P can be wrong. Where everything is positive nothing bounds z.

    Source:   Covington et al. 2016, section 4.2, which names no unit.
    """
    weights, x = targets / scale, logits - scale.log()
    is_negative = (targets == 0).to(logits.dtype)
    return 2 * (weights * F.softplus(-x) + is_negative * F.softplus(x))
