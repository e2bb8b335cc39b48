"""What a neural ranker learns from: sets of candidates, shown together or drawn, each with the past before it.

Shape letters: I candidates, S sets, R rows of requests, C candidates of a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Candidates, Column, Events, FlatColumn, Request
from upnext.base.schema import context_column, feedback_column
from upnext.events.impressions import known_until, shown_together, window_start
from upnext.events.log import EventLog
from upnext.objectives.ranking import RankingBatch

__all__ = ["Drawings", "ShownSets"]

Ints = NDArray[np.int64]
_WIDTH = 64
"""Candidates of a row, at most: a longer set fills several rows, so that little is padding."""


@dataclass(frozen=True)
class Drawings:
    """Candidates (I,) that nobody was shown: what they are, their sets, rising, and what is known of each, by name."""

    item: Ints
    item_hash: Ints
    set: Ints
    feedback: Mapping[str, FlatColumn]


@dataclass(frozen=True)
class ShownSets:
    """`TrainingData`: sets of candidates, with the last events before each.

    `begin`, `end` (S,) are where a set's past lies in `events`; `first_row` (S+1,) its rows of requests; `first` (R+1,)
    their candidates `item` (I,), in whose requests the events `rows` (I,) of `log` are, mostly they themselves.
    `time_ms` (S,) is when a set is asked about.
    """

    log: EventLog
    events: Events
    users: Mapping[str, Column]
    begin: Ints
    end: Ints
    time_ms: Ints
    first_row: Ints
    first: Ints
    rows: Ints
    item: Ints
    item_hash: Ints
    features: Mapping[str, FlatColumn]
    feedback: Mapping[str, FlatColumn]
    contexts: Sequence[str]

    @classmethod
    def of(
        cls,
        log: EventLog,
        rows: Ints,
        features: Mapping[str, FlatColumn],
        reads: "Reads",
        window_ms: int | None,
        most_candidates: int,
        drawn: Drawings | None = None,
    ) -> "ShownSets":
        """Put events into the sets in which they were shown, or drawn candidates into theirs.

        A set is a request, or what a user was shown within a window of time; a longer one than `most_candidates` is
        cut. Its past is what lies strictly before its request, or before its window began.

        Args:     rows: (I,) of the log, ascending; features: (I,) of these events as candidates. drawn: what there is
                  in place of these events.
        """
        drawn = drawn or _as_shown(log, rows, reads, window_ms)
        number = _cut(drawn.set, most_candidates)
        contexts = _combined(log, rows, reads.contexts)
        order = np.lexsort((contexts, number))
        rows, number, contexts = rows[order], number[order], contexts[order]
        is_new_set = np.diff(number, prepend=-1) != 0
        is_new_row = is_new_set | (np.diff(contexts, prepend=-1) != 0)
        within = np.arange(len(rows)) - np.flatnonzero(is_new_row)[np.cumsum(is_new_row) - 1] if len(rows) else rows
        is_new_row |= within % _WIDTH == 0
        first, first_of_set = np.flatnonzero(is_new_row), np.flatnonzero(is_new_set)
        one = rows[first_of_set]
        request = log.request_start[one]
        user, time_ms = log.rows.user[one], log.rows.time_ms[request]
        in_view, events = log.in_view(reads.view)
        if window_ms is None:
            end = np.searchsorted(in_view, request)
        else:
            time_ms = window_start(log, one, window_ms)
            end = known_until(log, in_view, user, time_ms, request, 0)
        begin = np.maximum(np.searchsorted(in_view, log.offsets[user]), end - reads.max_length)
        return cls(
            log,
            _only(events, reads),
            reads.users,
            begin,
            end,
            time_ms,
            np.append(np.searchsorted(first, first_of_set), len(first)),
            np.append(first, len(rows)),
            rows,
            drawn.item[order],
            drawn.item_hash[order],
            _taken(features, order),
            _taken({name: drawn.feedback[name] for name in reads.feedback}, order),
            reads.contexts,
        )

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def num_candidates(self) -> Ints:
        """(S,) candidates per set."""
        return np.diff(self.first[self.first_row])

    @property
    def lengths(self) -> Ints:
        """(S,) events and candidates per set: what a batch is measured by."""
        return self.end - self.begin + self.num_candidates

    def batch(self, rows: Ints) -> RankingBatch:
        """Gather sets by number."""
        counts = np.diff(self.first_row)[rows]
        number = np.repeat(np.arange(len(rows)), counts)
        row = self.first_row[rows][number] + np.arange(len(number)) - (np.cumsum(counts) - counts)[number]
        sizes = np.diff(self.first)[row]
        mask = np.arange(sizes.max(initial=0)) < sizes[:, None]
        place = np.where(mask, self.first[row][:, None] + np.arange(mask.shape[1]), self.first[row][:, None])
        log = self.log.rows
        one, user = self.rows[self.first[row]], torch.from_numpy(log.user[self.rows[self.first[row]]])
        context = {name: _column(log.columns[name], one) for name in map(context_column, self.contexts)}
        features = {name: column.take(user) for name, column in self.users.items()}
        return RankingBatch(
            self.events.batch(self.begin[rows], self.end[rows]),
            torch.from_numpy(number),
            Request(torch.from_numpy(self.time_ms[rows][number]), user, context, features),
            Candidates(
                torch.from_numpy(self.item[place]),
                torch.from_numpy(self.item_hash[place]),
                torch.from_numpy(mask),
                {name: _column(column, place) for name, column in self.features.items()},
            ),
            {name: _column(column, place, mask) for name, column in self.feedback.items()},
        )


@dataclass(frozen=True)
class Reads:
    """What a ranker reads of a log: the views of its aggregators, contexts, users' features, and what it foresees."""

    view: str
    max_length: int
    views: Sequence[str]
    contexts: Sequence[str]
    users: Mapping[str, Column]
    feedback: Sequence[str]


