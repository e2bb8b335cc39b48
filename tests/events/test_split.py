"""Splits: equal to slow loops, and refused where they leave nothing."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tests.events.logs import EVENTS, SCHEMAS, Event, log_of, schema
from tests.reference import splits as reference
from upnext.base.errors import BadConfig
from upnext.base.schema import Schema
from upnext.events.audit import audit
from upnext.events.log import EventLog
from upnext.events.split import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    GlobalTime,
    LeaveLastOut,
    Split,
    split_log,
    unuse_straddling,
)

property_test = settings(max_examples=120, deadline=None)
DAY = 24 * 60 * 60 * 1000


def parts_of(split: GlobalTime | LeaveLastOut, log: EventLog, most: int = 5) -> list[int]:
    """The parts as the split alone would have them: no event is alone in a request that goes on."""
    alone = EventLog(log.schema.model_copy(update={"request_safe": False}), log.rows, log.offsets)
    blocks = list(split_log(split, alone, most))
    assert all(block.dtype == np.int8 for block in blocks)
    return [part for block in blocks for part in block.tolist()]


@property_test
@given(EVENTS, st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))
def test_a_split_by_time_equals_the_slow_reference(events: list[Event], gap: int, validation: int, test: int) -> None:
    log = log_of(events)
    expected = reference.global_time(log.rows.time_ms.tolist(), gap=gap, validation=validation, test=test)
    split = GlobalTime(gap=gap, validation=validation, test=test)
    if TRAIN not in expected:
        with pytest.raises(BadConfig, match="leaves nothing to train"):
            parts_of(split, log)
    else:
        assert parts_of(split, log) == expected


@property_test
@given(EVENTS, st.sampled_from(["all", "watched"]))
def test_leave_last_out_equals_the_slow_reference(events: list[Event], view: str) -> None:
    log = log_of(events)
    expected = reference.leave_last_out(log.rows.user.tolist(), log.views[view].tolist())
    if TEST not in expected:
        with pytest.raises(BadConfig, match=f"nothing to test: no user has three events of the view '{view}'"):
            parts_of(LeaveLastOut(view=view), log)
    else:
        assert parts_of(LeaveLastOut(view=view), log) == expected


def test_the_parts_of_time_by_hand() -> None:
    log = log_of([Event(2 + n % 2, 3, n * DAY) for n in range(10)])
    split = GlobalTime(gap=2 * DAY, validation=DAY, test=3 * DAY)
    assert log.rows.time_ms.tolist() == [n * DAY for n in [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]]
    # Day 9 ends the log: 7-9 test, 6 validates, 4 and 5 are the gap.
    assert parts_of(split, log) == [TRAIN, TRAIN, UNUSED, VALIDATION, TEST, TRAIN, TRAIN, UNUSED, TEST, TEST]


def test_the_border_belongs_to_the_later_part() -> None:
    log = log_of([Event(2, 3, time) for time in (69, 70, 89, 90, 99)])
    assert parts_of(GlobalTime(validation=20, test=10), log) == [TRAIN, VALIDATION, VALIDATION, TEST, TEST]


@property_test
@given(EVENTS, st.integers(1, 3))
def test_no_trained_event_is_later_than_a_tested_one(events: list[Event], test: int) -> None:
    log = log_of(events)
    assume(events and max(e.time for e in events) - min(e.time for e in events) > test)
    part = np.array(parts_of(GlobalTime(validation=1, test=test), log))
    assert log.rows.time_ms[part == TRAIN].max() < log.rows.time_ms[part != TRAIN].min()


def test_leave_last_out_by_hand() -> None:
    log = log_of([Event(user, 3, n) for user, count in ((2, 3), (3, 2), (4, 5)) for n in range(count)])
    assert parts_of(LeaveLastOut(), log) == [
        *[TRAIN, VALIDATION, TEST],
        *[TRAIN, TRAIN],  # too few to hold any out
        *[TRAIN, TRAIN, TRAIN, VALIDATION, TEST],
    ]


def test_leave_last_out_of_a_view_trains_nothing_after_validation_begins() -> None:
    played = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    log = log_of([Event(2, 3, n, played=p) for n, p in enumerate(played)] + [Event(3, 3, 9, played=1.0)] * 2)
    assert parts_of(LeaveLastOut(view="watched"), log) == [
        *[TRAIN, TRAIN, TRAIN, VALIDATION, UNUSED, TEST, UNUSED],
        *[TRAIN, TRAIN],
    ]


def test_ties_are_ordered_by_the_file() -> None:
    log = log_of([Event(2, item, 7) for item in (5, 3, 8, 4)])
    assert parts_of(LeaveLastOut(), log) == [TRAIN, TRAIN, VALIDATION, TEST]
    assert log.rows.item.tolist() == [5, 3, 8, 4]


def test_a_split_by_time_needs_times() -> None:
    log = log_of([Event(2, 3, 0)] * 4, schema(has_times=False))
    with pytest.raises(BadConfig, match=r'an order but no times: set prepare\.split\.kind = "leave_last_out"'):
        parts_of(GlobalTime(), log)
    assert parts_of(LeaveLastOut(), log) == [TRAIN, TRAIN, VALIDATION, TEST]


def test_nothing_to_train_tells_how_long_the_log_is() -> None:
    log = log_of([Event(2, 3, 0), Event(2, 4, 36 * 60 * 60 * 1000)])
    with pytest.raises(BadConfig, match=r"the log spans 1\.5 days; make validation, test and gap shorter"):
        parts_of(GlobalTime(), log)
    with pytest.raises(BadConfig, match="leaves nothing to train"):
        parts_of(GlobalTime(), log_of([]))
    with pytest.raises(BadConfig, match="leaves nothing to test"):
        parts_of(LeaveLastOut(), log_of([]))


@pytest.mark.parametrize("change", [{"gap": -1}, {"test": 0}, {"validation": 0}, {"test": "-1d"}, {"view": "all"}])
def test_what_no_split_by_time_can_be(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GlobalTime.model_validate(change)


def test_the_kind_chooses_the_split() -> None:
    adapter: TypeAdapter[GlobalTime | LeaveLastOut] = TypeAdapter(Split)
    assert adapter.validate_python({"kind": "leave_last_out", "view": "watched"}) == LeaveLastOut(view="watched")
    assert adapter.validate_python({"kind": "global_time", "test": "7d"}) == GlobalTime(test=7 * DAY)
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        adapter.validate_python({"kind": "random"})


def test_a_request_that_goes_on_into_a_later_part_is_not_trained() -> None:
    part = np.array([TRAIN, TRAIN, TEST, TRAIN, VALIDATION, TEST, TEST], np.int8)
    group = np.array([0, 1, 1, 2, 3, 3, 4])
    expected = [TRAIN, UNUSED, TEST, TRAIN, UNUSED, TEST, TEST]
    assert unuse_straddling(part, group).tolist() == expected
    assert unuse_straddling(part, np.arange(7)).tolist() == part.tolist()
    assert unuse_straddling(part[:0], group[:0]).tolist() == []


@property_test
@given(EVENTS, SCHEMAS, st.integers(1, 20))
def test_blocks_of_users_change_no_split(events: list[Event], of: Schema, most: int) -> None:
    log = log_of(events, of)
    split = GlobalTime(validation=1, test=1) if of.has_times else LeaveLastOut()
    try:
        whole = np.concatenate(list(split_log(split, log, most=100)))
    except BadConfig as error:
        with pytest.raises(BadConfig, match=re.escape(str(error))):
            list(split_log(split, log, most))
        return
    assert np.concatenate(list(split_log(split, log, most))).tolist() == whole.tolist()
    findings = audit(log, whole, isinstance(split, GlobalTime), most=100)
    assert audit(log, whole, isinstance(split, GlobalTime), most) == findings


def test_requests_that_leave_nothing_to_train_are_told() -> None:
    log = log_of([Event(2, 3, 0, request=1), Event(2, 4, 5, request=1)])
    with pytest.raises(BadConfig, match="requests that span the parts"):
        list(split_log(GlobalTime(validation=1, test=1), log, most=10))
