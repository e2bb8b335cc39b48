"""The audit: each finding, triggered and not."""

import numpy as np
import pytest

from tests.events.logs import Event, log_of, schema
from upnext.base.errors import BadData
from upnext.base.schema import Schema
from upnext.events.audit import Finding, audit
from upnext.events.split import TEST, TRAIN, UNUSED, VALIDATION

CLEAN = [Event(2, 3, 0), Event(2, 4, 1), Event(2, 3, 2), Event(2, 4, 3)]
PARTS = [TRAIN, TRAIN, VALIDATION, TEST]


def find(check: str, events: list[Event], parts: list[int], of: Schema | None = None, by_time: bool = False) -> Finding:
    """One finding of an audit; `events` are sorted already, so that `parts` stand beside them."""
    log = log_of(events, of)
    assert log.rows.order.tolist() == list(range(len(events)))
    findings = {finding.check: finding for finding in audit(log, np.array(parts, np.int8), by_time, most=2)}
    assert len(findings) == 7
    return findings[check]


def stands(finding: Finding) -> tuple[str, int]:
    return finding.level, finding.count


def test_a_clean_split_has_nothing_to_note() -> None:
    findings = audit(log_of(CLEAN), np.array(PARTS, np.int8), by_time=True, most=100)
    assert [finding.level for finding in findings] == ["ok"] * 7
    row = findings[0].as_row()
    assert row == {
        "check": "parts",
        "level": "ok",
        "count": 4,
        "message": "2 train, 1 validation, 1 test, 0 unused events",
    }


@pytest.mark.parametrize("parts", [[TRAIN, TRAIN, VALIDATION, UNUSED], [TRAIN, TRAIN, UNUSED, TEST], [TRAIN] * 4])
def test_a_missing_part_is_a_warning(parts: list[int]) -> None:
    finding = find("parts", CLEAN, parts)
    assert stands(finding) == ("warning", 4)
    assert (
        f"{parts.count(VALIDATION)} validation, {parts.count(TEST)} test, {parts.count(UNUSED)} un" in finding.message
    )


LATE = [Event(2, 3, 0), Event(2, 4, 1), Event(2, 3, 2), Event(3, 3, 1), Event(3, 4, 2), Event(3, 4, 3)]
LATE_PARTS = [TRAIN, VALIDATION, TEST, TRAIN, TRAIN, TRAIN]


def test_training_after_the_test_begins() -> None:
    """The event at the very instant of the first test event counts too."""
    finding = find("train after test begins", LATE, LATE_PARTS)
    assert stands(finding) == ("note", 2)
    assert "50.0% of training events" in finding.message
    assert "leave-last-out" in finding.message


def test_a_split_by_time_that_trains_on_the_future_is_refused() -> None:
    with pytest.raises(BadData, match="2 training events are not before the first test event"):
        audit(log_of(LATE), np.array(LATE_PARTS, np.int8), by_time=True, most=1)


def test_the_future_cannot_be_told_without_times_or_parts() -> None:
    without_times = schema(has_times=False)
    finding = find("train after test begins", LATE, LATE_PARTS, without_times)
    assert stands(finding) == ("note", 0)
    assert "no times" in finding.message
    assert stands(find("train after test begins", CLEAN, [TRAIN] * 4)) == ("warning", 0)
    assert stands(find("train after test begins", CLEAN, [TEST] * 4)) == ("warning", 0)


def test_ties_across_the_border() -> None:
    events = [Event(2, 3, 0), Event(2, 4, 1), Event(2, 5, 1), Event(2, 6, 1), Event(3, 3, 1)]
    check = "ties across the border"
    alone = schema(request_safe=False)
    assert stands(find(check, events, [TRAIN, TRAIN, VALIDATION, TEST, TRAIN], alone)) == ("note", 2)
    assert stands(find(check, events, [TRAIN, VALIDATION, VALIDATION, VALIDATION, TEST])) == ("ok", 0)
    parts = [TRAIN, TRAIN, VALIDATION, TEST, TRAIN]
    assert stands(find(check, events, parts, schema(has_times=False))) == ("ok", 0)


