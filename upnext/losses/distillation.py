"""A student's scores beside labels and a teacher's scores: item by item, and by all differences in linear time.

    label_loss(student, labels, mask, *, form, weights, per_set)      what each label is
    score_loss(student, teacher, mask, *, form, weights, per_set)     the teacher's scores themselves
    difference_loss(student, teacher, mask, *, weights, per_set)      the teacher's differences, in O(N)

Scores are logits. Each returns (sum, weight); `weights` (B, N) weigh candidates, under `per_set` each set weighs
alike. The teacher is a constant. Other files of the room have the rest of rank distillation: `pairwise` (labels,
probabilities and differences pair by pair), `listwise` (softmax over a set), `ranks` (ranks alone, weights by rank),
`sets` (a whole batch as one set).

Shape letters: B sets, N candidates.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from upnext.losses.sets import present, reduced, sums_of_sets, widest

__all__ = ["difference_loss", "label_loss", "score_loss"]


def label_loss(
    student: Float[Tensor, "B N"],
    labels: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    form: Literal["cross_entropy", "squared_probability", "squared"] = "cross_entropy",
    weights: Float[Tensor, "B N"] | None = None,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ_i of the cross-entropy of y_i and σ(s_i), or of (σ(s_i) - y_i)², or, for graded labels, of (s_i - y_i)².

    Label 1 and score 0 cost log 2, 1/4, and 1. The first two take labels in [0, 1].

    Returns:  the sum, and the number of candidates or the sum of their weights.
    Source:   WO 2023/064083, equation 2. Its equation 1 squares logit(y) - s, which is infinite for labels 0 and 1.
    """
    s, y = present(student, mask), present(labels, mask)
    match form:
        case "cross_entropy":
            losses = F.binary_cross_entropy_with_logits(s, y.to(s.dtype), reduction="none")
        case "squared_probability":
            losses = (s.sigmoid() - y).square()
        case "squared":
            losses = (s - y).square()
    return _over_items(losses, mask, weights, per_set)


def score_loss(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    form: Literal["squared", "cross_entropy"] = "squared",
    weights: Float[Tensor, "B N"] | None = None,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ_i (t_i - s_i)², or of the cross-entropy of σ(t_i) and σ(s_i).

    Both also pull at the level of a set: their gradients do not add up to 0.

    Returns:  the sum, and the number of candidates or the sum of their weights.
    Source:   WO 2023/064083, equations 4 to 7.
    """
    targets = teacher.detach() if form == "squared" else present(teacher.detach(), mask).sigmoid()
    return label_loss(student, targets, mask, form=form, weights=weights, per_set=per_set)


def difference_loss(
    student: Float[Tensor, "B N"],
    teacher: Float[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
    *,
    weights: Float[Tensor, "B N"] | None = None,
    per_set: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ_{i<j} w_i w_j ((t_i - t_j) - (s_i - s_j))² in O(N), with an explicit gradient.

    With d = t - s, W = Σ w and μ = Σ w d / W it is W Σ_i w_i (d_i - μ)², and its gradient in s_k is
    -2 W w_k (d_k - μ); without weights N Σ_i (d_i - mean d)² and -2 N (d_k - mean d). The expanded form
    N Σ d² - (Σ d)² is the same number, but subtracts two that are almost equal where scores are large. What lies
    between the scores and the loss is float64, so that t - s keeps its digits there.

    Teacher 2, 0 and student 0, 1 cost 9. A constant added to the scores of a set changes nothing, and the gradients of
    a set add up to 0.

    Returns:  the sum, and the number of pairs, or Σ_{i<j} w_i w_j; 0 and 0 where there is no pair.
    Source:   WO 2023/064083, equations 12 to 16.
    """
    w = mask if weights is None else present(weights.detach(), mask)
    sums, pairs = _SquaredDifferences.apply(student, teacher, w, mask)  # type: ignore[no-untyped-call]
    return reduced(sums, pairs, per_set)


class _SquaredDifferences(torch.autograd.Function):
    """(B,) sums over the pairs of each set, and (B,) weights of these."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        d = torch.where(mask, widest(teacher) - student, 0.0)
        w = weights.to(d.dtype)
        total = w.sum(1, keepdim=True)
        centred = d - (w * d).sum(1, keepdim=True) / total.clamp(min=torch.finfo(d.dtype).tiny)
        slopes = w * centred * total
        ctx.save_for_backward(slopes)
        pairs = (total[:, 0].square() - w.square().sum(1)) / 2
        ctx.mark_non_differentiable(pairs)
        dtype = torch.promote_types(student.dtype, torch.float32)
        return (slopes * centred).sum(1).to(dtype), pairs.to(dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * (-2 * grad_outputs[0])[:, None], None, None, None


def _over_items(losses: Tensor, mask: Tensor, weights: Tensor | None, per_set: bool) -> tuple[Tensor, Tensor]:
    w = mask.to(losses.dtype) if weights is None else present(weights.detach(), mask)
    return reduced(*sums_of_sets(losses, w), per_set)
