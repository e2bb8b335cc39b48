"""Cases: the moments of a split equal a slow loop, and no history holds what it must not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, NUM_USERS, SCHEMAS, Event, log_of, schema
from tests.reference import siblings
from upnext.base.errors import BadData
from upnext.base.schema import Schema
from upnext.evaluation.cases import Cases, find_cases
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, UNUSED, VALIDATION

PARTS = st.lists(st.sampled_from([TRAIN, VALIDATION, TEST, UNUSED]), min_size=14, max_size=14)
property_test = settings(max_examples=120, deadline=None)


def plain(cases: Cases) -> list[dict[str, Any]]:
    """One dict per case."""
    return [
        {
            "user": cases.user[number],
            "time_ms": cases.time_ms[number],
            "history_end": cases.history_end[number],
            "first_target": cases.first_target[number],
            "targets": cases.target[cases.case == number].tolist(),
        }
        for number in range(len(cases))
    ]


def slow_cases(
    log: EventLog, part: list[int], which: int, view: str, history: str, events: str, unfamiliar: bool
) -> list[dict[str, Any]]:
    """Walk through every user's groups of siblings, in order."""
    user, time, item = log.rows.user.tolist(), log.rows.time_ms.tolist(), log.rows.item.tolist()
    is_target = [bool(log.views[view][row]) and part[row] == which for row in range(len(user))]
    group = siblings.groups(
        user,
        time,
        log.rows.request.tolist(),
        has_times=log.schema.has_times,
        request_safe=log.schema.request_safe,
    )
    if unfamiliar:
        for row in range(len(user)):
            before = [other for other in range(row) if user[other] == user[row] and group[other] != group[row]]
            is_target[row] &= item[row] not in [item[other] for other in before]
    found = []
    for somebody in range(NUM_USERS):
        rows = [row for row in range(len(user)) if user[row] == somebody]
        requests = [
            [row for row in rows if group[row] == number]
            for number in dict.fromkeys(group[row] for row in rows if is_target[row])
        ]
        if events == "first":
            requests = requests[:1]
        if history == "frozen" and requests:
            part_begins = next(row for row in rows if part[row] == which)
            first_time = min(time[row] for row in range(len(user)) if part[row] == which)
            targets = [row for request in requests for row in request if is_target[row]]
            end = group.index(group[part_begins])
            asked = [(targets, end, first_time if log.schema.has_times else time[end])]
        else:
            asked = [([row for row in r if is_target[row]], r[0], time[r[0]]) for r in requests]
        for targets, end, time_ms in asked:
            found.append(
                {
                    "user": somebody,
                    "time_ms": time_ms,
                    "history_end": end,
                    "first_target": targets[0],
                    "targets": sorted({item[row] for row in targets}),
                }
            )
    return found


@property_test
@given(
    EVENTS,
    PARTS,
    SCHEMAS,
    st.sampled_from([VALIDATION, TEST]),
    st.sampled_from(["all", "watched"]),
    st.sampled_from(["rolling", "frozen"]),
    st.sampled_from(["all", "first"]),
    st.booleans(),
)
def test_cases_equal_the_slow_loop(
    events: list[Event],
    parts: list[int],
    of: Schema,
    which: int,
    view: str,
    history: Any,
    which_events: Any,
    unfamiliar: bool,
) -> None:
    log, parts = log_of(events, of), parts[: len(events)]
    cases = find_cases(
        log, np.array(parts, np.int8), which, view, history=history, events=which_events, unfamiliar=unfamiliar
    )
    assert plain(cases) == slow_cases(log, parts, which, view, history, which_events, unfamiliar)
    for array in vars(cases).values():
        assert array.dtype == np.int64
    assert cases.case.tolist() == sorted(cases.case.tolist())


#             row 0      1      2         3         4            5            6
BY_HAND = [
    Event(2, 3, 10, played=1.0),
    Event(2, 4, 20, played=1.0),
    Event(2, 5, 30, request=1, played=0.0),
    Event(2, 6, 40, request=1, played=1.0),
    Event(2, 3, 50, played=1.0),
    Event(2, 3, 50, played=0.5),
    Event(2, 7, 60, played=0.0),
    Event(3, 4, 35, played=1.0),
]
BY_HAND_PARTS = np.array([TRAIN, TRAIN, TEST, TEST, TEST, TEST, TEST, TEST], np.int8)


