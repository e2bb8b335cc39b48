"""Losses of the order of two items, summed over the pairs of a set: pure functions.

    pairwise_logistic_loss(better, worse, weights)              pairs that are given; a sum alone
    request_pairwise_loss(scores, utility, mask)                pairs of different utility, weighted by the difference
    label_pair_loss(student, labels, mask, *, ties, ...)        which of two has the higher label
    pair_probability_loss(student, teacher, mask, *, form, temperature, temperature_power, as_divergence, ...)
    pair_difference_loss(student, teacher, mask, *, ...)        ((t_i - t_j) - (s_i - s_j))², with any pair weights

The last four see each pair of a set once, return (sum, weight of the pairs), and the last three take `pair_weights`
(B, N, N), of which i < j is read (`losses.ranks.rank_pair_weights` makes some), and `per_set`, under which each set
weighs alike. Memory is O(B N²). `losses.sets.as_one_set` makes one set of a whole batch. The teacher is a constant.

Shape letters: P pairs, B sets (requests), N candidates (C of a request).
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from upnext.losses.sets import pair_differences, pairs_of, present, reduced, sums_of_sets

__all__ = [
    "PairForm",
    "label_pair_loss",
    "pair_difference_loss",
    "pair_probability_loss",
    "pairwise_logistic_loss",
    "request_pairwise_loss",
]

PairForm = Literal["unconditional", "conditional", "difference", "tied"]
"""What a teacher's two probabilities say of a pair; see `pair_probability_loss`."""


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
    """`label_pair_loss` of utilities U, where a pair weighs |U_a - U_b|.

    Utilities 0, 2, 3 with equal scores cost (2 + 3 + 1) log 2. Candidates outside the mask are in no pair. A constant
    added to all scores of a request changes nothing.

    Returns:  the sum, and the sum of the weights; 0 and 0 where there is no pair.
    """
    return label_pair_loss(scores, utility, mask, pair_weights=pair_differences(present(utility, mask)).abs())


def label_pair_loss(
    student: Float[Tensor, "B N"],
    labels: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    ties: Literal["keep", "drop"] = "drop",
    pair_weights: Float[Tensor, "B N N"] | None = None,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ_{i<j} -y_ij log σ(s_i - s_j) - (1 - y_ij) log σ(s_j - s_i), with y_ij of the two labels.

    It is 1 where label i is the higher one, 0 where it is the lower, 1/2 where they are equal. Labels 1, 0, 0 and equal
    scores cost 2 log 2 where ties are dropped, 3 log 2 where they are kept. A kept tie draws its two scores together.
    Labels may be graded.

    Returns:  the sum, and the weight of the pairs; 0 and 0 where there is none.
    Source:   WO 2023/064083, the ranking loss of true labels.
    """
    difference = pair_differences(present(labels, mask))
    pairs = pairs_of(mask) if ties == "keep" else pairs_of(mask) & (difference != 0)
    weights = _weighted(pairs.to(difference.dtype), pair_weights)
    losses = _cross_entropy(present(student, mask), (1 + difference.sign()) / 2)
    return reduced(*sums_of_sets(losses, weights), per_set)


def pair_probability_loss(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    form: PairForm = "unconditional",
    temperature: float = 1.0,
    temperature_power: Literal[1, 2] = 1,
    as_divergence: bool = False,
    pair_weights: Float[Tensor, "B N N"] | None = None,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ_{i<j} v_ij · cross-entropy of y_ij and σ(s_i - s_j), with y_ij and v_ij from q = σ(t), all scores divided by g.

        unconditional   y_ij = σ(t_i - t_j),        v_ij = 1
        conditional     y_ij = σ(t_i - t_j),        v_ij = q_i (1 - q_j) + q_j (1 - q_i)
        difference      y_ij = 1 where q_i > q_j,   v_ij = |q_i - q_j|
        tied            y_ij = (1 + q_i - q_j) / 2, v_ij = 1

    Draw labels with the teacher's probabilities, each by itself. `conditional` is then the expectation of
    `label_pair_loss` with ties dropped, -q_i (1 - q_j) log σ(s_i - s_j) - q_j (1 - q_i) log σ(s_j - s_i), and `tied`
    that with ties kept. `difference` subtracts the two terms' weights; it has no finite minimum. Only `unconditional`
    stays the same when all teacher scores of a set move alike.

    Args:     temperature: g > 0; the loss is multiplied by g (temperature_power 1; gradients shrink as 1/g) or g² (2).
              as_divergence: less the entropy of the targets, so that the least value is 0. Gradients are the same.
    Returns:  the sum, and the weight of the pairs, Σ v_ij; 0 and 0 where there is none.
    Source:   WO 2023/064083, ranking distillation by pair probability, and by temperature.
    """
    t = present(teacher.detach(), mask) / temperature
    # q_i (1 - q_j), without the loss of digits that 1 - q has where q is almost 1
    first_only = t.sigmoid()[:, :, None] * (-t).sigmoid()[:, None, :]
    second_only = first_only.transpose(1, 2)
    weights = pairs_of(mask).to(t.dtype)
    match form:
        case "unconditional" | "conditional":
            targets = pair_differences(t).sigmoid()
            weights = weights if form == "unconditional" else weights * (first_only + second_only)
        case "difference":
            targets = (first_only > second_only).to(t.dtype)
            weights = weights * (first_only - second_only).abs()
        case "tied":
            targets = (1 + first_only - second_only) / 2
    losses = _cross_entropy(present(student, mask) / temperature, targets)
    if as_divergence:
        losses = losses - torch.special.entr(targets) - torch.special.entr(1 - targets)
    losses = losses * temperature**temperature_power
    return reduced(*sums_of_sets(losses, _weighted(weights, pair_weights)), per_set)


def pair_difference_loss(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    pair_weights: Float[Tensor, "B N N"] | None = None,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ_{i<j} w_ij ((t_i - t_j) - (s_i - s_j))², pair by pair: for weights that are no products w_i w_j.

    For those that are, `losses.distillation.difference_loss` is the same in O(N). Teacher 2, 0 and student 0, 1 cost 9.

    Returns:  the sum, and the weight of the pairs; 0 and 0 where there is none.
    Source:   WO 2023/064083, the pairwise form of rank distillation.
    """
    gaps = pair_differences(present(teacher.detach(), mask) - present(student, mask))
    weights = _weighted(pairs_of(mask).to(gaps.dtype), pair_weights)
    return reduced(*sums_of_sets(gaps.square(), weights), per_set)


def _cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """(B, N, N) of the targets and σ(s_i - s_j)."""
    logits = pair_differences(scores)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")


def _weighted(weights: Tensor, pair_weights: Tensor | None) -> Tensor:
    """The weights times those that are given; what is no pair stays 0, whatever was given for it."""
    if pair_weights is None:
        return weights
    return weights * torch.where(weights > 0, pair_weights.detach().to(weights.dtype), 0.0)
