"""Choosing the best of a full row of scores."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from upnext.base.ids import FIRST, PADDING
from upnext.base.selection import best_of_rows

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
    items, best = best_of_rows(scores, k)
    return items.masked_fill(items < 0, PADDING), best
