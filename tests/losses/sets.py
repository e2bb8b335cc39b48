"""Sets of candidates for the losses of sets, and the sum of a slow loss over them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tests.reference.distillation import Loss, Numbers, Scores

Fast = Callable[..., tuple[Tensor, Tensor]]
"""Of student, teacher or labels, and mask: (sum, weight)."""
Slow = Callable[[Scores, Numbers], Loss]

MASK = ["11111", "01101", "10000", "00000", "11110", "11100"]
LABELS = ["01001", "01010", "10000", "00000", "11110", "00010"]


def examples(seed: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student, teacher, labels, mask of six sets of up to five.

    One is full, one has gaps, one has a single candidate, one none, one equal labels and equal student scores, one
    labels of 0 alone and two equal teacher scores.
    """
    g = np.random.default_rng(seed)
    student, teacher = torch.from_numpy(g.normal(size=(2, 6, 5)) * 1.5)
    student[4], teacher[5, 1] = 0.25, teacher[5, 0]
    labels, mask = (torch.tensor([[letter == "1" for letter in row] for row in rows]) for rows in (LABELS, MASK))
    return student, teacher, labels.double(), mask


def by_loops(slow: Slow, student: Tensor, other: Tensor, mask: Tensor, per_set: bool = False) -> tuple[Tensor, float]:
    """Sum and weight of the sets that have candidates; per set the sum of means, and how many."""
    total, weight = student.sum() * 0, 0.0
    for s, t, there in zip(student, other, mask, strict=True):
        kept: Sequence[int] = there.nonzero()[:, 0].tolist()
        loss, own = slow([s[i] for i in kept], [float(t[i]) for i in kept]) if kept else (0.0, 0.0)
        if per_set:
            loss, own = (loss / own, 1.0) if own else (0.0, 0.0)
        total, weight = total + loss, weight + own
    return total, weight


def slopes(loss: Fast, student: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """The gradient in the student's scores."""
    leaf = student.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf, other, mask)[0], leaf)
    return slope
