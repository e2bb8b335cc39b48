"""Drawn candidates: what users chose, each among others that a retriever would have found at that moment.

Nothing after the moment matters: the retriever sees what lies strictly before the request, and the draw depends on the
moment and on what was found. Shape letters: P choices, C candidates of each, k found, V catalogue, I candidates in all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.ids import FIRST
from upnext.base.schema import feedback_column
from upnext.evaluation.cases import Cases, cases_of_rows
from upnext.evaluation.ranking import Histories, Scores, rank_cases
from upnext.events.log import EventLog
from upnext.models.candidates import CHOSEN, CandidatesConfig
from upnext.sampling.among import draw_among, draw_below

__all__ = ["Drawn", "Finder", "draw"]

Ints = NDArray[np.int64]
_BLOCK = 20_000
"""So many choices are drawn around at a time: what a retriever finds is large, and only a few of it stay."""


@dataclass(frozen=True)
class Finder:
    """A retriever, as it answers for cases: its scores, the longest history that it reads, and of which view."""

    scores: Callable[[Cases], tuple[Scores, int]]
    view: str
    num_items: int


@dataclass(frozen=True)
class Drawn:
    """Sets (P) of candidates: `items` (P, C), the target of each case among them; -1 behind where there are fewer.

    They stand in no order: one who breaks ties by place would find the choice wherever it always stands.
    """

    cases: Cases
    items: Ints

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(P, C) bool: where there is a candidate."""
        return self.items >= 0

    @property
    def set(self) -> Ints:
        """(I,) the set of each candidate, rising."""
        return np.nonzero(self.mask)[0]

    @property
    def rows(self) -> Ints:
        """(I,) the choice, a row of the log, around which each candidate was drawn."""
        return self.cases.first_target[self.set]

    def feedback(self, log: EventLog) -> dict[str, FlatColumn]:
        """What is known of the candidates (I,): that they were chosen, and of these what came of it."""
        chosen = (self.items == self.cases.target[:, None])[self.mask]
        rows = self.rows
        found = {CHOSEN: FlatColumn(chosen.astype(np.float32), np.ones(len(chosen), np.bool_))}
        for name in log.schema.feedback:
            column = log.rows.columns[feedback_column(name)]
            found[name] = FlatColumn(np.where(chosen, column.values[rows], 0.0), column.observed[rows] & chosen)
        return found


def draw(config: CandidatesConfig, finder: Finder, log: EventLog, rows: Ints, view: str) -> Drawn:
    """Draw candidates around what users chose.

    Args:     rows: (N,) of the log, ascending: the choices; view: what counts as chosen: of a request nothing that was
              chosen is drawn against another choice.
    Returns:  the sets of those choices that are learnt from, in the order of the rows.
    Raises:   BadConfig: there are none.
    """
    around = _Around(config, finder, log, view)
    rows = rows[log.rows.item[rows] >= FIRST]
    if config.exclude_history:
        rows = rows[~around.own.hold(log.rows.user[rows], log.rows.item[rows], log.request_start[rows])]
    blocks = [around.draw(rows[begin : begin + _BLOCK]) for begin in range(0, len(rows), _BLOCK)]
    if not sum(len(kept) for kept, _ in blocks):
        raise BadConfig(
            f"candidates: nothing that was chosen is among the first {config.top} that {config.retriever!r} found:"
            " raise `top`, train the retriever better, or learn from the rest too with missed = true"
        )
    kept, items = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return Drawn(cases_of_rows(log, kept), items)


class _Around:
    """Draws around the choices of a log, a block of them at a time."""

    def __init__(self, config: CandidatesConfig, finder: Finder, log: EventLog, view: str) -> None:
        self.config, self.finder, self.log, self.view = config, finder, log, view
        self.histories = Histories(log, finder.view)
        self.own = _Pairs.of(log.rows.user, log.rows.item, self.histories.rows)
        # A choice counts as a pair of request and item.
        self.chosen = _Pairs.of(log.groups, log.rows.item, np.flatnonzero(log.mask(view)))
        items, first_ms = log.rows.item, log.rows.time_ms
        by_time = np.lexsort((items, first_ms))
        by_time = by_time[np.sort(np.unique(items[by_time], return_index=True)[1])]
        by_time = by_time[items[by_time] >= FIRST]
        self.known, self.known_ms = items[by_time], first_ms[by_time]

    def draw(self, rows: Ints) -> tuple[Ints, Ints]:
        """The choices of a block that are learnt from, and their candidates."""
        config, V = self.config, self.finder.num_items
        cases, chosen = cases_of_rows(self.log, rows), self.log.rows.item[rows]
        scores, longest = self.finder.scores(cases)
        k, removes = min(config.top, V), (config.exclude_history,)
        (found,) = rank_cases(scores, cases, self.histories, V, k=k, remove_history=removes, max_length=longest)
        lists = [cases.user, cases.time_ms, chosen]
        negatives = draw_among(found.top, self._may(rows, found.top), config.negatives, lists, config.seed)
        place = draw_below(np.searchsorted(self.known_ms, cases.time_ms), config.uniform, lists, config.seed)
        others = np.where(place >= 0, self.known[place], -1)
        others = np.where(self._may(rows, others) & ~self._own(rows, others), others, -1)
        items = _each_once(np.concatenate([chosen[:, None], negatives, others], axis=1))
        items = draw_among(items, items >= 0, items.shape[1], lists, config.seed + 1)  # in no order
        kept = np.ones(len(rows), np.bool_) if config.missed else (found.top == chosen[:, None]).any(axis=1)
        return rows[kept], items[kept]

    def _may(self, rows: Ints, items: Ints) -> NDArray[np.bool_]:
        """Which items (n, C) are no choice of the request of their row."""
        return (items >= 0) & ~self.chosen.hold(self.log.groups[rows][:, None], items)

    def _own(self, rows: Ints, items: Ints) -> NDArray[np.bool_]:
        """Which items (n, C) may not be shown, because they are in the history of their row."""
        if not self.config.exclude_history:
            return np.zeros(items.shape, np.bool_)
        return self.own.hold(self.log.rows.user[rows][:, None], items, self.log.request_start[rows][:, None])


@dataclass(frozen=True)
class _Pairs:
    """Pairs of an owner and an item, sorted, with the first row of the log in which each stands."""

    keys: Ints
    first: Ints
    width: int

    @classmethod
    def of(cls, owner: Ints, item: Ints, rows: Ints) -> "_Pairs":
        width = int(item.max(initial=0)) + 1
        keys, first = np.unique(owner[rows] * width + item[rows], return_index=True)
        return cls(keys, rows[first], width)

    def hold(self, owner: Ints, items: Ints, before: Ints | None = None) -> NDArray[np.bool_]:
        """Whether there is such a pair, in a row before another one if that is said."""
        keys = owner * self.width + items
        place = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        if not len(self.keys):
            return np.zeros(keys.shape, np.bool_)
        holds = (self.keys[place] == keys) & (items < self.width)
        return np.asarray(holds if before is None else holds & (self.first[place] < before))


def _each_once(items: Ints) -> Ints:
    """Candidates (P, C) with -1 in place of every repeat: the first of each stays."""
    order = np.argsort(items, axis=1, kind="stable")
    rising = np.take_along_axis(items, order, 1)
    is_repeat = np.zeros(items.shape, np.bool_)
    np.put_along_axis(is_repeat, order[:, 1:], rising[:, 1:] == rising[:, :-1], 1)
    return np.where(is_repeat, -1, items)
