"""Amendments and the split: what was said of an event after its part had ended is not known there.

A row is *late* if a border of the split lies between it and the event that it amends. Late rows are left out of the
events that are trained and evaluated: so no training event carries anything that was observed after training ended,
and no validation event what was observed in the test part. Only `publish`, which has no future, reads them.

Within a part an event carries its amendments from the time of its first row on, and so a history that ends between the
two knows them too early; the audit counts these events.
"""

import numpy as np
from numpy.typing import NDArray

from upnext.events.amendments import first_rows
from upnext.events.audit import Finding
from upnext.events.log import EventLog
from upnext.events.split import TEST, VALIDATION, GlobalTime, LeaveLastOut, borders_ms

__all__ = ["audit_amendments", "late_rows", "other_items"]


def other_items(logged: EventLog) -> NDArray[np.int64]:
    """The rows that amend an event of another item: (n,) int64; interactions cannot be right where there are any.

    Args:     logged: the log as it was logged.
    """
    item = logged.rows.item
    return np.flatnonzero(item != item[_first(logged)])


def late_rows(
    split: GlobalTime | LeaveLastOut, logged: EventLog, log: EventLog, part: NDArray[np.int8]
) -> NDArray[np.bool_]:
    """Which rows of a log a border of the split divides from the event that they amend: (N,) bool.

    Args:     logged: the log as it was logged (N,); log: its events (E,), amended by all; part: (E,) their parts.
    """
    first = _first(logged)
    if isinstance(split, GlobalTime):
        num_before = np.searchsorted(borders_ms(split, log), logged.rows.time_ms, "right")
    else:  # a user's borders are the events that are held out
        is_border = np.zeros(len(logged), np.int64)
        is_border[_events(first)[(part == VALIDATION) | (part == TEST)]] = 1
        num_before = np.cumsum(is_border)
    return num_before > num_before[first]


def audit_amendments(logged: EventLog, log: EventLog, late: NDArray[np.bool_]) -> Finding:
    """Count the rows that amend an event, those that come too late, and the events that are known too early.

    Args:     logged: the log as it was logged (N,); log: its events; late: (N,) as of `late_rows`.
    """
    first = _first(logged)
    amends = first != np.arange(len(first))
    events = _events(first)
    last = np.arange(len(first))  # the last row of each event that is not late
    np.maximum.at(last, first[~late], np.flatnonzero(~late))
    # The next event that has this one in its history: the first one of the user's next group of siblings.
    next_event = np.searchsorted(log.groups, log.groups, "right")
    has_next = next_event < log.offsets[log.rows.user + 1]
    before, after = last[events[has_next]], events[next_event[has_next]]
    is_early = before > after
    if log.schema.request_safe and log.schema.has_times:  # what comes at one instant is not known at that instant
        is_early |= (before != events[has_next]) & (logged.rows.time_ms[before] == logged.rows.time_ms[after])
    num_amending, num_late, num_early = int(amends.sum()), int(late.sum()), int(is_early.sum())
    message = (
        f"{num_amending:,} rows amend an event; {num_late:,} of them are left out, because the event's part of the"
        f" split had ended; {num_early:,} events were amended after the user's next event, whose history knows it too"
        " early"
    )
    return Finding("amendments", "note" if num_late or num_early else "ok", num_amending, message)


def _first(logged: EventLog) -> NDArray[np.int64]:
    assert logged.rows.interaction is not None
    return first_rows(logged.rows.user, logged.rows.interaction)


def _events(first: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(first == np.arange(len(first)))
