"""Impressions joined to what was known of a user when they were shown, and cut into chunks for one-pass training.

Nothing here loops over impressions: joins are binary searches on times.

Shape letters: N events, I impressions, P pairs, R chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn

__all__ = ["ImpressionChunks", "Pairs", "cut_chunks", "num_before", "pairs_within", "utility"]

Ints = NDArray[np.int64]


def num_before(time_ms: Ints, offsets: Ints, user: Ints, moment_ms: Ints) -> Ints:
    """How many of a user's events lie strictly before a moment.

    Args:     time_ms: (N,) of events sorted by user, then time; offsets: (U+1,) where each user begins.
              user, moment_ms: (I,).
    Returns:  (I,): the state after so many events is the last one that was known before the moment.
    """
    # Ranks of times keep (user, time) in one integer that rises along the events.
    distinct = np.unique(time_ms)
    width = len(distinct) + 1
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys = owner * width + np.searchsorted(distinct, time_ms)
    place: Ints = np.searchsorted(keys, user * width + np.searchsorted(distinct, moment_ms))
    return place - offsets[user]


def utility(columns: Mapping[str, FlatColumn], weights: Mapping[str, float], count: int) -> NDArray[np.float64]:
    """Σ_k w_k f_k of each event, (N,); feedback that was not observed adds nothing. Columns have short names."""
    total = np.zeros(count)
    for name, weight in weights.items():
        total += weight * np.where(columns[name].observed, columns[name].values, 0.0)
    return total


@dataclass(frozen=True)
class Pairs:
    """Pairs of impressions (P,): the better one, the worse one, and how much the pair counts."""

    better: Ints
    worse: Ints
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.better)


def pairs_within(group: Ints, value: NDArray[np.float64]) -> Pairs:
    """Every pair of impressions of one group whose values differ, weighted by the difference.

    Values 0, 2, 3 in one group: (2 over 0) weighs 2, (3 over 0) weighs 3, (3 over 2) weighs 1.

    Args:     group: (I,) rising; value: (I,) the utility of what came of each.
    """
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1 if len(group) else 0))
    sizes = np.diff(np.append(starts, len(group)))
    # Row i meets the rows of its group that follow it.
    last = np.repeat(starts + sizes, sizes)
    rest = last - np.arange(len(group)) - 1
    first = np.repeat(np.arange(len(group)), rest)
    step = np.arange(len(first)) - np.repeat(np.cumsum(rest) - rest, rest)
    second = first + 1 + step
    difference = value[first] - value[second]
    keep = difference != 0
    first, second, difference = first[keep], second[keep], difference[keep]
    return Pairs(np.where(difference > 0, first, second), np.where(difference > 0, second, first), np.abs(difference))


@dataclass(frozen=True)
class ImpressionChunks:
    """Chunks (R,) of histories, and the impressions that each answers for.

    Chunk r reads the events [start, end) of the flat log and answers for the impressions [first, first of r + 1) of
    `impression`, (I',) numbers; `state` (I',) says after how many events of the chunk each is asked.
    """

    start: Ints
    end: Ints
    first: Ints
    impression: Ints
    state: Ints

    def __len__(self) -> int:
        return len(self.start)


def cut_chunks(
    user: Ints,
    known: Ints,
    group: Ints,
    offsets: Ints,
    *,
    longest: int,
    shortest: int,
    most_impressions: int,
) -> ImpressionChunks:
    """Cut impressions into chunks that share one run of the transformer.

    A user's history is cut into blocks of `longest - shortest` events. An impression belongs to the block of the last
    event it may know; its chunk begins `shortest` events before the block, so that every impression sees at least so
    many, if there are so many. Chunks overlap in history, never in impressions; a group is never cut.

    Args:     user, known: (I,) the user of each impression, and how many of the user's events it may know.
              group: (I,) rising, equal for impressions shown together; offsets: (U+1,).
              longest: events of a chunk; shortest: impressions that know fewer are dropped; most_impressions: of a
              chunk, unless one group alone has more.
    """
    assert 1 <= shortest < longest
    stride = longest - shortest
    kept = np.flatnonzero(known >= shortest)
    user, group, known = user[kept], group[kept], known[kept]
    # The whole group goes to the block of its first impression, whose history every later one has too.
    is_first = np.diff(group, prepend=group[0] - 1 if len(group) else 0) != 0
    of_group = np.cumsum(is_first) - 1
    block = ((np.maximum(known, 1) - 1) // stride)[is_first][of_group]
    order = np.lexsort((of_group, block, user))
    kept, user, known, block, of_group = (part[order] for part in (kept, user, known, block, of_group))
    is_new_block = (np.diff(user, prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0)
    block_start = np.flatnonzero(is_new_block)[np.cumsum(is_new_block) - 1] if len(kept) else kept
    group_start = np.flatnonzero(np.diff(of_group, prepend=-1) != 0)
    begins = np.repeat(group_start, np.diff(np.append(group_start, len(kept))))
    piece = (begins - block_start) // most_impressions
    first = np.flatnonzero(is_new_block | (np.diff(piece, prepend=-1) != 0))
    chunk = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(kept))))
    start = np.maximum(block[first] * stride - shortest, 0)
    # A group's later impressions may know events after the block: they do without what exceeds the chunk.
    state = np.minimum(known - start[chunk], longest)
    end = start + (np.maximum.reduceat(state, first) if len(first) else first)
    base = offsets[user[first]]
    return ImpressionChunks(base + start, base + end, np.append(first, len(kept)), kept, state)
