"""New files: the log that is there goes on, and equals a log of all files but for the numbers."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.preparation.logs import DAY, Row, config_of, meaning, numbers, prepared, segments, write_events
from upnext.base.artifacts import Workspace
from upnext.base.errors import BadData
from upnext.events.log import EventLog
from upnext.features.vocabulary import Vocabulary

OLD: list[Row] = [
    ("ann", "b", 0, "r1", 0, "home", 30.5, 0.9, 1),
    ("ann", "a", 0, "r1", 1, "home", 30.5, 0.1, None),
    ("bob", "a", 1 * DAY, None, None, "search", None, None, 0),
    ("ann", "c", 2 * DAY, "r2", 0, "home", None, 0.7, None),
    ("bob", "b", 3 * DAY, None, None, None, 40, 0.2, None),
]
NEW: list[Row] = [
    ("ann", "d", 2 * DAY, "r2", 1, "tv", None, 0.6, None),  # the request goes on, with a new item and a new value
    ("bob", "c", 1 * DAY, None, None, "home", None, 1.0, 1),  # a tie with an old row
    ("ann", "a", 1 * DAY, None, None, "kiosk", None, None, None),  # earlier than the old log's last row
    ("new", "e", 4 * DAY, "r3", 0, "home", 1, 0.5, 0),
    ("new", "b", 5 * DAY, "r3", 1, "home", 1, 0.5, 0),
    ("bob", "a", 3 * DAY, None, None, "home", None, 0.8, None),
]
ITEMS = "item,title\na,Alpha\nb,Beta\nquiet,Never seen\n"


def whole(folder: Path, **changes: object) -> dict:
    """What a log of all files says, prepared where nothing was before."""
    return meaning(prepared(config_of(folder, **changes), folder / "fresh"))


def test_an_appended_file_gives_the_log_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    write_events(tmp_path, "1.csv", OLD)
    first = prepared(config_of(tmp_path), tmp_path / "work")
    before = {name: numbers(first, name) for name in ("users", "items", "context.surface")}
    write_events(tmp_path, "2.csv", NEW)
    (tmp_path / "items.csv").write_text(ITEMS.replace("Alpha", "Alpha renamed") + "c,Gamma\nlate,Never seen either\n")
    second = prepared(config_of(tmp_path), tmp_path / "work")
    assert segments(second) == ["segment-000000.arrow", "segment-000001.arrow"]
    assert meaning(second) == whole(tmp_path)
    for name, known in before.items():
        after = numbers(second, name)
        assert {external: after[external] for external in known} == known, name
        old, new = (Vocabulary.load(log.folder / f"{name}.vocabulary.arrow") for log in (first, second))
        assert new.lineage == (old.digest,)
        assert len(after) > len(known)
    assert second.manifest["parents"] == [first.name]
    third = prepared(config_of(tmp_path), tmp_path / "work")
    assert third.name == second.name


def test_only_new_files_are_read_and_old_segments_are_linked(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD)
    first = prepared(config_of(tmp_path), tmp_path / "work")
    old = tmp_path / "events" / "1.csv"
    state = old.stat()
    old.write_text("x" * state.st_size)  # would be refused if anybody read it
    os.utime(old, ns=(state.st_atime_ns, state.st_mtime_ns))
    write_events(tmp_path, "2.csv", NEW)
    second = prepared(config_of(tmp_path), tmp_path / "work")
    assert len(EventLog.open(second.folder / "log")) == len(OLD) + len(NEW)
    paths = [log.folder / "log" / "segment-000000.arrow" for log in (first, second)]
    assert paths[0].samefile(paths[1])


def test_days_follow_one_another(tmp_path: Path) -> None:
    rows = (OLD + NEW) * 3
    for day in range(4):
        write_events(tmp_path, f"{day}.csv", rows[9 * day % 33 :][:9])
        log = prepared(config_of(tmp_path, split={"kind": "leave_last_out"}), tmp_path / "work")
    assert len(segments(log)) == 4
    assert meaning(log) == whole(tmp_path, split={"kind": "leave_last_out"})


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cy"]),
        st.sampled_from("abcd"),
        st.integers(0, 4).map(lambda day: day * DAY),
        st.sampled_from([None, "r1", "r2", "r3"]),
        st.sampled_from([None, 0, 1]),
        st.sampled_from([None, "home", "tv"]),
        st.sampled_from([None, 1.5]),
        st.sampled_from([None, 0.2, 0.5]),
        st.sampled_from([None, 0, 1]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(ROWS, min_size=1, max_size=2))
def test_any_rows_in_any_files(tmp_path_factory: pytest.TempPathFactory, old: list[Row], new: list[list[Row]]) -> None:
    folder = tmp_path_factory.mktemp("append")
    write_events(folder, "0.csv", [*OLD, ("bob", "a", 20 * DAY), *old])
    prepared(config_of(folder), folder / "work")
    for number, rows in enumerate(new, 1):
        write_events(folder, f"{number}.csv", rows)
        log = prepared(config_of(folder), folder / "work")
    assert len(segments(log)) == 1 + len(new)
    assert meaning(log) == whole(folder)
    shutil.rmtree(folder)


def test_a_list_of_files_may_grow(tmp_path: Path) -> None:
    write_events(tmp_path, "z.csv", OLD)
    write_events(tmp_path, "a.csv", NEW)
    paths = [f"{tmp_path}/events/{name}.csv" for name in "za"]
    prepared(config_of(tmp_path, paths[0]), tmp_path / "work")
    log = prepared(config_of(tmp_path, paths), tmp_path / "work")
    assert len(segments(log)) == 2
    assert meaning(log) == whole(tmp_path, path=paths)


def test_an_item_table_that_grew_alone_makes_no_segment(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    write_events(tmp_path, "1.csv", OLD)
    first = prepared(config_of(tmp_path), tmp_path / "work")
    (tmp_path / "items.csv").write_text(ITEMS + "more,More\n")
    second = prepared(config_of(tmp_path), tmp_path / "work")
    assert second.manifest["parents"] == [first.name]
    assert segments(second) == segments(first)
    assert meaning(second) == whole(tmp_path)


def changed_file(folder: Path) -> None:
    write_events(folder, "1.csv", [*OLD, ("ann", "a", 7)])


def file_between(folder: Path) -> None:
    write_events(folder, "0.csv", NEW)


def other_ids(folder: Path) -> None:
    """Integers so far, and text in the new file: all become text."""
    write_events(folder, "2.csv", [("07", "a", 7)])


def lost_item(folder: Path) -> None:
    (folder / "items.csv").write_text(ITEMS.replace("quiet,Never seen\n", ""))


def empty_day(folder: Path) -> None:
    write_events(folder, "2.csv", [])


@pytest.mark.parametrize("change", [changed_file, file_between, other_ids, lost_item, empty_day])
def test_what_cannot_be_followed_is_prepared_whole(tmp_path: Path, change) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    rows = [({"ann": 1, "bob": 2}[row[0]], *row[1:]) for row in OLD] if change is other_ids else OLD
    write_events(tmp_path, "1.csv", rows)
    prepared(config_of(tmp_path), tmp_path / "work")
    change(tmp_path)
    log = prepared(config_of(tmp_path), tmp_path / "work")
    assert log.manifest["parents"] == []
    assert meaning(log) == whole(tmp_path)


def test_another_configuration_is_prepared_whole_and_the_way_back_finds_the_log_with_its_day(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD)
    prepared(config_of(tmp_path), tmp_path / "work")
    write_events(tmp_path, "2.csv", NEW)
    grown = prepared(config_of(tmp_path), tmp_path / "work")
    other = prepared(config_of(tmp_path, views={}), tmp_path / "work")
    assert other.manifest["parents"] == []
    assert meaning(other) == whole(tmp_path, views={})
    assert prepared(config_of(tmp_path), tmp_path / "work").name == grown.name
    assert Workspace(tmp_path / "work").current("log", "log").name == grown.name


def test_a_damaged_log_is_not_followed(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD)
    first = prepared(config_of(tmp_path), tmp_path / "work")
    np.save(first.folder / "split.npy", np.zeros(3, np.int8))
    write_events(tmp_path, "2.csv", NEW)
    log = prepared(config_of(tmp_path), tmp_path / "work")
    assert log.manifest["parents"] == []
    assert meaning(log) == whole(tmp_path)


def test_a_bad_row_of_a_new_file_is_named(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", OLD)
    first = prepared(config_of(tmp_path), tmp_path / "work")
    write_events(tmp_path, "2.csv", [*NEW, ("ann", "a", 7, None, None, None, None, 1.5)])
    with pytest.raises(BadData, match=r"2\.csv row 7 .*'played'.*1\.5"):
        prepared(config_of(tmp_path), tmp_path / "work")
    assert Workspace(tmp_path / "work").current("log", "log").name == first.name
