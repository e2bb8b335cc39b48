"""Negatives drawn from lists: what a draw gives depends on its own moment alone, never on what else is drawn.

A list's draws are those of its least keys, and a key scrambles seed, list and item: whatever is added to a log later
changes no earlier draw. Shape letters: P lists, k items of a list, n draws.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_among", "draw_below"]

Ints = NDArray[np.int64]
_STEP = np.uint64(0x9E3779B97F4A7C15)


def draw_among(items: Ints, allowed: NDArray[np.bool_], count: int, lists: Sequence[Ints], seed: int) -> Ints:
    """Draw some of the allowed items of each list, each as likely as the other, none twice.

    Args:     items, allowed: (P, k); lists: what tells one list from another, (P,) each.
    Returns:  (P, count): the items drawn, -1 behind them where fewer are allowed.
    """
    keys = _scrambled(seed, [*(part[:, None] for part in lists), items])
    keys[~allowed] = np.iinfo(np.uint64).max
    place = np.argsort(keys, axis=1, kind="stable")[:, :count]
    drawn = np.where(np.take_along_axis(allowed, place, 1), np.take_along_axis(items, place, 1), -1)
    return np.pad(drawn, ((0, 0), (0, count - drawn.shape[1])), constant_values=-1)


def draw_below(ends: Ints, count: int, lists: Sequence[Ints], seed: int) -> Ints:
    """Draw numbers below an end, each as likely as the other; the same may come twice.

    Args:     ends: (P,); lists: as for `draw_among`.
    Returns:  (P, count) from 0 to `ends` - 1; -1 where an end is 0.
    """
    keys = _scrambled(seed, [*(part[:, None] for part in lists), np.arange(count)[None]])
    below = (keys % np.maximum(ends, 1).astype(np.uint64)[:, None]).astype(np.int64)
    return np.where(ends[:, None] > 0, below, -1)


def _scrambled(seed: int, parts: Sequence[Ints]) -> NDArray[np.uint64]:
    """Make one 64-bit integer of several by steps of splitmix64 (Steele et al. 2014), whose products wrap around."""
    key = np.array(seed, np.int64).astype(np.uint64).reshape(1, 1)
    for part in parts:
        key = (key ^ part.astype(np.uint64)) + _STEP
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
    return np.ascontiguousarray(key)