def test_requests_across_the_border() -> None:
    events = [Event(2, 3, 0, request=7), Event(2, 4, 1, request=7), Event(2, 5, 2)]
    check = "requests across the border"
    assert stands(find(check, events, [TRAIN, TRAIN, TEST])) == ("ok", 0)
    assert stands(find(check, events, [UNUSED, TEST, TEST])) == ("note", 1)
    assert stands(find(check, events, [UNUSED, UNUSED, TEST])) == ("ok", 0)  # a gap, not a border
    assert stands(find(check, events, [TRAIN, TEST, TEST], schema(request_safe=False))) == ("ok", 0)
    with pytest.raises(BadData, match="a request has events in two parts"):
        find(check, events, [TRAIN, TEST, TEST])


def test_duplicates_repeat_user_item_and_time() -> None:
    events = [Event(2, 3, 0), Event(2, 4, 0), Event(2, 3, 0), Event(2, 3, 1), Event(3, 3, 1), Event(3, 3, 1)]
    parts = [TRAIN] * 6
    assert stands(find("duplicates", events, parts)) == ("note", 2)
    without_times = find("duplicates", events, parts, schema(has_times=False))
    assert stands(without_times) == ("note", 3)
    assert without_times.message == "3 events repeat the same user and item"
    assert stands(find("duplicates", CLEAN, PARTS)) == ("ok", 0)


def test_held_out_items_without_training() -> None:
    events = [Event(2, 3, 0), Event(2, 8, 1), Event(2, 4, 2), Event(2, 3, 3), Event(2, 8, 4)]
    finding = find("untrained items", events, [TRAIN, UNUSED, VALIDATION, TEST, TEST])
    assert stands(finding) == ("note", 2)
    assert finding.message.startswith("66.7% of held-out events")
    assert stands(find("untrained items", events, [TRAIN, TRAIN, TRAIN, VALIDATION, TEST])) == ("ok", 0)
    assert stands(find("untrained items", events, [TRAIN] * 5)) == ("ok", 0)


def test_siblings_are_counted_and_a_huge_group_is_suspect() -> None:
    events = [Event(2, 3, 0), Event(2, 4, 1), Event(2, 5, 1), Event(2, 6, 1)]
    assert stands(find("siblings", events, [TRAIN, TEST, TEST, TEST])) == ("ok", 3)
    crowd = [Event(2, 3, 0)] * 1001
    finding = find("siblings", crowd, [TRAIN] * 1001)
    assert stands(finding) == ("warning", 1001)
    assert "one page view?" in finding.message
    assert find("siblings", crowd[:1000], [TRAIN] * 1000).level == "ok"


def test_siblings_without_request_safe_are_told() -> None:
    finding = find("siblings", CLEAN, PARTS, schema(request_safe=False))
    assert stands(finding) == ("note", 0)
    assert "request-safe is off" in finding.message


def test_an_empty_log_is_audited_too() -> None:
    levels = {finding.check: finding.level for finding in audit(log_of([]), np.empty(0, np.int8), by_time=True, most=2)}
    assert levels["parts"] == levels["train after test begins"] == "warning"
    assert levels["duplicates"] == levels["siblings"] == "ok"


@pytest.mark.parametrize("has_times", [True, False])
def test_duplicates_are_counted_as_a_loop_over_all_pairs_counts_them(has_times: bool) -> None:
    rng = np.random.default_rng(3)
    events = [
        Event(2 + user, 2 + int(rng.integers(4)), time)
        for user in range(3)
        for time in sorted(rng.integers(6, size=11).tolist())
    ]
    keys = [(event.user, event.item, event.time if has_times else 0) for event in events]
    expected = sum(key in keys[:number] for number, key in enumerate(keys))
    finding = find("duplicates", events, [TRAIN] * len(events), schema(has_times=has_times))
    assert stands(finding) == ("note", expected)
