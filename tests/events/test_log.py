"""The log: sorted stably, siblings grouped, memory-mapped, whole or refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import BIG, EVENTS, NUM_ITEMS, NUM_USERS, SCHEMAS, Event, log_of, offsets_of, rows_of, schema
from tests.reference import siblings
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadArtifact, BadData
from upnext.base.ids import item_hash
from upnext.base.schema import LAST_ITEM, Schema
from upnext.events.log import EventLog, LogRows, sibling_groups, write_log

property_test = settings(max_examples=100, deadline=None)
CORE = ("user", "item", "item_hash", "time_ms", "order", "request", "position")
SOME = [
    Event(4, 5, 30, 0, 0.7),
    Event(2, 3, 20, -1, None),
    Event(4, 2, 10, 0, 0.0),
    Event(2, 8, 20, 1, 1.0),
    Event(2, 3, 10, -1, 0.2),
    Event(4, 6, 20, -1, 0.5),
]


def written(folder: Path, events: list[Event], of: Schema | None = None) -> Path:
    rows = rows_of(events).sorted()
    write_log(folder, [rows], of or schema(), offsets_of(rows))
    return folder


def assert_same_rows(a: LogRows, b: LogRows) -> None:
    for name in CORE:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    assert a.columns.keys() == b.columns.keys()
    for name, column in a.columns.items():
        np.testing.assert_array_equal(column.values, b.columns[name].values, name)
        np.testing.assert_array_equal(column.observed, b.columns[name].observed, name)


@property_test
@given(EVENTS, SCHEMAS)
def test_sibling_groups_equal_the_slow_reference(events: list[Event], of: Schema) -> None:
    rows = rows_of(events).sorted()
    expected = siblings.groups(
        rows.user.tolist(),
        rows.time_ms.tolist(),
        rows.request.tolist(),
        has_times=of.has_times,
        request_safe=of.request_safe,
    )
    assert sibling_groups(rows, of).tolist() == expected
    assert sibling_groups(rows, of).dtype == np.int64


def test_sibling_groups_by_hand() -> None:
    events = [
        Event(2, 3, 10),
        Event(2, 4, 20, request=1),
        Event(2, 5, 30),  # inside request 1
        Event(2, 6, 40, request=1),
        Event(2, 7, 40),  # at the time of its last event
        Event(2, 8, 50),
        Event(3, 3, 50),  # another user, at the same time
        Event(3, 4, 60, request=1),  # another user's request of the same number
    ]
    rows = rows_of(events)
    assert sibling_groups(rows, schema()).tolist() == [0, 1, 1, 1, 1, 2, 3, 4]
    assert sibling_groups(rows, schema(has_times=False)).tolist() == [0, 1, 1, 1, 2, 3, 4, 5]
    assert sibling_groups(rows, schema(request_safe=False)).tolist() == list(range(8))


@property_test
@given(EVENTS)
def test_rows_are_sorted_and_equal_times_keep_the_order_of_their_source(events: list[Event]) -> None:
    rows = rows_of(events).sorted()
    expected = sorted(range(len(events)), key=lambda n: (events[n].user, events[n].time))  # Python's sort is stable
    assert rows.order.tolist() == expected
    assert rows.item.tolist() == [events[n].item for n in expected]
    assert_same_rows(rows, rows_of(events).take(np.array(expected, np.int64)))


@pytest.mark.parametrize("events", [SOME, SOME[:1], []])
def test_a_written_log_holds_every_column(tmp_path: Path, events: list[Event]) -> None:
    log = EventLog.open(written(tmp_path / "log", events))
    assert_same_rows(log.rows, rows_of(events).sorted())
    assert log.schema == schema()
    assert log.offsets.tolist() == [sum(e.user < user for e in events) for user in range(NUM_USERS + 1)]
    assert len(log) == len(events)
    for name in CORE:
        assert getattr(log.rows, name).dtype == np.int64
    assert log.rows.columns["feedback.played"].values.dtype == np.float32
    assert log.rows.columns["feedback.played"].observed.dtype == np.bool_


def test_a_hash_above_2_to_the_53_survives(tmp_path: Path) -> None:
    log = EventLog.open(written(tmp_path / "log", SOME))
    hashes = item_hash(range(BIG, BIG + NUM_ITEMS)).tolist()
    assert max(abs(value) for value in hashes) > 2**53
    assert log.events.item_hash.tolist() == [hashes[item] for item in log.events.item]


def test_users_without_events_have_empty_ranges(tmp_path: Path) -> None:
    log = EventLog.open(written(tmp_path / "log", SOME))
    batch = log.events.batch(log.offsets[:-1], log.offsets[1:])
    assert batch.lengths.tolist() == [0, 0, 3, 0, 3, 0]
    assert batch.item.tolist() == [[0, 0, 0], [0, 0, 0], [3, 3, 8], [0, 0, 0], [2, 6, 5], [0, 0, 0]]


def test_one_segment_is_mapped_not_read(tmp_path: Path) -> None:
    """What is written into the file shows in the arrays: they are the file."""
    folder = written(tmp_path / "log", [Event(2 + n % 3, 2 + n % 5, n, n, n % 7 / 7) for n in range(300)])
    log = EventLog.open(folder)
    parts = {name: getattr(log.rows, name) for name in CORE}
    for name, column in log.rows.columns.items():
        parts |= {name: column.values, name + "?": column.observed}
    path = folder / "segment-000000.arrow"
    for name, part in parts.items():
        assert not part.flags.owndata, name
        assert not part.flags.writeable, name
        with path.open("r+b") as file:
            file.seek(path.read_bytes().index(part.tobytes()))
            file.write(bytes(part.nbytes))
        assert not part.any(), name


def test_reading_a_log_copies_no_column(tmp_path: Path) -> None:
    log = EventLog.open(written(tmp_path / "log", SOME))
    rows, events = log.in_view("all")
    assert rows.tolist() == list(range(len(SOME)))
    for name in ("item", "item_hash", "time_ms", "order"):
        assert np.shares_memory(getattr(events, name), getattr(log.rows, name)), name
    for name, column in log.rows.columns.items():
        assert np.shares_memory(events.columns[name].values, column.values), name
        assert np.shares_memory(events.columns[name].observed, column.observed), name


@settings(max_examples=25, deadline=None)
@given(EVENTS, st.data())
def test_segments_merge_to_the_same_log_as_one(tmp_path_factory, events: list[Event], data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("log")
    whole = EventLog.open(written(folder / "whole", events))
    number = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(events), max_size=len(events))), np.int64)
    names = []
    for segment in range(3):
        rows = rows_of(events).take(np.flatnonzero(number == segment)).sorted()
        write_log(folder / "one", [rows], schema(), offsets_of(rows))
        names.append(f"segment-{segment:06}.arrow")
        (folder / "several").mkdir(exist_ok=True)
        for end in (".arrow", ".offsets.npy"):
            (folder / "one" / f"segment-000000{end}").rename(folder / "several" / f"segment-{segment:06}{end}")
    listing = {"schema": schema().model_dump(), "num_users": NUM_USERS, "segments": names}
    (folder / "several" / "segments.json").write_text(json.dumps(listing))
    merged = EventLog.open(folder / "several")
    assert_same_rows(merged.rows, whole.rows)
    assert merged.offsets.tolist() == whole.offsets.tolist()
    assert merged.events.request.tolist() == whole.events.request.tolist()
    assert merged.views["watched"].tolist() == whole.views["watched"].tolist()


def test_views_take_only_what_was_observed() -> None:
    log = log_of([Event(2, item, item, played=played) for item, played in enumerate([None, 0.0, 0.4, 0.5, None, 1.0])])
    assert log.views.keys() == {"all", "watched", "skipped"}
    assert log.views["all"].tolist() == [True] * 6
    assert log.views["watched"].tolist() == [False, False, False, True, False, True]
    assert log.views["skipped"].tolist() == [False, True, True, False, False, False]
    rows, events = log.in_view("skipped")
    assert rows.tolist() == [1, 2]
    assert events.item.tolist() == [1, 2]
    assert events.request.tolist() == log.events.request[[1, 2]].tolist()
    assert events.columns["feedback.played"].values.tolist() == [0.0, np.float32(0.4)]


def test_an_unknown_view_is_told_with_those_that_exist() -> None:
    with pytest.raises(BadData, match=r"no view 'liked'; it has \['all', 'skipped', 'watched'\]"):
        log_of([]).in_view("liked")


@property_test
@given(EVENTS, SCHEMAS)
def test_a_request_starts_at_the_first_row_of_its_group(events: list[Event], of: Schema) -> None:
    log = log_of(events, of)
    group = log.events.request.tolist()
    assert log.request_start.tolist() == [group.index(number) for number in group]


@property_test
@given(EVENTS)
def test_what_a_batch_may_look_at_is_what_lies_before_the_request(events: list[Event]) -> None:
    """The batch's `num_visible` and the log's `request_start` are one promise."""
    log = log_of(events)
    batch = log.events.batch(log.offsets[:-1], log.offsets[1:])
    for user in range(NUM_USERS):
        start, end = log.offsets[user : user + 2]
        expected = log.request_start[start:end] - start
        assert batch.num_visible[user, : end - start].tolist() == expected.tolist()


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


def listing(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "segments.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def another_column(folder: Path) -> None:
    """A second segment whose feedback has another name."""
    rows = rows_of(SOME).sorted()
    other = LogRows(**(vars(rows) | {"columns": {"feedback.liked": rows.columns["feedback.played"]}}))
    write_log(folder / "other", [other], schema(), offsets_of(other))
    listing(segments=["segment-000000.arrow", "other/segment-000000.arrow"])(folder)


@pytest.mark.parametrize(
    "damage",
    [
        cut("segment-000000.arrow", 0),
        cut("segment-000000.arrow", 0.5),
        cut("segment-000000.arrow", 0.99),
        cut("segment-000000.offsets.npy", 0),
        cut("segment-000000.offsets.npy", 0.9),
        cut("segments.json", 0),
        cut("segments.json", 0.5),
        lambda folder: (folder / "segment-000000.arrow").unlink(),
        lambda folder: (folder / "segment-000000.offsets.npy").unlink(),
        lambda folder: (folder / "segments.json").unlink(),
        lambda folder: (folder / "segments.json").write_text("[]"),
        lambda folder: (folder / "segment-000000.arrow").write_bytes(b"ARROW1, but not really"),
        listing(segments=["segment-000000.arrow", "segment-000001.arrow"]),
        listing(segments=[]),
        listing(schema={"has_times": True}),
        listing(schema=schema().model_dump() | {"new": 1}),
        another_column,
    ],
)
def test_a_damaged_log_is_told(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    folder = written(tmp_path / "log", SOME)
    damage(folder)
    with pytest.raises(BadArtifact, match=r"holds no whole event log .*run prepare again"):
        EventLog.open(folder)


def test_a_segment_without_a_core_column_is_told(tmp_path: Path) -> None:
    folder = written(tmp_path / "log", SOME)
    path = folder / "segment-000000.arrow"
    table = pa.ipc.open_file(path.read_bytes()).read_all().drop_columns(["item_hash"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(BadArtifact, match="item_hash"):
        EventLog.open(folder)


def test_last_items_are_those_before_the_request() -> None:
    generator = np.random.default_rng(0)
    count = 60
    rows = LogRows(
        user=generator.integers(2, 6, count),
        item=generator.integers(2, 9, count),
        item_hash=np.zeros(count, np.int64),
        time_ms=generator.integers(0, 20, count),
        order=np.arange(count),
        request=np.where(generator.random(count) < 0.4, generator.integers(0, 12, count), -1),
        position=np.full(count, -1),
        columns={"feedback.played": FlatColumn(generator.random(count).astype(np.float32), np.ones(count, bool))},
    ).sorted()
    schema = Schema(
        has_times=True,
        has_requests=True,
        request_safe=True,
        feedback={"played": "fraction"},
        views={"watched": "played >= 0.5"},
    )
    log = EventLog(schema, rows, np.searchsorted(rows.user, np.arange(7)))
    for view in ("all", "watched"):
        chosen, events = log.with_last_items(view)
        column = events.columns[LAST_ITEM]
        for place, row in enumerate(chosen):
            earlier = [r for r in chosen if rows.user[r] == rows.user[row] and r < log.request_start[row]]
            assert column.observed[place] == bool(earlier)
            assert column.values[place] == (rows.item[earlier[-1]] if earlier else 0)
        assert 0 < column.observed.sum() < len(chosen)
