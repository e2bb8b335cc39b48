"""Draws from what was chosen lately: for each position items of random events in the window before it.

Shape letters: N positions, n draws per position, E events, K contexts, V items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["RecentEvents"]

_TIME_BITS = 2**42
"""Milliseconds of 139 years: a group and a time are one integer."""


class RecentEvents:
    """Draws from Q of `models/recent.py`, with replacement, independently for each position.

    With probability ε any of the V items; else an event of the window whose K contexts are the position's, with
    probability N_K/(N_K + κ); else one whose first K-1 are, and so on; last, any event of the window. Nothing from the
    position's own time or later is ever drawn.

    Args:     items: (E,) int64 in [0, V); times_ms: (E,), in any order; keys: for k = 1 … K the events' values (E,) of
              their first k contexts, as one integer.
    """

    def __init__(
        self,
        items: Int[Tensor, " E"],
        times_ms: Int[Tensor, " E"],
        keys: Sequence[Int[Tensor, " E"]],
        *,
        num_items: int,
        window: int,
        others: float,
        shrinkage: float,
    ) -> None:
        self.num_items, self.window, self.others, self.shrinkage = num_items, window, others, shrinkage
        self._began_ms = times_ms.min() if len(times_ms) else times_ms.new_zeros(())
        since = times_ms - self._began_ms
        self._levels = [_Level.of(items, since, key) for key in (torch.zeros_like(times_ms), *keys)]

    def __call__(
        self, times_ms: Int[Tensor, " N"], keys: Sequence[Int[Tensor, " N"]], num_drawn: int
    ) -> Int[Tensor, "N n"]:
        """Draw for positions that are asked at these times and in these contexts."""
        time = times_ms - self._began_ms
        nobody = torch.zeros_like(time)
        everything = self._levels[0]
        _, end = everything.range(nobody, nobody - 1, time)
        after = everything.since[(end - 1).clamp(min=0)] - self.window if len(everything.since) else nobody
        shape = (len(time), num_drawn)
        drawn = torch.randint(self.num_items, shape, device=time.device)
        open_ = torch.rand(shape, device=time.device) >= self.others
        for number, (level, key) in reversed(list(enumerate(zip(self._levels, (nobody, *keys), strict=True)))):
            start, end = level.range(key, after, time)
            count = (end - start).clamp(min=0)
            share = count / (count + (self.shrinkage if number else 0)).clamp(min=1e-9)
            taken = open_ & (torch.rand(shape, device=time.device) < share[:, None])
            # float64 tells apart the events of any window
            place = (torch.rand(shape, dtype=torch.float64, device=time.device) * count[:, None]).long()
            if len(level.items):
                drawn = torch.where(taken, level.items[(start[:, None] + place).clamp(max=len(level.items) - 1)], drawn)
            open_ = open_ & ~taken
        return drawn


@dataclass(frozen=True)
class _Level:
    """Events by group, then time."""

    keys: Tensor
    """(G,) the groups, rising."""
    place: Tensor
    """(E,) number of the group and time in one integer, rising."""
    items: Tensor
    since: Tensor

    @classmethod
    def of(cls, items: Tensor, since: Tensor, key: Tensor) -> "_Level":
        keys, number = torch.unique(key, return_inverse=True)
        place, order = (number * _TIME_BITS + since).sort(stable=True)
        return cls(keys, place, items[order], since[order])

    def range(self, key: Tensor, after: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """The events of each key's group in the open interval (after, before): (N,) starts and ends."""
        if not len(self.keys):
            return torch.zeros_like(key), torch.zeros_like(key)
        number = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        first = number * _TIME_BITS
        start = torch.searchsorted(self.place, first + after.clamp(-1, _TIME_BITS - 1), right=True)
        end = torch.searchsorted(self.place, first + before.clamp(0, _TIME_BITS - 1))
        return start, torch.where(self.keys[number] == key, end, start)
