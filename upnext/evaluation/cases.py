"""Cases: the moments at which a split asks for a prediction, and what was chosen then.

Shape letters: K cases, T targets.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from upnext.events.log import EventLog
from upnext.events.split import TEST, VALIDATION

__all__ = ["Cases", "cases_of_rows", "find_cases"]


@dataclass(frozen=True)
class Cases:
    """Moments (K,) and their targets (T,).

    `history_end` is the log row before which a case's history lies; `first_target` a row of its request, whose
    context was known. Targets are grouped by case, in the order of the cases.
    """

    user: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    history_end: NDArray[np.int64]
    first_target: NDArray[np.int64]
    case: NDArray[np.int64]
    target: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, cases: NDArray[np.int64]) -> "Cases":
        """Select cases by number, ascending."""
        number = np.full(len(self), -1)
        number[cases] = np.arange(len(cases))
        keep = number[self.case] >= 0
        return Cases(
            user=self.user[cases],
            time_ms=self.time_ms[cases],
            history_end=self.history_end[cases],
            first_target=self.first_target[cases],
            case=number[self.case[keep]],
            target=self.target[keep],
        )


def find_cases(
    log: EventLog,
    part: NDArray[np.int8],
    which: int,
    view: str,
    *,
    history: Literal["rolling", "frozen"] = "rolling",
    events: Literal["all", "first"] = "all",
    unfamiliar: bool = False,
) -> Cases:
    """Find the cases of one part of a split.

    Rolling: a case is one request (or one event), its history everything before that request. Frozen: a case is a
    user, its targets all of the part's events, its history everything before the part.

    Args:     part: (N,) the split; which: VALIDATION or TEST; view: which events are targets; events: all of a
              user's targets, or those of the first request only; unfamiliar: only items that the user met in no event
              of any view before the request.
    """
    assert which in (VALIDATION, TEST)
    targets, _ = log.in_view(view)
    targets = targets[part[targets] == which]
    if unfamiliar:
        targets = targets[~_was_met(log)[targets]]
    user, group = log.rows.user[targets], log.events.request[targets]
    if events == "first":
        first = np.ones(len(targets), bool)
        first[1:] = user[1:] != user[:-1]
        keep = group == group[np.flatnonzero(first)[np.cumsum(first) - 1]] if len(targets) else first
        targets, user, group = targets[keep], user[keep], group[keep]
    key = user if history == "frozen" else group
    is_new = np.ones(len(targets), bool)
    is_new[1:] = key[1:] != key[:-1]
    first_target = targets[is_new]
    case_user = log.rows.user[first_target]
    if history == "rolling":
        end = log.request_start[first_target]
        time_ms = log.rows.time_ms[end] if len(end) else first_target
    else:
        held_out = np.flatnonzero(part == which)
        start = held_out[np.searchsorted(held_out, log.offsets[case_user])]
        end = log.request_start[start]
        part_begins = log.rows.time_ms[held_out].min(initial=np.iinfo(np.int64).max) if len(held_out) else 0
        time_ms = np.full(len(case_user), part_begins) if log.schema.has_times else log.rows.time_ms[end]
    # An item chosen twice in one case is one target.
    case, target = np.unique(np.stack([np.cumsum(is_new) - 1, log.rows.item[targets]]), axis=1)
    return Cases(case_user, time_ms, end, first_target, case, target)


def cases_of_rows(log: EventLog, rows: NDArray[np.int64]) -> Cases:
    """A rolling case for each of some events (P,), whose target is its item alone."""
    end = log.request_start[rows]
    return Cases(log.rows.user[rows], log.rows.time_ms[end], end, rows, np.arange(len(rows)), log.rows.item[rows])


def _was_met(log: EventLog) -> NDArray[np.bool_]:
    """(N,) bool: events of an item that their user met before their request."""
    pairs = np.stack([log.rows.user, log.rows.item])
    _, first, number = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    return np.asarray(first[number.reshape(-1)] < log.request_start)
