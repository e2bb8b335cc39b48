"""S3Rec's Amazon files, written small in their published form."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from upnext.base.errors import BadData
from upnext.events.sources import AmazonSource, RawLog, read


def amazon(folder: Path, **keys) -> RawLog:
    return read(AmazonSource.model_validate({"kind": "amazon", "path": str(folder), "category": "Beauty"} | keys))


def test_sequences_and_attributes(tmp_path):
    (tmp_path / "Beauty.txt.gz").write_bytes(gzip.compress(b"2 9 4 9\n1 7\n"))
    (tmp_path / "Beauty_item2attributes.json").write_text('{"9": [3, 1], "4": []}')
    raw = amazon(tmp_path)
    assert raw.events.rows() == [(2, 9), (2, 4), (2, 9), (1, 7)]
    assert not raw.has_times
    assert raw.items is not None
    assert raw.items.rows() == [(9, ["3", "1"]), (4, [])]
    assert raw.notes == []


def test_times_are_preferred_and_can_be_left_out(tmp_path):
    (tmp_path / "Beauty.txt").write_text("1 7\n")
    (tmp_path / "Beauty_with_timestamps.csv.gz").write_bytes(
        gzip.compress(b"user_id,item_id,timestamp\n1,7,1318896000\n")
    )
    assert amazon(tmp_path).events.rows() == [(1, 7, 1318896000000)]
    assert "whole days" in amazon(tmp_path).notes[0]
    assert amazon(tmp_path, times=False).events.rows() == [(1, 7)]


@pytest.mark.parametrize("line", ["1", "", "1 x", "1,7", "2 8"])
def test_lines_that_are_not_as_published(tmp_path, line):
    (tmp_path / "Beauty.txt").write_text(f"2 7 8\n{line}\n3 1\n")
    with pytest.raises(BadData, match=r"Beauty.txt row 2: column '(line|user)' is"):
        amazon(tmp_path)


@pytest.mark.parametrize("text", ["[]", '{"a": [1]}', '{"1": 7}', "{", '{"1": ["x"]}'])
def test_attributes_that_are_not_as_published(tmp_path, text):
    (tmp_path / "Beauty.txt").write_text("2 7 8\n")
    (tmp_path / "Beauty_item2attributes.json").write_text(text)
    with pytest.raises(BadData, match=r"item2attributes.json is not as published"):
        amazon(tmp_path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(BadData, match=r"holds no Beauty.txt \(plain or .gz\); download"):
        amazon(tmp_path)
    with pytest.raises(BadData, match=r"holds no Beauty_with_timestamps.csv"):
        amazon(tmp_path, times=True)


@pytest.mark.data
@pytest.mark.parametrize(
    ("category", "sizes"),
    [("Beauty", (198_502, 22_363, 12_101)), ("Sports_and_Outdoors", (296_337, 35_598, 18_357))],
)
def test_both_forms_hold_the_same_reviews(data_folder, category, sizes):
    timed = amazon(data_folder / "amazon", category=category)
    ordered = amazon(data_folder / "amazon", category=category, times=False)
    assert timed.events.height == ordered.events.height == sizes[0]
    assert timed.events.select(pl.col("user_id", "item_id").n_unique()).row(0) == sizes[1:]
    assert timed.events.select("user_id", "item_id").equals(ordered.events)
    assert timed.items is not None
    assert set(timed.items["item_id"]) == set(timed.events["item_id"])
