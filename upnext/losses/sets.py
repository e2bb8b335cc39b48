"""What the losses of sets have in common: precision, what is outside the mask, pairs, and means.

A batch of sets is padded: scores (B, N) and a mask (B, N) that says which of them are there. What stands outside the
mask may be anything, NaN included, and gets no gradient.

    as_one_set(student, teacher, mask)    the whole batch as one set, for losses over all its pairs
    present(values, mask)                 at least float32, 0 outside the mask
    widest(values)                        float64, where the device has it
    pair_differences(values), pairs_of(mask)
    sums_of_sets(losses, weights)         of candidates or pairs: (B,) weighted sums, and (B,) sums of weights
    reduced(sums, weights, per_set)       (sum, weight) of the batch

Shape letters: B sets, N candidates, M candidates of the whole batch.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["as_one_set", "pair_differences", "pairs_of", "present", "reduced", "sums_of_sets", "widest"]


def as_one_set(
    student: Float[Tensor, "B N"], teacher: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]
) -> tuple[Float[Tensor, "1 M"], Float[Tensor, "1 M"], Bool[Tensor, "1 M"]]:
    """The candidates of all sets as one set, so that any loss here is one over the pairs of a whole mini-batch.

    `difference_loss(*as_one_set(student, teacher, mask))`. Only the level of the whole batch is free then, no longer
    that of each set.
    """
    return student[mask][None], teacher[mask][None], mask[mask][None]


def present(values: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """The values in at least float32, and 0 where there is no candidate."""
    return torch.where(mask, values.to(torch.promote_types(values.dtype, torch.float32)), 0.0)


def widest(values: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """The values in float64, or in float32 on MPS, which has no more."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def pair_differences(values: Float[Tensor, "B N"]) -> Float[Tensor, "B N N"]:
    """v_i - v_j."""
    return values[:, :, None] - values[:, None, :]


def pairs_of(mask: Bool[Tensor, "B N"]) -> Bool[Tensor, "B N N"]:
    """True at i < j where both are there: each pair once."""
    return (mask[:, :, None] & mask[:, None, :]).triu(1)


def sums_of_sets(
    losses: Float[Tensor, "B ..."], weights: Float[Tensor, "B ..."]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Σ w · loss and Σ w of each set; what weighs nothing counts for nothing, were its loss infinite."""
    return torch.where(weights != 0, weights * losses, 0.0).flatten(1).sum(1), weights.flatten(1).sum(1)


def reduced(
    sums: Float[Tensor, " B"], weights: Float[Tensor, " B"], per_set: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The sum and the weight of a batch.

    Sums 6 and 1 with weights 3 and 1 give (7, 4), a mean of 7/4 over what the weights count; per set they give (3, 2),
    a mean of 3/2 over the sets' own means. A set of weight 0 counts for nothing.
    """
    if not per_set:
        return sums.sum(), weights.sum()
    counts = weights > 0
    return (sums / torch.where(counts, weights, 1.0))[counts].sum(), counts.sum().to(sums.dtype)
