"""Choosing the best of a row of scores: falling, ties by the lower column. Every top-k in Upnext is this one.

Shape letters: B rows, V columns, S blocks of columns, k answers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BLOCK", "Parts", "best_of_parts", "best_of_rows"]

BLOCK = 64
"""Columns that are looked at together; the fast ways want a width that is a multiple of it."""

_DEPTHS = (64, 32, 16, 8)
"""How many columns may be looked at together where no scores are equal."""


def best_of_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Choose the k largest of each row, equal ones by the lower column.

    Args:     scores: (B, V) float32 without NaN; not changed.
    Returns:  columns (B, k) int64 and their scores (B, k), falling; where V < k, column -1 and score -inf. A column
              with score -inf is given as -1 as well.
    """
    kept = min(k, scores.shape[1])
    columns = _best_if_distinct(scores, kept) if kept else None
    if columns is None:
        columns = _best_blocks_first(scores, kept)
    values = scores.gather(1, columns)
    columns = columns.masked_fill(values == -torch.inf, -1)
    if missing := k - kept:
        columns = torch.cat([columns, columns.new_full((len(scores), missing), -1)], 1)
        values = torch.cat([values, values.new_full((len(scores), missing), -torch.inf)], 1)
    return columns, values


def _best_if_distinct(scores: Tensor, kept: int) -> Tensor | None:
    """The columns of the k largest, if no two of the k + 1 largest are equal; None where the rule for ties is needed.

    Where rows are wide, every m-th column belongs together: the largest of such a set is found by vector instructions.
    The k + 1 sets with the largest maxima hold the k + 1 largest scores.
    """
    B, V = scores.shape
    wanted = min(kept + 1, V)
    depth = next((depth for depth in _DEPTHS if V % depth == 0 and V // depth > 2 * wanted), 1)
    split = scores.reshape(B, depth, V // depth)
    chosen = split.amax(1).topk(wanted, dim=1).indices
    values, place = split.gather(2, chosen[:, None].expand(-1, depth, -1)).flatten(1).topk(wanted, dim=1)
    if bool(((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)).any()):
        return None
    columns = chosen.gather(1, place % wanted) + place // wanted * (V // depth)
    return columns[:, :kept]


def _best_blocks_first(scores: Tensor, kept: int) -> Tensor:
    """The columns of the k largest, ties by the lower one.

    Where rows are wide, the maxima of blocks of neighbouring columns are ranked first, by the same rule, and only the
    best k blocks are looked into. Nothing is lost: if a column lies outside them, each of the k blocks holds a column
    that comes before it, because its score is larger, or equal and further left.
    """
    width = scores.shape[1]
    blocks = width // BLOCK
    if kept == 0 or blocks <= 2 * kept or width % BLOCK:
        return _best(scores, kept)
    split = scores.reshape(-1, blocks, BLOCK)
    chosen = _best(split.amax(2), kept).sort(1).values  # from left to right, so that ties stay in order
    inside = split.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    place = _best(inside, kept)
    return chosen.gather(1, place // BLOCK) * BLOCK + place % BLOCK


class Parts:
    """Sets of columns, such as the collections of a catalogue, laid out so that each can be chosen from at once.

    Args:     sets: int64 columns of each set, rising; sets may overlap.
    """

    def __init__(self, sets: Sequence[NDArray[np.int64]]) -> None:
        self.sets = sets
        # Sets of similar sizes are looked into together: those whose numbers of blocks have the same power of two.
        alike: dict[int, list[int]] = {}
        for number, columns in enumerate(sets):
            alike.setdefault((len(columns) // BLOCK).bit_length(), []).append(number)
        self.groups = [(numbers, self._table(numbers)) for numbers in alike.values()]

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def end(self) -> int:
        """One more than the largest column."""
        return 1 + max((int(columns[-1]) for columns in self.sets if len(columns)), default=-1)

    def _table(self, numbers: Sequence[int]) -> Tensor:
        """(n, width) int64: each set's columns, counted from 1, then zeros; the width is one of whole blocks."""
        longest = max(len(self.sets[number]) for number in numbers)
        table = np.zeros((len(numbers), -(-max(1, longest) // BLOCK) * BLOCK), np.int64)
        for row, number in enumerate(numbers):
            table[row, : len(self.sets[number])] = self.sets[number] + 1
        return torch.from_numpy(table)


def best_of_parts(scores: Tensor, k: int, parts: Parts) -> list[tuple[Tensor, Tensor]]:
    """Choose the k largest of each row within each of several sets of columns, as `best_of_rows` does within all.

    Args:     scores: (B, V) float32 without NaN; not changed.
    Returns:  for each set columns (B, k) and scores (B, k), -1 and -inf where there are fewer.
    """
    B = len(scores)
    from_one = torch.nn.functional.pad(scores, (1, 0), value=-torch.inf)
    found: list[tuple[Tensor, Tensor]] = [(scores, scores)] * len(parts)
    for numbers, table in parts.groups:
        inside = from_one.index_select(1, table.flatten()).reshape(B * len(numbers), table.shape[1])
        places, values = (one.reshape(B, len(numbers), k) for one in best_of_rows(inside, k))
        columns = table.expand(B, -1, -1).gather(2, places.clamp(min=0)) - 1
        columns = columns.masked_fill(places < 0, -1)
        for place, number in enumerate(numbers):
            found[number] = columns[:, place], values[:, place]
    return found


def _best(scores: Tensor, k: int) -> Tensor:
    """The columns of the k largest: scores and columns become integers that are all different, and so have one order.

    The bits of a float, read as an integer, rise with it if it is positive and fall if it is negative.
    """
    bits = (scores.detach() + 0.0).view(torch.int32)  # adding 0 makes -0 a 0
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    last = scores.shape[1] - 1
    keys = (rising.long() << 32) | torch.arange(last, -1, -1, device=scores.device)
    return last - (keys.topk(k, dim=1).values & 0xFFFFFFFF)
