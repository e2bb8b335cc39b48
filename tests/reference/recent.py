"""The prior of recent events as plain loops, and the ranking loss that it is trained beside."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Event = tuple[int, int, tuple[int, ...], int]
"""An item, a time, the values of contexts, and what the user chose last before it, 0 for nothing."""


def prior(
    stream: Sequence[Event],
    time_ms: int,
    contexts: tuple[int, ...],
    num_items: int,
    *,
    window: int,
    others: float,
    shrinkage: float,
    num_alike: int,
    last_item: int | None = None,
) -> NDArray[np.float64]:
    """(W,) the probability of each item just before a time."""
    before = [event for event in stream if event[1] < time_ms]
    if not before:
        return np.full(num_items, 1 / num_alike)
    last = max(event[1] for event in before)
    recent = [event for event in before if event[1] > last - window]
    share = np.array([sum(item == i for item, *_ in recent) / len(recent) for i in range(num_items)])
    levels = [[event[0] for event in recent if event[2][:k] == contexts[:k]] for k in range(1, len(contexts) + 1)]
    if last_item is not None:
        levels.append([event[0] for event in recent if event[3] == last_item])
    for own in levels:
        counts = np.array([sum(item == i for item in own) for i in range(num_items)])
        share = (counts + shrinkage * share) / (len(own) + shrinkage)
    return (1 - others) * share + others / num_alike


def ranking_nce(
    queries: NDArray[np.float64], items: NDArray[np.float64], targets: Sequence[int], drawn: Sequence[Sequence[int]]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The sum over positions of -log(e^s_target / (e^s_target + sum of e^s_drawn)), and both gradients."""
    loss, d_queries, d_items = 0.0, np.zeros_like(queries), np.zeros_like(items)
    for row, (target, negatives) in enumerate(zip(targets, drawn, strict=True)):
        slots = [target, *negatives]
        odds = [math.exp(float(queries[row] @ items[slot])) for slot in slots]
        loss -= math.log(odds[0] / sum(odds))
        for number, (slot, one) in enumerate(zip(slots, odds, strict=True)):
            error = one / sum(odds) - (number == 0)
            d_queries[row] += error * items[slot]
            d_items[slot] += error * queries[row]
    return loss, d_queries, d_items