def _as_shown(log: EventLog, rows: Ints, reads: Reads, window_ms: int | None) -> Drawings:
    """Events as the candidates that they were."""
    return Drawings(
        log.rows.item[rows],
        log.rows.item_hash[rows],
        log.groups[rows] if window_ms is None else shown_together(log, rows, window_ms),
        _taken({name: log.rows.columns[feedback_column(name)] for name in reads.feedback}, rows),
    )


def _taken(columns: Mapping[str, FlatColumn], rows: Ints) -> dict[str, FlatColumn]:
    return {name: FlatColumn(column.values[rows], column.observed[rows]) for name, column in columns.items()}


def _cut(number: Ints, most: int) -> Ints:
    """Cut rising groups into pieces of at most so many neighbours, and number the pieces."""
    is_new = np.diff(number, prepend=-1) != 0
    within = np.arange(len(number)) - np.flatnonzero(is_new)[np.cumsum(is_new) - 1] if len(number) else number
    pieces: Ints = np.cumsum(is_new | (within % most == 0)) - 1
    return pieces


def _combined(log: EventLog, rows: Ints, contexts: Sequence[str]) -> Ints:
    """One number for each combination of contexts."""
    code = np.zeros(len(rows), np.int64)
    for name in map(context_column, contexts):
        column = log.rows.columns[name]
        values = np.unique(column.values[rows], return_inverse=True)[1] + 1
        values = np.where(column.observed[rows], values, 0)
        code = np.unique(code * (values.max(initial=0) + 1) + values, return_inverse=True)[1]
    return code


def _only(events: Events, reads: Reads) -> Events:
    """Leave out what is not read: it need not be gathered."""
    return replace(events, views={name: events.views[name] for name in reads.views})


def _column(column: FlatColumn, places: Ints, mask: NDArray[np.bool_] | None = None) -> Column:
    observed = column.observed[places] if mask is None else column.observed[places] & mask
    return Column(torch.from_numpy(column.values[places]), torch.from_numpy(observed))
