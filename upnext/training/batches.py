"""Batches of similar lengths under a token budget."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["length_batches", "ordered_batches", "shuffled_batches"]

_POOL = 64
"""Batches per pool: rows are sorted by length inside a pool, so that rows still mix between epochs."""


def length_batches(lengths: NDArray[np.int64], tokens_per_batch: int) -> Iterator[NDArray[np.int64]]:
    """Cut rows, shortest first, into batches of at most `tokens_per_batch` tokens, padding included.

    Args:     lengths: (R,) tokens per row; a row longer than the budget gets a batch of its own.
    Returns:  row numbers per batch; each row once.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        # Row i closes a batch of (i - start + 1) rows, each padded to its length.
        cost = np.maximum(lengths[order[start:]], 1) * np.arange(1, len(order) - start + 1)
        size = max(1, int(np.searchsorted(cost, tokens_per_batch, side="right")))
        yield order[start : start + size]
        start += size


def ordered_batches(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[NDArray[np.int64]]:
    """Cut all rows, in their order, into batches of at most so many tokens, padding aside: what a stream brings.

    Args:     lengths: (R,) tokens per row; a row longer than the budget gets a batch of its own.
    """
    batches, start, ends = [], 0, np.cumsum(np.maximum(lengths, 1))
    while start < len(lengths):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + tokens_per_batch, side="right")))
        batches.append(np.arange(start, end))
        start = end
    return batches


def shuffled_batches(
    lengths: NDArray[np.int64], tokens_per_batch: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Cut all rows into batches of similar lengths, in random order: one epoch.

    Args:     lengths: (R,) tokens per row.
    Returns:  row numbers per batch; each row once.
    """
    order = generator.permutation(len(lengths))
    mean = max(1.0, float(lengths.mean())) if len(lengths) else 1.0
    pool_size = max(1, int(_POOL * tokens_per_batch / mean))
    batches = [
        pool[rows]
        for start in range(0, len(order), pool_size)
        for pool in (order[start : start + pool_size],)
        for rows in length_batches(lengths[pool], tokens_per_batch)
    ]
    return [batches[number] for number in generator.permutation(len(batches))]
