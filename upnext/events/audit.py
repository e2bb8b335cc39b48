"""The leak audit: what a split lets the training part know of the test part."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upnext.base.errors import BadData
from upnext.events.log import EventLog, LogRows
from upnext.events.split import TEST, TRAIN, UNUSED, VALIDATION

__all__ = ["Finding", "audit"]

Parts = NDArray[np.int8]


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


@dataclass(frozen=True)
class _Blocks:
    """A log and its parts, a block of users after the other, as often as they are asked for."""

    log: EventLog
    part: Parts
    most: int

    def __iter__(self) -> Iterator[tuple[EventLog, Parts]]:
        for rows, block in self.log.blocks(self.most):
            yield block, self.part[rows]


def audit(log: EventLog, part: Parts, by_time: bool, most: int) -> list[Finding]:
    """Check a split for leaks.

    Args:     part: (N,) the split's parts; by_time: whether the split promises that time separates them.
              most: how many events to look at together, as in `EventLog.blocks`.
    Returns:  a finding per check.
    Raises:   BadData: a split by time whose test part begins before its train part ends.
    """
    blocks = _Blocks(log, part, most)
    sizes = np.zeros(4, np.int64)
    for _, of in blocks:
        sizes += np.bincount(of, minlength=4)
    return [
        _sizes(sizes),
        _future_in_train(blocks, sizes, by_time, log.schema.has_times),
        _ties_across_border(blocks, log.schema.has_times),
        _requests_across_border(blocks),
        _duplicates(blocks, log.schema.has_times),
        _untrained_targets(blocks, num_items=int(log.rows.item.max(initial=0)) + 1),
        _sibling_groups(blocks, log.schema.request_safe),
    ]


def _sizes(sizes: NDArray[np.int64]) -> Finding:
    train, validation, test, unused = sizes.tolist()
    message = f"{train:,} train, {validation:,} validation, {test:,} test, {unused:,} unused events"
    return Finding("parts", "ok" if validation and test else "warning", int(sizes.sum()), message)


def _future_in_train(blocks: _Blocks, sizes: NDArray[np.int64], by_time: bool, has_times: bool) -> Finding:
    check = "train after test begins"
    if not has_times:
        return Finding(check, "note", 0, "the log has no times: other users' later events cannot be told apart")
    if not sizes[TEST] or not sizes[TRAIN]:
        return Finding(check, "warning", 0, "one of the parts is empty")
    never = np.iinfo(np.int64).max
    first = min(int(log.rows.time_ms[part == TEST].min(initial=never)) for log, part in blocks)
    late = sum(int((log.rows.time_ms[part == TRAIN] >= first).sum()) for log, part in blocks)
    if by_time and late:
        raise BadData(f"{late} training events are not before the first test event: the split leaks the future")
    share = late / int(sizes[TRAIN])
    message = f"{share:.1%} of training events are later than the first test event"
    if late:
        message += "; leave-last-out lets a model see what others did later"
    return Finding(check, "note" if late else "ok", late, message)


def _ties_across_border(blocks: _Blocks, has_times: bool) -> Finding:
    check = "ties across the border"
    if not has_times:
        return Finding(check, "ok", 0, "no times, no ties")
    count = 0
    for log, part in blocks:
        user, time_ms = log.rows.user, log.rows.time_ms
        count += int(((user[1:] == user[:-1]) & (time_ms[1:] == time_ms[:-1]) & (part[1:] != part[:-1])).sum())
    message = "no user has events of one instant in two parts"
    if count:
        message = f"{count:,} times a user's events of one instant fall into two parts; file order decides between them"
    return Finding(check, "note" if count else "ok", count, message)


def _requests_across_border(blocks: _Blocks) -> Finding:
    count = sum(_unused_beside_used(log.groups, part) for log, part in blocks)
    message = f"{count:,} events are unused because their request goes on into a later part"
    return Finding("requests across the border", "note" if count else "ok", count, message)


def _unused_beside_used(group: NDArray[np.int64], part: Parts) -> int:
    used = part != UNUSED
    starts = np.flatnonzero(np.diff(group, prepend=-1))  # the groups rise along the rows
    lowest = np.minimum.reduceat(np.where(used, part, UNUSED), starts) if len(group) else part
    highest = np.maximum.reduceat(np.where(used, part, 0), starts) if len(group) else part
    if (lowest < highest).any():
        raise BadData("a request has events in two parts of the split: its training events would show its targets")
    return int((~used & (lowest < UNUSED)[group]).sum())


def _duplicates(blocks: _Blocks, has_times: bool) -> Finding:
    count = sum(_repeats(log.rows, has_times) for log, _ in blocks)
    what = "the same user, item and time" if has_times else "the same user and item"
    return Finding("duplicates", "note" if count else "ok", count, f"{count:,} events repeat {what}")


def _repeats(rows: LogRows, has_times: bool) -> int:
    if not len(rows.user):
        return 0
    same_as_before = np.diff(rows.user) == 0
    if has_times:
        same_as_before &= np.diff(rows.time_ms) == 0
    # Rows are sorted by user and time: only what lies in one stretch with a neighbour can be repeated.
    stretch = np.cumsum(np.append(True, ~same_as_before))
    shared = np.append(same_as_before, False) | np.append(False, same_as_before)
    stretch, item = stretch[shared], rows.item[shared]
    order = np.lexsort((item, stretch))
    return int(((np.diff(stretch[order]) == 0) & (np.diff(item[order]) == 0)).sum())


def _untrained_targets(blocks: _Blocks, num_items: int) -> Finding:
    trained, held_out = np.zeros(num_items, bool), np.zeros(num_items, np.int64)
    for log, part in blocks:
        trained[log.rows.item[part == TRAIN]] = True
        held_out += np.bincount(log.rows.item[(part == TEST) | (part == VALIDATION)], minlength=num_items)
    count = int(held_out[~trained].sum())
    share = count / max(1, int(held_out.sum()))
    message = f"{share:.1%} of held-out events have an item without a training event; they count, as misses if unscored"
    return Finding("untrained items", "note" if count else "ok", count, message)


def _sibling_groups(blocks: _Blocks, request_safe: bool) -> Finding:
    check = "siblings"
    if not request_safe:
        return Finding(
            check, "note", 0, "request-safe is off: events of one request or instant see each other in file order"
        )
    largest = max((int(np.bincount(log.groups).max(initial=0)) for log, _ in blocks), default=0)
    message = f"events of one request or instant are hidden from each other; the largest such group has {largest:,}"
    if largest > 1000:
        return Finding(check, "warning", largest, message + ": is `request` really one page view?")
    return Finding(check, "ok", largest, message)
