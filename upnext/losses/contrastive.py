"""Telling what was chosen from what was drawn for it: noise-contrastive estimation by ranking.

Shape letters: N positions, n draws per position, M distinct items among them, D width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ranking_nce_loss"]


def ranking_nce_loss(
    queries: Float[Tensor, "N D"],
    positives: Float[Tensor, "N D"],
    negatives: Float[Tensor, "M D"],
    drawn: Int[Tensor, "N n"],
) -> Float[Tensor, ""]:
    """Sum over positions of -s_+ + log(e^{s_+} + sum_j e^{s_j}), with s = <q, item> and n draws j from a proposal Q.

    Let one of n + 1 items be drawn from P and the others from Q, in random order. That the k-th is the one from P has
    the probability P(i_k)/Q(i_k) / sum_j P(i_j)/Q(i_j). The loss is the cross-entropy of that with e^s for P/Q, so
    whatever n is, it is least where s = log P - log Q + a constant of the position: P is Q · e^s, normalised, and the
    proposal needs no correction. Draws of the target itself are kept: without them this would not be so. As n grows
    the gradient tends to that of the full softmax of s + log Q.

    Args:     positives: the vectors of the targets. negatives: of the distinct items drawn; drawn: rows of it.
    Returns:  0-d; log(1 + number drawn) per position where nothing tells items apart, 0 for no positions.
    Source:   Jozefowicz et al. 2016; Ma and Collins 2018 (the ranking objective).
    """
    own = (queries * positives).sum(1, keepdim=True)
    others = torch.bmm(F.embedding(drawn, negatives), queries[:, :, None]).squeeze(2)
    logits = torch.cat([own, others], dim=1).to(torch.float32)
    return (logits.logsumexp(1) - logits[:, 0]).sum()
