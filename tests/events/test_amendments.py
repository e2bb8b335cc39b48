"""A play and the like that follows it are one event, and nothing of it is known before its time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import amendments as reference
from tests.reference.amendments import Told
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadArtifact
from upnext.base.schema import Schema
from upnext.events.amendments import first_rows, merged
from upnext.events.late import audit_amendments, late_rows, other_items
from upnext.events.log import EventLog, LogRows, write_late, write_log
from upnext.events.split import TRAIN, GlobalTime, LeaveLastOut, Split, split_log

NAMES = ("played", "seconds", "like")
MERGE: dict[str, Any] = {"played": "max", "seconds": "sum"}
RULES: dict[str, Any] = MERGE | {"like": "last"}
NUM_USERS = 5
VALUES = st.sampled_from([None, 0.0, 0.25, 1.0])
ROWS = st.lists(
    st.builds(Told, st.integers(2, 4), st.integers(0, 9), st.integers(-1, 3), VALUES, VALUES, VALUES), max_size=25
)
"""Few users, moments and interactions: an interaction is told of many times, also at one instant, also by two users."""


def schema(**changes: Any) -> Schema:
    values: dict[str, Any] = {"has_times": True, "has_requests": False, "request_safe": True, "merge": dict(MERGE)}
    feedback = {"played": "fraction", "seconds": "amount", "like": "binary"}
    return Schema(**(values | {"feedback": feedback, "views": {"liked": "like >= 1"}} | changes))


def rows_of(told: Sequence[Told]) -> LogRows:
    user, time, interaction = np.array([row[:3] for row in told], np.int64).reshape(-1, 3).T
    zeros = np.zeros(len(told), np.int64)

    def column(name: str) -> FlatColumn:
        values = [getattr(row, name) for row in told]
        return FlatColumn(
            np.array([v or 0 for v in values], np.float32), np.array([v is not None for v in values], bool)
        )

    columns = {f"feedback.{name}": column(name) for name in NAMES}
    return LogRows(user, zeros + 2, zeros, time, np.arange(len(told)), zeros - 1, zeros - 1, columns, interaction)


def written(folder: Path, told: Sequence[Told], split: Split | None = None, of: Schema | None = None) -> None:
    """A log on disk; with a split, its amendments are put in time."""
    rows = rows_of(told).sorted()
    write_log(folder, [rows], of or schema(), np.searchsorted(rows.user, np.arange(NUM_USERS + 1)))
    if split is not None:
        logged, log = EventLog.open(folder, "not"), EventLog.open(folder, "fully")
        write_late(folder, late_rows(split, logged, log, np.concatenate(list(split_log(split, log, 4)))))


def told_of(log: EventLog) -> list[Told]:
    rows = log.rows
    assert rows.interaction is not None
    core = [array.tolist() for array in (rows.user, rows.time_ms, rows.interaction)]
    feedback = [
        [v if seen else None for v, seen in zip(c.values.tolist(), c.observed.tolist(), strict=True)]
        for c in rows.columns.values()
    ]
    return [Told(*row) for row in zip(*core, *feedback, strict=True)]


@settings(deadline=None)
@given(ROWS, st.fixed_dictionaries({name: st.sampled_from(["first", "last", "max", "sum"]) for name in NAMES}))
def test_merging_equals_a_loop(told: list[Told], rules: dict[str, Any]) -> None:
    rows = rows_of(told).sorted()
    assert rows.interaction is not None
    before = [column.values.copy() for column in rows.columns.values()]
    first = first_rows(rows.user, rows.interaction)
    is_event = first == np.arange(len(told))
    events = replace(rows.take(is_event), columns=merged(rows.columns, first, rules))
    log = EventLog(schema(), events, np.searchsorted(events.user, np.arange(NUM_USERS + 1)))
    assert told_of(log) == reference.events(told, rules)
    assert all((old == c.values).all() for old, c in zip(before, rows.columns.values(), strict=True))  # rows stay


def test_a_play_a_like_and_more_play_by_hand(tmp_path: Path) -> None:
    told = [
        Told(2, 10, 7, played=0.5, seconds=30),
        Told(2, 20, 8, played=1.0, like=0),
        Told(2, 30, 7, seconds=12, like=1),  # says nothing of what was played
        Told(3, 40, 7, played=0.25),  # another user's interaction of this number is another event
        Told(2, 50, 7, played=0.25, like=0),
        Told(2, 60, seconds=1),
        Told(2, 60, seconds=1),  # rows without an interaction are events
    ]
    written(tmp_path, told)
    log = EventLog.open(tmp_path, "fully")
    assert told_of(log) == [
        Told(2, 10, 7, played=0.5, seconds=42, like=0),
        Told(2, 20, 8, played=1.0, like=0),
        Told(2, 60, seconds=1),
        Told(2, 60, seconds=1),
        Told(3, 40, 7, played=0.25),
    ]
    assert log.offsets.tolist() == [0, 0, 0, 4, 5, 5]
    assert told_of(EventLog.open(tmp_path, "not")) == reference.in_order(told)


def test_a_log_whose_late_rows_are_not_known_is_not_whole(tmp_path: Path) -> None:
    written(tmp_path, [Told(2, 1, 1)])
    with pytest.raises(BadArtifact, match=r"late\.npy"):
        EventLog.open(tmp_path)


def test_a_log_without_interactions_is_mapped_and_has_no_such_column(tmp_path: Path) -> None:
    rows = replace(rows_of([Told(2, 1), Told(3, 2)]).sorted(), interaction=None)
    write_log(tmp_path, [rows], schema(merge=None), np.array([0, 0, 0, 1, 2, 2]))
    log = EventLog.open(tmp_path)
    assert log.rows.interaction is None
    assert not log.rows.item.flags.owndata
    assert len(list(tmp_path.iterdir())) == 3


BY_HAND = [
    Told(2, 0, 1, played=0.5),
    Told(2, 1, 2, played=0.5),
    Told(2, 2, 1, like=1),  # after event 2: known too early to its history
    Told(2, 4, 3, played=0.25),
    Told(2, 5, 2, like=1),  # the validation part has begun, at 5
    Told(2, 6, 4, played=0.5),
    Told(2, 7, 4, like=1),
    Told(2, 9, 4, seconds=3),  # the test part has begun, at 8
    Told(3, 9, 5, played=1.0),
    Told(3, 9, 5, like=1),
]


def test_no_part_is_told_what_comes_after_it_by_hand(tmp_path: Path) -> None:
    written(tmp_path, BY_HAND, GlobalTime(validation=3, test=2))
    assert told_of(EventLog.open(tmp_path)) == [
        Told(2, 0, 1, played=0.5, like=1),
        Told(2, 1, 2, played=0.5),
        Told(2, 4, 3, played=0.25),
        Told(2, 6, 4, played=0.5, like=1),
        Told(3, 9, 5, played=1.0, like=1),
    ]
    logged, log = EventLog.open(tmp_path, "not"), EventLog.open(tmp_path, "fully")
    finding = audit_amendments(logged, log, np.load(tmp_path / "late.npy"))
    assert (finding.level, finding.count) == ("note", 5)
    assert "5 rows amend an event; 2 of them are left out" in finding.message
    assert "; 1 events were amended after the user's next event" in finding.message


def test_a_gap_ends_training(tmp_path: Path) -> None:
    """Validation begins at 5 all the same, and training ends at 2: the like of the first event is in the gap."""
    written(tmp_path, BY_HAND, GlobalTime(validation=3, test=2, gap=3))
    assert [event.like for event in told_of(EventLog.open(tmp_path))] == [None, None, None, 1.0, 1.0]


def test_a_users_held_out_events_are_the_borders_of_leave_last_out(tmp_path: Path) -> None:
    told = [
        Told(2, 0, 1, played=0.5),
        Told(2, 0, 1, like=1),
        Told(2, 0, 2, played=0.5),  # validates
        Told(2, 0, 1, played=1.0),
        Told(2, 0, 2, seconds=1),
        Told(2, 0, 3, played=0.5),  # is tested
        Told(2, 0, 2, like=1),
        Told(2, 0, 3, like=1),
        Told(3, 0, 1, played=0.5),  # a user with nothing held out knows all
        Told(3, 0, 2),
        Told(3, 0, 1, like=1),
    ]
    of = schema(has_times=False, request_safe=False)
    written(tmp_path, told, LeaveLastOut(), of)
    assert told_of(EventLog.open(tmp_path)) == [
        Told(2, 0, 1, played=0.5, like=1),
        Told(2, 0, 2, played=0.5, seconds=1),
        Told(2, 0, 3, played=0.5, like=1),
        Told(3, 0, 1, played=0.5, like=1),
        Told(3, 0, 2),
    ]


SPLIT = GlobalTime(validation=2, test=2)
ENDS = [Told(3, 0, 9), Told(3, 19)]
"""There is something to train, and the log ends at 20: training at 16."""


@settings(max_examples=50, deadline=None)
@given(ROWS, ROWS)
def test_whatever_comes_after_training_changes_no_training_event(
    tmp_path_factory: pytest.TempPathFactory, past: list[Told], future: list[Told]
) -> None:
    later = [row._replace(time=16 + row.time // 3) for row in future]
    seen = []
    for told in ([*ENDS, *past], [*ENDS, *past, *later]):
        folder = tmp_path_factory.mktemp("log")
        written(folder, told, SPLIT)
        log = EventLog.open(folder)
        assert told_of(log) == by_parts(told)
        part = np.concatenate(list(split_log(SPLIT, log, 4)))
        seen.append([event for event, of in zip(told_of(log), part, strict=True) if of == TRAIN])
    assert seen[0] == seen[1]


def by_parts(told: Sequence[Told]) -> list[Told]:
    """The reference's events, each with what was told before its part ended: training at 16, validation at 18."""
    train, validation = reference.events(told, RULES, border=16), reference.events(told, RULES, border=18)
    return [a if a.time < 16 else b for a, b in zip(train, validation, strict=True)]


