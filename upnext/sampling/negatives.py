"""Samplers of negatives: one set for all positions of a batch, with the probability of every draw.

Draws repeat, as the corrections for Q assume, and may hit a position's own target. Randomness comes from torch's
default generator of the device, so that a resumed training draws what an undisturbed one would have drawn.

Shape letters: V items, N positions, n draws, M distinct items among them.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upnext.base.errors import BadBatch

__all__ = ["Distinct", "InBatch", "Mixed", "Negatives", "Popularity", "Sampler", "Uniform"]


@dataclass(frozen=True)
class Distinct:
    """Draws with repeats merged: the same sums over draws, with fewer vectors to read and multiply.

    Args:     ids: (M,) int64, rising; count: (M,) int64, how often each was drawn; log_q: (M,).
              hit: (N,) int64, where each position's own target stands in `ids`; -1 where it was not drawn.
    """

    ids: Tensor
    count: Tensor
    log_q: Tensor
    hit: Tensor


@dataclass(frozen=True)
class Negatives:
    """What was drawn.

    Args:     ids: (n,) int64, rows of the catalogue, repeats included.
              log_q: (n,) float32, log of the probability of drawing that item, in one draw.
              target_log_q: (N,) float32, the same for each position's target.
    """

    ids: Tensor
    log_q: Tensor
    target_log_q: Tensor

    def distinct(self, targets: Int[Tensor, " N"]) -> Distinct:
        """Merge repeated draws, and find the targets among them."""
        ids, place, count = torch.unique(self.ids, return_inverse=True, return_counts=True)
        log_q = torch.empty_like(self.log_q[: len(ids)]).scatter_(0, place, self.log_q)
        if not len(ids):
            return Distinct(ids, count, log_q, torch.full_like(targets, -1))
        at = torch.searchsorted(ids, targets).clamp(max=len(ids) - 1)
        return Distinct(ids, count, log_q, torch.where(ids[at] == targets, at, -1))


class Sampler(Protocol):
    """Draws negatives for a batch of targets."""

    def __call__(self, targets: Int[Tensor, " N"]) -> Negatives:
        """Draw one set of negatives for all positions of a batch.

        Args:     targets: rows of the catalogue, each in [0, V).
        """
        ...

    def num_negatives(self, positions: int) -> int:
        """How many are drawn for so many positions."""
        ...


class Uniform:
    """Every item is as likely: Q(j) = 1/V."""

    def __init__(self, num_items: int, num_drawn: int) -> None:
        self.num_items, self.num_drawn = num_items, num_drawn

    def __call__(self, targets: Int[Tensor, " N"]) -> Negatives:
        """Draw with replacement."""
        ids = torch.randint(self.num_items, (self.num_drawn,), device=targets.device)
        log_q = -math.log(self.num_items)
        return Negatives(ids, _filled(ids, log_q), _filled(targets, log_q))

    def num_negatives(self, positions: int) -> int:
        """Always the same number."""
        return self.num_drawn


class Popularity:
    """As likely as frequent in training: Q(j) = f_j.

    Args:     counts: (V,) int64, training events per item, at least 1 each.
    Raises:   BadBatch: a count below 1, or none at all.
    """

    def __init__(self, counts: Int[Tensor, " V"], num_drawn: int) -> None:
        self.frequency = _frequency(counts)
        self.num_drawn = num_drawn
        self._cumulative = counts.cumsum(0)

    def __call__(self, targets: Int[Tensor, " N"]) -> Negatives:
        """Draw training events, and take their items: integers only, so exact for any counts."""
        event = torch.randint(int(self._cumulative[-1]), (self.num_drawn,), device=targets.device)
        ids = torch.searchsorted(self._cumulative, event, right=True)
        return Negatives(ids, self.frequency[ids].log(), self.frequency[targets].log())

    def num_negatives(self, positions: int) -> int:
        """Always the same number."""
        return self.num_drawn


class Mixed:
    """Some of the batch's own targets and some uniform items: Q(j) = a · f_j + (1 - a)/V.

    A batch is taken for a sample of training events, so its targets are drawn by the frequency f. The share
    a = n_b/(n_b + n_u) is that of the batch at hand: one with fewer targets than `num_in_batch` gives all it has.

    Args:     counts: (V,) int64, training events per item, at least 1 each; num_in_batch: how many of the batch's
              targets, chosen anew for each batch, without replacement; None takes all; num_uniform: how many more.
    Raises:   BadBatch: a count below 1, or none at all.
    """

    def __init__(self, counts: Int[Tensor, " V"], num_in_batch: int | None, num_uniform: int) -> None:
        self.frequency = _frequency(counts)
        self.num_in_batch, self.num_uniform = num_in_batch, num_uniform

    def __call__(self, targets: Int[Tensor, " N"]) -> Negatives:
        """Draw both kinds; Q is that of the mixture for all of them."""
        in_batch, drawn = targets, targets.new_empty(0)
        if self.num_in_batch is not None and self.num_in_batch < len(targets):
            in_batch = targets[torch.randperm(len(targets), device=targets.device)[: self.num_in_batch]]
        if self.num_uniform:
            drawn = torch.randint(len(self.frequency), (self.num_uniform,), device=targets.device)
        ids = torch.cat([in_batch, drawn])
        share = len(in_batch) / max(1, len(ids))
        return Negatives(ids, self._log_q(ids, share), self._log_q(targets, share))

    def _log_q(self, ids: Tensor, share: float) -> Tensor:
        return (share * self.frequency[ids] + (1 - share) / len(self.frequency)).log()

    def num_negatives(self, positions: int) -> int:
        """The batch's share is bounded by the batch."""
        in_batch = positions if self.num_in_batch is None else min(self.num_in_batch, positions)
        return in_batch + self.num_uniform


class InBatch(Mixed):
    """The batch's own targets: Q(j) = f_j."""

    def __init__(self, counts: Int[Tensor, " V"], num_in_batch: int | None = None) -> None:
        super().__init__(counts, num_in_batch, 0)


def _frequency(counts: Tensor) -> Float[Tensor, " V"]:
    """Counts as probabilities, summed and divided in float64."""
    if not len(counts) or int(counts.min()) < 1:
        raise BadBatch("an item without a training event cannot be drawn by its frequency; leave it out of `counts`")
    return (counts.double() / counts.sum()).float()


def _filled(like: Tensor, value: float) -> Tensor:
    return torch.full(like.shape, value, device=like.device)