def case(user: int, time_ms: int, history_end: int, first_target: int, *targets: int) -> dict[str, Any]:
    return {
        "user": user,
        "time_ms": time_ms,
        "history_end": history_end,
        "first_target": first_target,
        "targets": list(targets),
    }


def test_a_rolling_case_is_a_request() -> None:
    log = log_of(BY_HAND)
    assert plain(find_cases(log, BY_HAND_PARTS, TEST, "all")) == [
        case(2, 30, 2, 2, 5, 6),
        case(2, 50, 4, 4, 3),  # chosen twice at one time: one target
        case(2, 60, 6, 6, 7),
        case(3, 35, 7, 7, 4),  # no history at all
    ]


def test_a_case_of_a_view_is_asked_when_its_request_was() -> None:
    """The skipped item of the request comes first: time and history are the request's, not the target's."""
    log = log_of(BY_HAND)
    assert plain(find_cases(log, BY_HAND_PARTS, TEST, "watched")) == [
        case(2, 30, 2, 3, 6),
        case(2, 50, 4, 4, 3),
        case(3, 35, 7, 7, 4),
    ]


def test_a_frozen_case_is_a_user() -> None:
    log = log_of(BY_HAND)
    assert plain(find_cases(log, BY_HAND_PARTS, TEST, "watched", history="frozen")) == [
        case(2, 30, 2, 3, 3, 6),
        case(3, 30, 7, 7, 4),  # asked when the part begins
    ]


def test_first_takes_the_first_request_of_each_user() -> None:
    log = log_of(BY_HAND)
    first = [case(2, 30, 2, 2, 5, 6), case(3, 35, 7, 7, 4)]
    assert plain(find_cases(log, BY_HAND_PARTS, TEST, "all", events="first")) == first


def test_without_request_safe_every_event_is_a_case() -> None:
    log = log_of(BY_HAND[2:6], schema(request_safe=False))
    cases = plain(find_cases(log, np.full(4, TEST, np.int8), TEST, "all"))
    assert cases == [case(2, 30, 0, 0, 5), case(2, 40, 1, 1, 6), case(2, 50, 2, 2, 3), case(2, 50, 3, 3, 3)]


@property_test
@given(EVENTS, PARTS, st.sampled_from(["rolling", "frozen"]))
def test_no_history_reaches_the_time_of_its_case_or_its_request(events: list[Event], parts: list[int], history: Any):
    log = log_of(events)
    cases = find_cases(log, np.array(parts[: len(events)], np.int8), TEST, "all", history=history)
    for number in range(len(cases)):
        before = slice(log.offsets[cases.user[number]], cases.history_end[number])
        assert (log.rows.time_ms[before] < log.rows.time_ms[cases.first_target[number]]).all()
        request = log.rows.request[cases.first_target[number]]
        assert request == -1 or request not in log.rows.request[before]


@property_test
@given(EVENTS, PARTS, st.sets(st.integers(0, 13)))
def test_taking_cases_keeps_each_with_its_targets(events: list[Event], parts: list[int], chosen: set[int]) -> None:
    cases = find_cases(log_of(events), np.array(parts[: len(events)], np.int8), TEST, "all")
    numbers = sorted(number for number in chosen if number < len(cases))
    some = cases.take(np.array(numbers, np.int64))
    assert plain(some) == [plain(cases)[number] for number in numbers]


def test_a_part_without_events_has_no_cases() -> None:
    for events in (BY_HAND, []):
        cases = find_cases(log_of(events), np.zeros(len(events), np.int8), TEST, "all")
        assert len(cases) == len(cases.target) == 0


def test_an_unknown_view_is_told() -> None:
    with pytest.raises(BadData, match="no view 'liked'"):
        find_cases(log_of(BY_HAND), BY_HAND_PARTS, TEST, "liked")
