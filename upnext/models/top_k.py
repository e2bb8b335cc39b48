"""Choosing the best of a full row of scores."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from upnext.base.ids import FIRST, PADDING

__all__ = ["top_k_of_scores"]


def top_k_of_scores(
    scores: Float[Tensor, "B V"], k: int, allowed: Bool[Tensor, "_ V"] | None = None
) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"]]:
    """Choose the k best columns: falling scores, ties by the lower id; padding and unknown never.

    Args:     allowed: (B, V) or (1, V), None for every item.
    Returns:  ids and scores; where fewer can be had the id is 0 and the score -inf.
    """
    scores = scores.clone()
    scores[:, :FIRST] = -torch.inf
    if allowed is not None:
        scores.masked_fill_(~allowed, -torch.inf)
    missing = max(0, k - scores.shape[1])
    ordered, items = scores.sort(dim=1, descending=True, stable=True)
    ordered, items = ordered[:, :k], items[:, :k]
    if missing:
        ordered = torch.cat([ordered, ordered.new_full((len(scores), missing), -torch.inf)], 1)
        items = torch.cat([items, items.new_zeros((len(scores), missing))], 1)
    return items.masked_fill(ordered == -torch.inf, PADDING), ordered
