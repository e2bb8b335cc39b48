"""Ranks of the scores of a set: hard and differentiable, losses that see ranks alone, and weights by rank.

    ranks(scores, mask)                                      1 is best, ties share their average
    soft_ranks(scores, mask, *, width)                       the same with a gradient, in O(N log N)
    rank_loss(student, teacher, mask, *, width, per_set)     Σ (u_i - r_i)² with soft ranks r: 1 - Spearman's ρ
    rank_step_loss(student, teacher, mask, *, sign, per_set) its step of gradient descent is s_i += η (r_i - u_i)
    rank_pair_weights(student, teacher, mask, *, form, by, exponent)   (B, N, N) for the losses of pairs
    softmax_weights(scores, mask, *, temperature)                      (B, N) for the losses that take weights

Scores are finite. Weights and the teacher are constants.

Shape letters: B sets, N candidates.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upnext.losses.sets import pair_differences, pairs_of, present, reduced, widest

__all__ = [
    "WeightForm",
    "rank_loss",
    "rank_pair_weights",
    "rank_step_loss",
    "ranks",
    "soft_ranks",
    "softmax_weights",
]

WeightForm = Literal["reciprocal", "reciprocal_log", "distance", "softmax"]
"""How the ranks or scores of two candidates weigh their pair; see `rank_pair_weights`."""


def ranks(scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """The rank of each candidate in its set, 1 for the highest score; tied candidates share their average rank.

    Scores 0.9, 0.5, 0.5, 0.1 have ranks 1, 2.5, 2.5, 4. Outside the mask it is 0.
    """
    values = present(scores.detach(), mask).masked_fill(~mask, -torch.inf).contiguous()
    ascending = values.sort(1).values
    below = torch.searchsorted(ascending, values)
    not_above = torch.searchsorted(ascending, values, right=True)
    return torch.where(mask, values.shape[1] + 0.5 - (below + not_above).to(values.dtype) / 2, 0.0)


def soft_ranks(scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], *, width: float = 1.0) -> Float[Tensor, "B N"]:
    """r_i = 1 + Σ_{j ≠ i} h(s_j - s_i), with h from 0 at -width, straight through 1/2 at 0, to 1 at +width.

    The ranks exactly where no two scores are closer than the width; ties share their average, as in `ranks`. Scores
    0.5 apart with width 1 have ranks 1.25 and 1.75. The gradient pushes only candidates that are within the width of
    each other. A constant added to all scores changes nothing.

    Args:     width: above 0, in units of scores.
    Returns:  (B, N) at least float32; 0 outside the mask. O(N log N), its gradient O(N).
    Source:   the soft rank of Qin et al. 2010, 1 + Σ σ((s_j - s_i) / τ), with straight lines for σ: sums of straight
              lines over a window are sums of its scores, which prefix sums give.
    """
    found: Tensor = _SoftRanks.apply(present(scores, mask), mask, width)  # type: ignore[no-untyped-call]
    return found


class _SoftRanks(torch.autograd.Function):
    """Sorted scores; the window of each is a range of them."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor, width: float) -> Tensor:
        # Ascending, with what is no candidate at the end, out of reach of every window.
        order = scores.masked_fill(~mask, torch.inf).argsort(1)
        there = mask.gather(1, order)
        ascending = widest(scores).gather(1, order)
        # A gap is as good as any other that is larger than the width: cut, they keep sums of scores small and exact.
        gaps = ascending.diff(dim=1, prepend=ascending[:, :1]).nan_to_num(0.0) / width
        position = torch.where(there, gaps, 2.0).clamp(max=2.0).contiguous().cumsum(1)
        end = torch.searchsorted(position, position + 1, right=True)
        # i is in the window of j where j is in that of i, also where rounding decides
        first = torch.searchsorted(end, torch.arange(end.shape[1], device=end.device).repeat(len(end), 1), right=True)
        size = end - first
        num = there.sum(1, keepdim=True)
        above = num - end
        inside = _window_sums(position, first, end) - size * position
        found = 0.5 + above + (size + inside) / 2
        ctx.save_for_backward(order, first, end, there)
        ctx.width = width
        found = torch.where(there, found, 0.0).to(scores.dtype)
        return torch.empty_like(found).scatter_(1, order, found)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        order, first, end, there = ctx.saved_tensors
        # dr_i / ds_j = 1 / (2 width) for j in the window of i, and dr_i / ds_i = -(others in it) / (2 width)
        g = torch.where(there, widest(grad_outputs[0]).gather(1, order), 0.0)
        slopes = (_window_sums(g, first, end) - (end - first) * g) / (2 * ctx.width)
        slopes = torch.where(there, slopes, 0.0).to(grad_outputs[0].dtype)
        return torch.empty_like(slopes).scatter_(1, order, slopes), None, None