@pytest.mark.parametrize(("request_safe", "count"), [(True, 1), (False, 0)])
def test_what_comes_at_the_instant_of_the_next_event_is_too_early_where_that_hides_an_instant(
    tmp_path: Path, request_safe: bool, count: int
) -> None:
    written(
        tmp_path,
        [Told(2, 0, 1), Told(2, 5, 1, like=1), Told(2, 5, 2), Told(2, 9)],
        of=schema(request_safe=request_safe),
    )
    logged, log = EventLog.open(tmp_path, "not"), EventLog.open(tmp_path, "fully")
    assert f" {count} events were amended after" in audit_amendments(logged, log, np.zeros(4, bool)).message


def test_siblings_are_no_history(tmp_path: Path) -> None:
    """The next event at the same instant does not see the amended one: nothing is known too early."""
    written(tmp_path, [Told(2, 0, 1), Told(2, 0, 2), Told(2, 0, 1, like=1), Told(2, 5)])
    logged, log = EventLog.open(tmp_path, "not"), EventLog.open(tmp_path, "fully")
    finding = audit_amendments(logged, log, np.zeros(4, bool))
    assert (finding.level, finding.count) == ("ok", 1)


def test_an_interaction_of_two_items_is_found(tmp_path: Path) -> None:
    written(tmp_path, [Told(2, 0, 1), Told(2, 1, 1), Told(2, 2, 2), Told(3, 3, 1)])
    logged = EventLog.open(tmp_path, "not")
    assert not len(other_items(logged))
    items = np.array([2, 3, 2, 3])
    assert other_items(EventLog(logged.schema, replace(logged.rows, item=items), logged.offsets)).tolist() == [1]
