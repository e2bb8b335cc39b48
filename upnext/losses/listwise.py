"""Losses of the order of a set, as one choice from it by softmax: pure functions.

    listwise_softmax_loss(scores, utility, mask, *, equal)   shares of gains as targets; 1/P on positives for labels
    multi_positive_loss(student, labels, mask)               -log of the probability that any positive is chosen
    list_probability_loss(student, teacher, mask, *, temperature, temperature_power, as_divergence)

Each returns (sum, number of sets it is of), so every set weighs alike. A constant added to all scores of a set
changes nothing. `losses.sets.as_one_set` makes one set of a whole batch. The teacher is a constant.

Shape letters: B sets (requests), N candidates (C of a request).
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upnext.losses.sets import present

__all__ = ["list_probability_loss", "listwise_softmax_loss", "multi_positive_loss"]


def listwise_softmax_loss(
    scores: Float[Tensor, "B C"],
    utility: Float[Tensor, "B C"],
    mask: Bool[Tensor, "B C"],
    *,
    equal: Literal["keep", "drop"] = "drop",
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ over requests of -Σ_c y_c log softmax(s)_c, where y shares out the gains: y_c = g_c / Σ g.

    The gain of a candidate is its utility less the least of its request, so a weight below 0 can be part of a utility.
    Labels 0 and 1, P of them 1, give 1/P on each of these. Utilities 1, 0, 0 and equal scores cost log 3; utilities
    1, 1, 0 have y = 1/2, 1/2, 0. The softmax and the gains see the candidates of the mask alone. A constant added to
    all scores of a request changes nothing.

    Args:     equal: a request whose utilities are all equal has nothing to choose and adds nothing; kept, each of its
              N > 1 candidates has y = 1/N, which draws its scores together.
    Returns:  the sum, and how many requests it is of; 0 and 0 for none.
    Source:   ListNet's top-one probability (Cao et al. 2007), with shares of gains as targets; WO 2023/064083, the
              listwise ranking loss of true labels.
    """
    gains = _gains(utility, mask)
    total = gains.sum(1)
    if equal == "keep":
        is_equal = (total == 0) & (mask.sum(1) > 1)
        gains = torch.where(is_equal[:, None], mask.to(gains.dtype), gains)
        total = gains.sum(1)
    chooses = total > 0
    shares = gains / torch.where(chooses, total, 1.0)[:, None]
    losses = -(shares * _log_softmax(present(scores, mask), mask)).sum(1)
    return losses[chooses].sum(), chooses.sum().to(losses.dtype)


def multi_positive_loss(
    student: Float[Tensor, "B N"], labels: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ over sets of -log( Σ_positive e^s / Σ_all e^s ); a positive's label is above the least of its set.

    Labels 1, 1, 0 and equal scores cost log 3/2. One positive, and it is `listwise_softmax_loss`. Several need not all
    be high: one is enough. A set whose labels are all equal costs 0 and is not counted.

    Returns:  the sum, and how many sets it is of; 0 and 0 for none.
    Source:   WO 2023/064083, labels as disjoint events: the softmax's probability of those with the same label.
    """
    is_positive = _gains(labels, mask) > 0
    chooses = is_positive.any(1)
    log_softmax = _log_softmax(present(student, mask), mask)[chooses]
    losses = -log_softmax.masked_fill(~is_positive[chooses], -torch.inf).logsumexp(1)
    return losses.sum(), chooses.sum().to(losses.dtype)


def list_probability_loss(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    temperature: float = 1.0,
    temperature_power: Literal[1, 2] = 1,
    as_divergence: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ over sets of the cross-entropy of softmax(t / g) and softmax(s / g).

    Sets of two: `pair_probability_loss`, unconditional. Teacher and student all equal: log N.

    Args:     temperature: g > 0; the loss is multiplied by g (temperature_power 1; gradients shrink as 1/g) or g² (2).
              as_divergence: less the entropy of softmax(t / g), so that the least value is 0. Gradients are the same.
    Returns:  the sum, and how many sets of two or more it is of: one candidate leaves nothing to choose.
    Source:   WO 2023/064083, ranking distillation by list probability, and by temperature.
    """
    log_targets = _log_softmax(present(teacher.detach(), mask) / temperature, mask)
    targets = torch.where(mask, log_targets.exp(), 0.0)
    log_softmax = _log_softmax(present(student, mask) / temperature, mask)
    compared = log_softmax - log_targets if as_divergence else log_softmax
    chooses = mask.sum(1) > 1
    losses = -(targets * compared).sum(1)[chooses]
    return losses.sum() * temperature**temperature_power, chooses.sum().to(losses.dtype)


def _gains(utility: Tensor, mask: Tensor) -> Tensor:
    """Utilities less the least of their set; 0 where there is no candidate."""
    if not utility.shape[1]:
        return present(utility, mask)
    least = utility.masked_fill(~mask, torch.finfo(utility.dtype).max).amin(1, keepdim=True)
    return present(torch.where(mask, utility - least, 0.0), mask)


def _log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """log softmax over the candidates of the mask, 0 elsewhere."""
    # A set of none is all 0 here: a softmax of -inf alone would be NaN, and so would its gradient.
    outside = ~mask & mask.any(1, keepdim=True)
    return scores.masked_fill(outside, -torch.inf).log_softmax(1).masked_fill(~mask, 0.0)