def _window_sums(values: Tensor, first: Tensor, end: Tensor) -> Tensor:
    """Σ of values[first:end], for each of a row's windows."""
    sums = torch.nn.functional.pad(values.cumsum(1), (1, 0))
    return sums.gather(1, end) - sums.gather(1, first)


def rank_loss(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    width: float = 1.0,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ (u_i - r_i)² of the teacher's ranks u and the student's soft ranks r.

    Returns:  the sum, and Σ over sets of N (N² - 1) / 6, so that the mean is 1 - Spearman's ρ where nothing is tied
              or closer than the width; 0 and 0 for sets of one.
    Source:   WO 2023/064083, equation 26.
    """
    error = torch.where(mask, ranks(teacher, mask) - soft_ranks(student, mask, width=width), 0.0)
    num = mask.sum(1).to(error.dtype)
    return reduced(error.square().sum(1), num * (num.square() - 1) / 6, per_set)


def rank_step_loss(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    sign: bool = False,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ (u_i - r_i) s_i with the ranks as constants: gradient descent on it steps s_i += η (r_i - u_i).

    The ranks r go against the scores, so Σ r s is the least sum of products with any order of the ranks: the loss is
    never below 0, and it is 0 where the orders agree.

    Args:     sign: steps of the sign of r_i - u_i alone.
    Returns:  the sum, and the number of candidates in sets of two or more.
    Source:   WO 2023/064083, steps in proportion to the difference of ranks, or by its sign.
    """
    step = ranks(teacher, mask) - ranks(student, mask)
    step = step.sign() if sign else step
    num = mask.sum(1)
    return reduced((step * present(student, mask)).sum(1), torch.where(num > 1, num, 0).to(step.dtype), per_set)


def rank_pair_weights(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    form: WeightForm = "reciprocal_log",
    by: Literal["teacher", "student", "both"] = "teacher",
    exponent: float = 1.0,
) -> Float[Tensor, "B N N"]:
    """What each pair of a set weighs by the ranks r (1 is best) of its two candidates; constants.

        reciprocal       |1/r_i - 1/r_j|
        reciprocal_log   |1/log(1 + r_i) - 1/log(1 + r_j)|
        distance         1 / |r_i - r_j|^exponent; tied candidates count as neighbours
        softmax          softmax(scores)_i · softmax(scores)_j

    Args:     by: whose ranks or scores; `both` is the mean of the two weights.
    Returns:  (B, N, N) at least float32, the same for (i, j) and (j, i); 0 on the diagonal and outside the mask.
    Source:   WO 2023/064083, equations 17 and 18; LambdaRank (Burges et al. 2006).
    """
    pairs = pairs_of(mask)
    pairs = pairs | pairs.transpose(1, 2)
    whose = {"teacher": [teacher], "student": [student], "both": [teacher, student]}[by]
    found = torch.stack([_pair_weights(scores, mask, form, exponent) for scores in whose]).mean(0)
    return torch.where(pairs, found, 0.0)


def _pair_weights(scores: Tensor, mask: Tensor, form: WeightForm, exponent: float) -> Tensor:
    if form == "softmax":
        weights = softmax_weights(scores, mask)
        return weights[:, :, None] * weights[:, None, :]
    r = ranks(scores, mask).clamp(min=1)
    match form:
        case "reciprocal":
            return pair_differences(1 / r).abs()
        case "reciprocal_log":
            return pair_differences(1 / r.log1p()).abs()
        case "distance":
            # Average ranks of different scores are at least 1 apart.
            return pair_differences(r).abs().clamp(min=1) ** -exponent


def softmax_weights(
    scores: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], *, temperature: float = 1.0
) -> Float[Tensor, "B N"]:
    """softmax(s / temperature) over each set, as constants: weights that make much of what is ranked high.

    Returns:  (B, N), adding up to 1 in each set; 0 outside the mask.
    """
    s = present(scores.detach(), mask) / temperature
    return torch.where(mask, s.masked_fill(~mask & mask.any(1, keepdim=True), -torch.inf).softmax(1), 0.0)
