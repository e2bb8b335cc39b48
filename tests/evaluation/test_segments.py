"""Segments: every target in one segment of each dimension, means that add up, borders from training alone."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, NUM_ITEMS, Event, log_of, schema
from tests.reference import ranking as reference
from upnext.evaluation import segments
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.ranking import Histories, Ranking
from upnext.evaluation.segments import Dimension, find_dimensions, heavy_from, segment_figures
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN

PARTS = st.lists(st.sampled_from([TRAIN, TEST]), min_size=14, max_size=14)
CONTEXTS = {"device": lambda code: f"device {code}"}


def found(log: EventLog, parts: list[int], contexts: Any = CONTEXTS) -> tuple[Cases, dict[str, Dimension]]:
    part = np.array(parts[: len(log)], np.int8)
    cases = find_cases(log, part, TEST, "all")
    trained = np.bincount(log.rows.item[part == TRAIN], minlength=NUM_ITEMS)
    dimensions = find_dimensions(Histories(log, "all"), part, cases, trained, contexts)
    return cases, {dimension.name: dimension for dimension in dimensions}


def masks(dimension: Dimension) -> dict[str, list[int]]:
    """The targets of each segment, by number."""
    return {name: np.flatnonzero(mask).tolist() for name, mask in dimension.segments.items()}


def ranking(*ranks: float) -> Ranking:
    return Ranking(np.array(ranks), np.zeros((0, 1), np.int64))


# User 2 is known and has had 2, then 3 events; user 3 is new. Training has item 2 three times and item 3 once.
BY_HAND = [
    Event(2, 2, 10),
    Event(2, 3, 20),
    Event(2, 2, 50),
    Event(2, 4, 60),
    Event(3, 2, 55),
    Event(3, 3, 65),
    Event(4, 2, 10),
    Event(4, 2, 11),
]
BY_HAND_PARTS = [TRAIN, TRAIN, TEST, TEST, TEST, TEST, TRAIN, TRAIN]


def test_segments_by_hand() -> None:
    cases, by_name = found(log_of(BY_HAND), BY_HAND_PARTS)
    assert cases.target.tolist() == [2, 4, 2, 3]
    assert set(by_name) == {"User", "Chosen item", "Context device"}  # all histories are cold: one segment says nothing
    assert masks(by_name["User"]) == {"known from training": [0, 1], "new, first visit": [2], "new, later visit": [3]}
    # Training events per item are 3 and 1: the median (upwards) and the 90 % quantile are 3.
    assert masks(by_name["Chosen item"]) == {"new: 0": [1], "tail: 1 to 2": [3], "middle: 3": [0, 2]}
    # Device is item % 3, observed where it is above 0: training has device 2 three times, and item 3 has none.
    assert masks(by_name["Context device"]) == {"device 2": [0, 2], "(other values)": [1], "(not given)": [3]}


def test_a_history_is_cold_below_five_and_heavy_from_the_top_tenth_of_training() -> None:
    events = [Event(2, 2 + n % 5, n) for n in range(12)] + [Event(3, 2, n) for n in range(7)] + [Event(4, 2, 0)]
    parts = [TRAIN] * 12 + [TEST] * 7 + [TRAIN]
    log = log_of(events)
    assert heavy_from(Histories(log, "all"), np.array(parts, np.int8)) == 12
    _, by_name = found(log, parts)
    assert masks(by_name["History"]) == {"cold: 0 to 4": [0, 1, 2, 3, 4], "short: 5 to 10": [5, 6]}


@settings(max_examples=80, deadline=None)
@given(EVENTS, PARTS)
def test_every_target_is_in_exactly_one_segment_of_a_dimension(events: list[Event], parts: list[int]) -> None:
    cases, by_name = found(log_of(events), parts)
    for dimension in by_name.values():
        assert len(dimension.segments) > 1
        np.testing.assert_array_equal(sum(mask.astype(int) for mask in dimension.segments.values()), 1)
        assert all(len(mask) == len(cases.target) for mask in dimension.segments.values())


@settings(max_examples=60, deadline=None)
@given(EVENTS, PARTS, st.integers(0, 9))
def test_the_means_of_segments_add_up_to_the_mean_of_all(events: list[Event], parts: list[int], seed: int) -> None:
    """By cases where a case is in one segment; by targets for the recall of chosen items."""
    cases, by_name = found(log_of(events), parts)
    if not len(cases):
        return
    ranks = np.random.default_rng(seed).choice([1.0, 2.5, 7.0, math.inf], len(cases.target))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "FEWEST_USERS", 1)
        rows = segment_figures(list(by_name.values()), {"m": ranking(*ranks)}, cases, 5, 10)
    of_cases = [ranks[cases.case == number].tolist() for number in range(len(cases))]
    for dimension in by_name.values():
        for metric, slow in (("ndcg", reference.ndcg), ("recall", reference.recall)):
            some = [row for row in rows if (row["dimension"], row["metric"]) == (dimension.name, metric)]
            if dimension.name != "Chosen item":
                total = sum(row["value"] * row["cases"] for row in some) / len(cases)
                assert sum(row["cases"] for row in some) == len(cases)
                assert total == pytest.approx(np.mean([slow(one, 5) for one in of_cases]))
        for name, mask in dimension.segments.items():
            chosen = [r for n in range(len(cases)) if (r := ranks[mask & (cases.case == n)].tolist())]
            (row,) = (r for r in rows if (r["dimension"], r["segment"], r["metric"]) == (dimension.name, name, "ndcg"))
            assert row["value"] == pytest.approx(np.mean([reference.ndcg(one, 5) for one in chosen]))
            assert (row["cases"], row["low"] <= row["value"] <= row["high"]) == (len(chosen), True)


def test_borders_come_from_training_alone() -> None:
    """However much happens in the test part, the borders stay."""
    trained = [Event(2, 2 + min(n, 3) % 3, n) for n in range(12)] + [Event(4, 2, 0)]
    tested = [Event(3, 2 + n % 4, 100 + n) for n in range(7)]
    more = [Event(5 - n % 2, 2, 200 + n) for n in range(40)]
    seen = []
    for events in ([*trained, *tested], [*trained, *tested, *more]):
        log = log_of(events)
        _, by_name = found(log, np.where(log.rows.time_ms >= 100, TEST, TRAIN).tolist())
        seen.append(by_name)
    for name in ("History", "Chosen item"):
        few, many = (by_name[name] for by_name in seen)
        assert few.note == many.note
        assert set(few.segments) <= set(many.segments)


def test_a_segment_of_few_users_says_so_instead_of_a_number() -> None:
    cases, by_name = found(log_of(BY_HAND), BY_HAND_PARTS)
    rows = segment_figures(list(by_name.values()), {"m": ranking(1, 1, 1, 1)}, cases, 10, 10)
    assert rows
    assert all(row["users"] < 20 and row["value"] is row["low"] is row["high"] is None for row in rows)


def test_a_log_without_contexts_has_no_dimension_of_them() -> None:
    assert not [name for name in found(log_of(BY_HAND), BY_HAND_PARTS, {})[1] if name.startswith("Context")]


def test_hours_stand_in_their_order_and_equal_names_together() -> None:
    codes = {1: "10", 2: "9"}
    _, by_name = found(log_of(BY_HAND), BY_HAND_PARTS, {"device": lambda code: codes[code]})
    assert next(iter(by_name["Context device"].segments)) == "9"
    events = [*BY_HAND, Event(4, 4, 12)]
    _, by_name = found(log_of(events), [*BY_HAND_PARTS, TRAIN], {"device": lambda code: "x" * 70 + str(code)})
    assert masks(by_name["Context device"]) == {"x" * 59 + "…": [0, 1, 2], "(not given)": [3]}


def test_without_times_or_siblings_a_target_is_a_case() -> None:
    log = log_of(BY_HAND, schema(has_times=False, has_requests=False, request_safe=False))
    cases, by_name = found(log, BY_HAND_PARTS)
    assert len(cases) == 4
    assert "User" in by_name
