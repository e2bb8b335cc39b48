"""Losses of the order of what was shown together, as one choice: pure functions.

Shape letters: B requests, C candidates.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["listwise_softmax_loss"]


def listwise_softmax_loss(
    scores: Float[Tensor, "B C"], utility: Float[Tensor, "B C"], mask: Bool[Tensor, "B C"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Σ over requests of -Σ_c y_c log softmax(s)_c, where y shares out the gains: y_c = g_c / Σ g.

    The gain of a candidate is its utility less the least of its request, so a weight below 0 can be part of a utility.
    Utilities 1, 0, 0 and equal scores cost log 3; utilities 1, 1, 0 have y = 1/2, 1/2, 0. The softmax and the gains
    see the candidates of the mask alone. A request whose utilities are all equal has nothing to choose and adds
    nothing. A constant added to all scores of a request changes nothing.

    Returns:  the sum, and how many requests it is of; 0 and 0 for none.
    Source:   ListNet's top-one probability (Cao et al. 2007), with shares of gains as targets.
    """
    highest = torch.finfo(utility.dtype).max
    least = utility.masked_fill(~mask, highest).amin(1, keepdim=True) if utility.shape[1] else utility
    gains = torch.where(mask, utility - least, 0.0)
    total = gains.sum(1)
    chooses = total > 0
    shares = gains / torch.where(chooses, total, 1.0)[:, None]
    # Candidates outside the mask have no share in the softmax, and 0 · log 0 is not computed.
    log_softmax = scores.masked_fill(~mask, -torch.inf)[chooses].log_softmax(1).masked_fill(~mask[chooses], 0.0)
    return -(shares[chooses] * log_softmax).sum(), chooses.sum().to(scores.dtype)
