"""A source read, numbered and sorted in parts gives, byte for byte, the log that it gives at once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.events.sources.tables import Holder
from tests.reference import preparing as reference
from tests.reference.preparing import Read
from upnext.base.configuration import parse_config
from upnext.base.errors import BadData
from upnext.base.ids import FIRST, item_hash
from upnext.base.schema import Schema
from upnext.events.encoding import Encoded, encode
from upnext.events.log import EventLog, user_blocks, write_log
from upnext.events.numbering import Numbering
from upnext.events.sources import read

SECOND = 1_700_000_000
SCHEMA = Schema(
    has_times=True,
    has_requests=True,
    request_safe=True,
    contexts={"device": "categorical"},
    feedback={"played": "fraction"},
)
INTEGERS = st.integers(1, 6)
IDS = st.one_of(st.just(INTEGERS), st.just(INTEGERS | st.sampled_from(["a", "007", "b c"])))
LOGS = IDS.flatmap(
    lambda ids: st.lists(
        st.builds(
            Read,
            user=ids,
            item=ids,
            time=st.integers(SECOND, SECOND + 4),
            request=st.sampled_from([None, "7", "x", "7.5"]),
            device=st.sampled_from([None, "tv", "car", "9"]),
            played=st.sampled_from([None, 0.0, 0.25, 1.0]),
        ),
        min_size=1,
        max_size=30,
    )
)
"""Few users, items and moments, so that ties and repeats abound; ids are integers, or text for good."""


def as_read(rows: Sequence[Read]) -> list[Read]:
    """What the reader of a table makes of such rows: one type of ids, milliseconds."""

    def alike(ids: list[reference.Id]) -> list[reference.Id]:
        return ids if all(isinstance(value, int) for value in ids) else [str(value) for value in ids]

    users, items = alike([row.user for row in rows]), alike([row.item for row in rows])
    return [
        row._replace(user=user, item=item, time=row.time * 1000)
        for row, user, item in zip(rows, users, items, strict=True)
    ]


def write_files(folder: Path, rows: Sequence[Read], ends: Sequence[int]) -> None:
    """Write the rows as files of a form that keeps what they say, cut where `ends` says."""
    folder.mkdir(exist_ok=True)
    for number, (start, end) in enumerate(zip([0, *ends], [*ends, len(rows)], strict=True)):
        lines = [",".join("" if value is None else str(value) for value in row) for row in rows[start:end]]
        (folder / f"{number:02}.csv").write_text("\n".join([",".join(Read._fields), *lines, "", ""]))


def encoded(folder: Path, files: str, most: int | None) -> Encoded:
    source = {
        "kind": "table",
        "path": str(folder / files),
        "user": "user",
        "item": "item",
        "time": "time",
        "time_unit": "s",
        "request": "request",
        "contexts": ["device"],
        "feedback": {"played": "fraction"},
    }
    raw = read(parse_config(Holder, {"source": source}, "test").source, rows=most)
    return encode(raw, folder / "rows", {}, first=0)


@settings(max_examples=150, deadline=None)
@given(LOGS, st.lists(st.integers(0, 30), max_size=3), st.integers(1, 12), st.integers(1, 12))
@example([Read(7, "a", SECOND, None, None, None), Read("x", 1, SECOND, "7", "tv", 1.0)], [1], 1, 1)
def test_parts_give_the_bytes_of_the_whole(tmp_path_factory, rows, ends, most, most_sorted) -> None:
    folder = tmp_path_factory.mktemp("log")
    write_files(folder, rows, sorted(min(end, len(rows)) for end in ends))
    expected = reference.log_rows(as_read(rows))
    reference.write(folder / "expected.arrow", expected)

    found = encoded(folder, "*.csv", most)
    hashes = np.append([0, 0], item_hash(found.new["item_id"]))
    write_log(folder / "log", found.sorted_blocks(hashes, most_sorted), SCHEMA, found.offsets)
    assert (folder / "log" / "segment-000000.arrow").read_bytes() == (folder / "expected.arrow").read_bytes()
    users = np.arange(len(found.new["user_id"]) + FIRST + 1)
    assert EventLog.open(folder / "log").offsets.tolist() == np.searchsorted(expected.user, users).tolist()
    read_rows = as_read(rows)
    times = [row.time for row in read_rows]
    assert found.new["user_id"].to_list() == reference.by_first_event([row.user for row in read_rows], times)
    assert found.new["item_id"].to_list() == reference.by_first_event([row.item for row in read_rows], times)
    assert found.new["context.device"].to_list() == sorted({row.device for row in read_rows if row.device is not None})


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_other_formats_are_read_in_parts_too(tmp_path: Path, form: str) -> None:
    rows = [Read(n % 7, f"i{n % 5}", SECOND + n % 3, "r", None if n % 4 else "tv", n / 100) for n in range(100)]
    for number in range(3):
        frame = pl.DataFrame(
            rows[number * 33 : 33 * number + 33 + (number == 2)], schema=list(Read._fields), orient="row"
        )
        path = tmp_path / f"{number}.{form}"
        frame.write_parquet(path, row_group_size=10) if form == "parquet" else frame.write_ndjson(path)
    whole, parts = encoded(tmp_path, f"*.{form}", None), encoded(tmp_path, f"*.{form}", 7)
    assert whole.new["user_id"].to_list() == parts.new["user_id"].to_list() == [0, 3, 6, 2, 5, 1, 4]
    reference.write(tmp_path / "expected.arrow", reference.log_rows(as_read(rows)))
    hashes = np.append([0, 0], item_hash(parts.new["item_id"]))
    write_log(tmp_path / "log", parts.sorted_blocks(hashes, 9), SCHEMA, parts.offsets)
    assert (tmp_path / "log" / "segment-000000.arrow").read_bytes() == (tmp_path / "expected.arrow").read_bytes()


def test_an_error_of_a_later_part_names_its_file_and_row(tmp_path: Path) -> None:
    rows = [Read(1, 1, SECOND, None, None, 0.5)] * 10
    write_files(tmp_path, [*rows, Read(1, 1, SECOND, None, None, 2.0), Read(1, 1, SECOND, None, None, 3.0)], [4])
    with pytest.raises(
        BadData, match=r"01\.csv row 7 \(line 8\): column 'played' is '2\.0' \(at least 2 rows like it\)"
    ):
        encoded(tmp_path, "*.csv", 3)
    with pytest.raises(BadData, match=r"01\.csv row 7 \(line 8\): column 'played' is '2\.0' \(2 rows like it\)"):
        encoded(tmp_path, "*.csv", None)


def test_a_later_file_in_another_unit_is_told_apart_from_a_wrong_unit(tmp_path: Path) -> None:
    write_files(tmp_path, [Read(1, 1, SECOND, None, None, None), Read(1, 1, SECOND * 1000, None, None, None)], [1])
    with pytest.raises(BadData, match=r"looks like milliseconds, but time 1700000000 of .*00\.csv row 1 .*in one unit"):
        encoded(tmp_path, "*.csv", 1)


def test_blank_lines_are_rows_only_where_another_row_follows(tmp_path: Path) -> None:
    line = f"1,1,{SECOND},,,\n"
    (tmp_path / "end.csv").write_text(",".join(Read._fields) + "\n" + line * 3 + "\n" * 5)
    assert encoded(tmp_path, "end.csv", 2).offsets.tolist() == [0, 0, 0, 3]
    (tmp_path / "middle.csv").write_text(",".join(Read._fields) + "\n" + line * 3 + "\n" * 5 + line)
    with pytest.raises(BadData, match=r"middle\.csv row 4 \(line 5\): column 'user' is missing"):
        encoded(tmp_path, "middle.csv", 2)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 8))
def test_blocks_of_users_hold_no_more_than_they_may(counts: list[int], most: int) -> None:
    offsets = np.append(0, np.cumsum(counts)).astype(np.int64)
    borders = user_blocks(offsets, most)
    assert borders[0] == 0
    assert borders[-1] == len(counts)
    assert (np.diff(borders) > 0).all()
    assert all(
        size <= most or last - first == 1
        for first, last, size in zip(borders, borders[1:], np.diff(offsets[borders]), strict=False)
    )


def test_an_id_keeps_its_earliest_moment_whatever_part_it_comes_in() -> None:
    numbering = Numbering()
    for ids, moments, before in (([5, 6], [30, 20], 0), ([6, 7], [20, 20], 2), ([5, 9], [10, 10], 4)):
        moment = np.array(moments)
        numbering.add(pl.Series(ids), moment, np.argsort(moment, kind="stable"), before)
    found, dense = numbering.by_first(pl.Series([8, 5]))
    assert found.to_list() == [5, 9, 6, 7, 8]  # 6 before 7: its row at that moment is the earlier one
    assert dense.tolist() == [2, 4, 5, 3, 0]
    assert numbering.counts.tolist() == [2, 2, 1, 1]


def test_known_ids_keep_their_places_and_a_gap_stays_empty() -> None:
    numbering = Numbering(pl.Series(["b", None, "a"]))
    for ids, moments in ((["x", "a", "y"], [9, 1, 2]), (["b", "z", "x"], [3, 3, 3])):
        moment = np.array(moments)
        numbering.add(pl.Series(ids), moment, np.argsort(moment, kind="stable"), num_before=0)
    found, dense = numbering.by_first(pl.Series(["q", "a", "y"]))
    assert found.to_list() == ["y", "z", "x", "q"]  # after "b", the gap and "a": dense ids 2, 3, 4
    assert dense.tolist() == [2, 3, 4, 7, 5, 6, 0]  # "x" was met first, and has its number from later
    assert numbering.counts.tolist() == [1, 0, 1, 2, 1, 1]
