"""What a masked position costs where its feature is not compared by a softmax over the catalogue.

The softmax over the whole embedding table is `losses.softmax`, that over a sample of it `losses.sampled`.

Shape letters: N masked positions, V rows of the table, L positions of a sequence, D width.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

__all__ = ["max_margin_loss", "same_sequence_loss"]


def max_margin_loss(
    features: Float[Tensor, "N D"], table: Float[Tensor, "V D"], targets: Int[Tensor, " N"], margin: float
) -> Float[Tensor, ""]:
    """Σ max(0, margin + the largest s_j of another row - s of the target), s_j = <feature, row j>.

    A target that is ahead by 0.3 with a margin of 1 costs 0.7. Where the table has one row, nothing costs anything.

    Args:     targets: rows of the table.
    Returns:  0-d; 0 for no positions.
    Source:   Crammer and Singer 2001; US 12,389,079 B2 names a max-margin loss and leaves its form open.
    """
    scores = features @ table.T
    own = scores.gather(1, targets[:, None])
    rest = scores.scatter(1, targets[:, None], -torch.inf)
    return F.relu(margin + rest.amax(1) - own[:, 0]).sum() if len(table) else scores.sum()


def same_sequence_loss(
    features: Float[Tensor, "N D"],
    inputs: Float[Tensor, "N L D"],
    is_compared: Bool[Tensor, "N L"],
    targets: Int[Tensor, " N"],
) -> Float[Tensor, ""]:
    """Σ -log softmax over the inputs of the same sequence, at the position that was masked.

    Args:     inputs: what stood at each position of the sequence before anything was masked; is_compared: the real
              positions, less those that hold the target once more; targets: the masked position of each.
    Returns:  0-d; a sequence of one input costs 0, and so do no positions.
    Source:   US 12,389,079 B2, claims 3 and 4: similarity to the input, compared to that to other inputs of the
              sequence.
    """
    scores = torch.einsum("nd,nld->nl", features, inputs).masked_fill(~is_compared, -torch.inf)
    return (scores.logsumexp(1) - scores.gather(1, targets[:, None])[:, 0]).sum()
