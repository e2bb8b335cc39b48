"""Impressions joined to what was known of a user when they were shown, and cut into chunks for one-pass training.

Nothing here loops over impressions: joins are binary searches on times.

Shape letters: N events, I impressions, P pairs, R chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.schema import feedback_column
from upnext.events.log import EventLog

__all__ = [
    "ImpressionChunks",
    "Impressions",
    "Pairs",
    "cut_chunks",
    "known_until",
    "num_before",
    "pairs_within",
    "shown_together",
    "utility",
    "utility_of",
    "window_start",
]

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


def known_until(log: EventLog, rows: Ints, user: Ints, moment_ms: Ints, end: Ints, lag_ms: int | None) -> Ints:
    """Where what may be known at some requests ends, among the events of a view.

    Args:     rows: of the log, the view's, ascending; user, moment_ms: (I,) who asks and when.
              end: (I,) the row of the log where each request begins.
              lag_ms: only events strictly before moment - lag are known, in a log with times; None: all before `end`.
    Returns:  (I,) places in `rows`: the user's events before it are known.
    """
    places: Ints = np.searchsorted(rows, end)
    if lag_ms is None or not log.schema.has_times:
        return places
    offsets = np.searchsorted(rows, log.offsets)
    older: Ints = offsets[user] + num_before(log.rows.time_ms[rows], offsets, user, moment_ms - lag_ms)
    return np.minimum(places, older)


def shown_together(log: EventLog, rows: Ints, window_ms: int | None) -> Ints:
    """Number the impressions that are compared with each other: (I,) rising along `rows`, which ascend.

    Without a window those of one request or instant; else those of one user whose requests lie in one window of time,
    windows counted from 1970 (UTC): of a day they are a user's days.

    Raises:   BadConfig: there is no window, and nothing says what was shown together.
    """
    if window_ms is None:
        if not log.schema.request_safe:
            raise BadConfig(
                "nothing says which items were shown together: the log has neither requests nor request-safe times; "
                + _advice(log)
            )
        return log.groups[rows]
    if not log.schema.has_times:
        raise BadConfig("a window of time needs times, and this log has only an order; compare within requests")
    window, user = log.rows.time_ms[log.request_start[rows]] // window_ms, log.rows.user[rows]
    is_new = (np.diff(user, prepend=-1) != 0) | (np.diff(window, prepend=-1) != 0)
    return np.cumsum(is_new) - 1


def _advice(log: EventLog) -> str:
    if log.schema.has_times:
        return 'compare within a window of each user\'s time, such as "1d"'
    if log.schema.has_requests:
        return "its requests count with prepare.request_safe = true"
    return "it has only an order, so leave the utility out"


def window_start(log: EventLog, rows: Ints, window_ms: int) -> Ints:
    """When the window of time began in which the request of each impression lies: (I,) milliseconds."""
    start: Ints = log.rows.time_ms[log.request_start[rows]] // window_ms * window_ms
    return start


def utility_of(log: EventLog, rows: Ints, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """The utility of what came of some events, (I,).

    Raises:   BadConfig: a weight of a feedback that the log does not have.
    """
    for name in weights.keys() - log.schema.feedback.keys():
        raise BadConfig(f"a utility weight for the feedback {name!r}; the log has {sorted(log.schema.feedback)}")
    columns = {name: log.rows.columns[feedback_column(name)] for name in weights}
    taken = {name: FlatColumn(column.values[rows], column.observed[rows]) for name, column in columns.items()}
    return utility(taken, weights, len(rows))


def utility(columns: Mapping[str, FlatColumn], weights: Mapping[str, float], count: int) -> NDArray[np.float64]:
    """Σ_k w_k f_k of each event, (N,); feedback that was not observed adds nothing. Columns have short names."""
    total = np.zeros(count)
    for name, weight in weights.items():
        total += weight * np.where(columns[name].observed, columns[name].values, 0.0)
    return total


@dataclass(frozen=True)
class Impressions:
    """Impressions (I,) by their rows of the log, ascending; what is compared shares a group; the utility of each."""

    rows: Ints
    group: Ints
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, log: EventLog, rows: Ints, weights: Mapping[str, float], window_ms: int | None) -> "Impressions":
        """Events as impressions, compared as `shown_together` says, by the weighted sum of their feedback.

        Raises:   BadConfig: the log does not have what is asked for.
        """
        return cls(rows, shown_together(log, rows, window_ms), utility_of(log, rows, weights))

    def take(self, keep: NDArray[np.bool_]) -> "Impressions":
        """Select some by a mask (I,)."""
        return Impressions(self.rows[keep], self.group[keep], self.value[keep])

    def with_partner(self) -> "Impressions":
        """Those of a group whose utilities differ; the others are in no pair."""
        if not len(self):
            return self
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        lowest, highest = (extreme.reduceat(self.value, starts) for extreme in (np.minimum, np.maximum))
        return self.take(np.repeat(lowest < highest, np.diff(np.append(starts, len(self)))))


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

    Args:     group: (I,) equal for neighbours of one group; value: (I,) the utility of what came of each.
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
