"""The leak audit: what a split lets the training part know of the test part."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from upnext.base.errors import BadData
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, UNUSED, VALIDATION

__all__ = ["Finding", "audit"]


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, how it stands, and what to know about it."""

    check: str
    level: Literal["ok", "note", "warning"]
    count: int
    message: str

    def as_row(self) -> dict[str, Any]:
        """The finding as plain data."""
        return asdict(self)


def audit(log: EventLog, part: np.ndarray[Any, np.dtype[np.int8]], by_time: bool) -> list[Finding]:
    """Check a split for leaks.

    Args:     part: (N,) the split's parts; by_time: whether the split promises that time separates them.
    Returns:  a finding per check.
    Raises:   BadData: a split by time whose test part begins before its train part ends.
    """
    return [
        _sizes(part),
        _future_in_train(log, part, by_time),
        _ties_across_border(log, part),
        _requests_across_border(log, part),
        _duplicates(log),
        _untrained_targets(log, part),
        _sibling_groups(log),
    ]


def _sizes(part: np.ndarray[Any, np.dtype[np.int8]]) -> Finding:
    train, validation, test, unused = (int((part == code).sum()) for code in range(4))
    message = f"{train:,} train, {validation:,} validation, {test:,} test, {unused:,} unused events"
    return Finding("parts", "ok" if validation and test else "warning", len(part), message)


def _future_in_train(log: EventLog, part: np.ndarray[Any, np.dtype[np.int8]], by_time: bool) -> Finding:
    check = "train after test begins"
    if not log.schema.has_times:
        return Finding(check, "note", 0, "the log has no times: other users' later events cannot be told apart")
    train, test = log.rows.time_ms[part == TRAIN], log.rows.time_ms[part == TEST]
    if not len(test) or not len(train):
        return Finding(check, "warning", 0, "one of the parts is empty")
    late = int((train >= test.min()).sum())
    if by_time and late:
        raise BadData(f"{late} training events are not before the first test event: the split leaks the future")
    share = late / len(train)
    message = f"{share:.1%} of training events are later than the first test event"
    if late:
        message += "; leave-last-out lets a model see what others did later"
    return Finding(check, "note" if late else "ok", late, message)


def _ties_across_border(log: EventLog, part: np.ndarray[Any, np.dtype[np.int8]]) -> Finding:
    check = "ties across the border"
    if not log.schema.has_times:
        return Finding(check, "ok", 0, "no times, no ties")
    user, time_ms = log.rows.user, log.rows.time_ms
    tied = (user[1:] == user[:-1]) & (time_ms[1:] == time_ms[:-1]) & (part[1:] != part[:-1])
    count = int(tied.sum())
    message = "no user has events of one instant in two parts"
    if count:
        message = f"{count:,} times a user's events of one instant fall into two parts; file order decides between them"
    return Finding(check, "note" if count else "ok", count, message)


def _requests_across_border(log: EventLog, part: np.ndarray[Any, np.dtype[np.int8]]) -> Finding:
    check = "requests across the border"
    group = log.events.request
    used = part != UNUSED
    starts = np.flatnonzero(np.diff(group, prepend=-1))  # the groups rise along the rows
    lowest = np.minimum.reduceat(np.where(used, part, UNUSED), starts) if len(group) else part
    highest = np.maximum.reduceat(np.where(used, part, 0), starts) if len(group) else part
    if (lowest < highest).any():
        raise BadData("a request has events in two parts of the split: its training events would show its targets")
    has_used = lowest < UNUSED
    count = int((~used & has_used[group]).sum())
    message = f"{count:,} events are unused because their request goes on into a later part"
    return Finding(check, "note" if count else "ok", count, message)


def _duplicates(log: EventLog) -> Finding:
    rows = log.rows
    if not len(log):
        return Finding("duplicates", "ok", 0, "no events")
    same_as_before = np.diff(rows.user) == 0
    if log.schema.has_times:
        same_as_before &= np.diff(rows.time_ms) == 0
    # Rows are sorted by user and time: only what lies in one block with a neighbour can be repeated.
    block = np.cumsum(np.append(True, ~same_as_before))
    shared = np.append(same_as_before, False) | np.append(False, same_as_before)
    block, item = block[shared], rows.item[shared]
    order = np.lexsort((item, block))
    count = int(((np.diff(block[order]) == 0) & (np.diff(item[order]) == 0)).sum())
    what = "the same user, item and time" if log.schema.has_times else "the same user and item"
    return Finding("duplicates", "note" if count else "ok", count, f"{count:,} events repeat {what}")


def _untrained_targets(log: EventLog, part: np.ndarray[Any, np.dtype[np.int8]]) -> Finding:
    trained = np.zeros(int(log.rows.item.max(initial=0)) + 1, bool)
    trained[log.rows.item[part == TRAIN]] = True
    held_out = (part == TEST) | (part == VALIDATION)
    count = int((~trained[log.rows.item[held_out]]).sum())
    share = count / max(1, int(held_out.sum()))
    message = f"{share:.1%} of held-out events have an item without a training event; they count, as misses if unscored"
    return Finding("untrained items", "note" if count else "ok", count, message)


def _sibling_groups(log: EventLog) -> Finding:
    check = "siblings"
    if not log.schema.request_safe:
        return Finding(
            check, "note", 0, "request-safe is off: events of one request or instant see each other in file order"
        )
    sizes = np.bincount(log.events.request) if len(log) else np.zeros(1, np.int64)
    largest = int(sizes.max())
    message = f"events of one request or instant are hidden from each other; the largest such group has {largest:,}"
    if largest > 1000:
        return Finding(check, "warning", largest, message + ": is `request` really one page view?")
    return Finding(check, "ok", largest, message)
