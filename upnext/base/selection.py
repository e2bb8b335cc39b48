"""Choosing the best of a row of scores: falling, ties by the lower column. Every top-k in Upnext is this one.

Shape letters: B rows, V columns, S blocks of columns, k answers.
"""

import torch
from torch import Tensor

__all__ = ["BLOCK", "best_of_rows"]

BLOCK = 64
"""Columns that are looked at together; the fast way wants a width that is a multiple of it."""


def best_of_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Choose the k largest of each row, equal ones by the lower column.

    Where rows are wide, the maxima of blocks of neighbouring columns are ranked first, by the same rule, and only the
    best k blocks are looked into. Nothing is lost: if a column lies outside them, each of the k blocks holds a column
    that comes before it, because its score is larger, or equal and further left.

    Args:     scores: (B, V) float32 without NaN; not changed.
    Returns:  columns (B, k) int64 and their scores (B, k), falling; where V < k, column -1 and score -inf. A column
              with score -inf is given as -1 as well.
    """
    width = scores.shape[1]
    kept = min(k, width)
    blocks = width // BLOCK
    if kept == 0 or blocks <= 2 * kept or width % BLOCK:
        columns = _best(scores, kept)
    else:
        split = scores.reshape(-1, blocks, BLOCK)
        chosen = _best(split.amax(2), kept).sort(1).values  # from left to right, so that ties stay in order
        inside = split.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
        place = _best(inside, kept)
        columns = chosen.gather(1, place // BLOCK) * BLOCK + place % BLOCK
    values = scores.gather(1, columns)
    columns = columns.masked_fill(values == -torch.inf, -1)
    if missing := k - kept:
        columns = torch.cat([columns, columns.new_full((len(scores), missing), -1)], 1)
        values = torch.cat([values, values.new_full((len(scores), missing), -torch.inf)], 1)
    return columns, values


def _best(scores: Tensor, k: int) -> Tensor:
    """The columns of the k largest: scores and columns become integers that are all different, and so have one order.

    The bits of a float, read as an integer, rise with it if it is positive and fall if it is negative.
    """
    bits = (scores.detach() + 0.0).view(torch.int32)  # adding 0 makes -0 a 0
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    last = scores.shape[1] - 1
    keys = (rising.long() << 32) | torch.arange(last, -1, -1, device=scores.device)
    return last - (keys.topk(k, dim=1).values & 0xFFFFFFFF)
