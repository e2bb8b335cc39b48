"""Splits: which events are trained, which validate, which test.

Two kinds. *Global time*: everything before T trains; then an optional gap; then validation; then test. *Leave last
out*: each user's last event is tested, the one before it validates.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from upnext.base.configuration import Config, Duration
from upnext.base.errors import BadConfig
from upnext.base.views import ALL
from upnext.events.log import EventLog

__all__ = [
    "TEST",
    "TRAIN",
    "UNUSED",
    "VALIDATION",
    "GlobalTime",
    "LeaveLastOut",
    "Split",
    "borders_ms",
    "split_log",
    "unuse_straddling",
]

TRAIN, VALIDATION, TEST, UNUSED = range(4)


class GlobalTime(Config):
    """Train before one instant, test after it, for all users alike."""

    kind: Literal["global_time"] = "global_time"
    gap: Annotated[Duration, Field(ge=0)] = 0
    """Events of the gap are neither trained nor evaluated."""
    validation: Annotated[Duration, Field(gt=0)] = 86_400_000
    """Length of the validation part, just before the test part."""
    test: Annotated[Duration, Field(gt=0)] = 86_400_000
    """Length of the test part, at the end of the log."""


class LeaveLastOut(Config):
    """Test each user's last event of a view, validate on the one before."""

    kind: Literal["leave_last_out"] = "leave_last_out"
    view: str = ALL
    """The events that count as a user's last ones."""


Split = Annotated[GlobalTime | LeaveLastOut, Field(discriminator="kind")]


def split_log(split: GlobalTime | LeaveLastOut, log: EventLog, most: int) -> Iterator[NDArray[np.int8]]:
    """Assign each event to a part, a block of users after the other, as `EventLog.blocks` cuts them.

    Args:     most: how many events a block has at most.
    Returns:  (n,) int8 per block: 0 train, 1 validation, 2 test, 3 unused; events whose request goes on into a later
              part are unused.
    Raises:   BadConfig: a split by time of a log without times, or one that leaves nothing to train or test, which
              is known after the last block.
    """
    end_ms = 0
    if isinstance(split, GlobalTime):
        if not log.schema.has_times:
            raise BadConfig('this log has an order but no times: set prepare.split.kind = "leave_last_out"')
        end_ms = _end_ms(log)
    before, after = np.zeros(4, np.int64), np.zeros(4, np.int64)
    for _, block in log.blocks(most):
        if isinstance(split, GlobalTime):
            part = _global_time(split, block.rows.time_ms, end_ms)
        else:
            part = _leave_last_out(block.offsets, block.mask(split.view))
        before += np.bincount(part, minlength=4)
        part = unuse_straddling(part, block.groups)
        after += np.bincount(part, minlength=4)
        yield part
    if isinstance(split, LeaveLastOut) and not before[TEST]:
        raise BadConfig(
            f"prepare.split leaves nothing to test: no user has three events of the view {split.view!r};"
            " choose another view"
        )
    if not before[TRAIN]:
        days = (end_ms - int(log.rows.time_ms.min(initial=end_ms))) / 86_400_000
        raise BadConfig(
            f"prepare.split leaves nothing to train: the log spans {days:.1f} days;"
            " make validation, test and gap shorter"
        )
    if not after[TRAIN] or not after[TEST]:
        raise BadConfig("requests that span the parts of the split leave nothing to train or to test: check `request`")


def unuse_straddling(part: NDArray[np.int8], group: NDArray[np.int64]) -> NDArray[np.int8]:
    """Mark events as unused whose request goes on into a later part: training on them would show a target's siblings.

    Args:     part: (N,); group: (N,) sibling groups, rising along the rows, as in `EventLog.events.request`.
    Returns:  (N,) the parts, with an event as unused where its group has events in a later part.
    """
    used = part != UNUSED
    latest = np.zeros(int(group.max(initial=-1)) + 1, np.int8)
    np.maximum.at(latest, group[used], part[used])
    return np.where(used & (part < latest[group]), UNUSED, part).astype(np.int8)


def borders_ms(split: GlobalTime, log: EventLog) -> tuple[int, int, int]:
    """When training ends, when validation begins (later, if there is a gap) and when the test begins."""
    return _borders(split, _end_ms(log))


def _end_ms(log: EventLog) -> int:
    return int(log.rows.time_ms.max()) + 1 if len(log) else 0


def _borders(split: GlobalTime, end_ms: int) -> tuple[int, int, int]:
    test = end_ms - split.test
    return test - split.validation - split.gap, test - split.validation, test


def _global_time(split: GlobalTime, time_ms: NDArray[np.int64], end_ms: int) -> NDArray[np.int8]:
    """Split by time; the test part ends at `end_ms`, just after the log's last event."""
    train_end, validation, test = _borders(split, end_ms)
    return np.select(
        [time_ms >= test, time_ms >= validation, time_ms >= train_end], [TEST, VALIDATION, UNUSED], TRAIN
    ).astype(np.int8)


def _leave_last_out(offsets: NDArray[np.int64], targets: NDArray[np.bool_]) -> NDArray[np.int8]:
    part = np.zeros(len(targets), np.int8)
    rows = np.flatnonzero(targets)
    first = np.searchsorted(rows, offsets[:-1])
    last = np.searchsorted(rows, offsets[1:]) - 1
    enough = last - first >= 2  # a user needs an event to train, one to validate and one to test
    test, validation = rows[last[enough]], rows[last[enough] - 1]
    ends = offsets[1:][enough]
    # Everything from the validation event on is no training data: +1 where it starts, -1 where the user ends.
    held_out = np.zeros(len(targets) + 1, np.int64)
    held_out[validation] += 1
    held_out[ends] -= 1
    part[np.cumsum(held_out[:-1]) > 0] = UNUSED
    part[validation] = VALIDATION
    part[test] = TEST
    return part
