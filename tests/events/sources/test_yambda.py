"""Yambda's flat Parquet files, written small. The data set itself is not among our test data."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from upnext.base.errors import BadData
from upnext.events.sources import RawLog, YambdaSource, read

START_MS = 1704067200000  # 2024-01-01


def write(folder: Path, name: str, rows: list[tuple], extra: tuple[str, ...] = ()) -> None:
    names = ["uid", "item_id", "timestamp", "is_organic", *extra]
    kinds = {"is_organic": pl.UInt8, "played_ratio_pct": pl.UInt16}
    schema = {column: kinds.get(column, pl.UInt32) for column in names}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / f"{name}.parquet")


def listens(folder: Path, *rows: tuple) -> None:
    write(folder, "listens", list(rows), ("played_ratio_pct", "track_length_seconds"))


def yambda(folder: Path, **keys) -> RawLog:
    return read(YambdaSource(kind="yambda", path=str(folder), **keys))


def test_listens_and_reactions(tmp_path):
    listens(tmp_path, (100, 9, 0, 0, 50, 180), (100, 4, 185, 1, 159, 240), (200, 9, 5, 1, 0, 180))
    write(tmp_path, "likes", [(100, 4, 200, 1)])
    write(tmp_path, "unlikes", [(100, 4, 300, 1)])
    write(tmp_path, "dislikes", [(200, 9, 5, 0)])
    raw = yambda(tmp_path)
    assert raw.events.columns == [
        "user_id",
        "item_id",
        "time_ms",
        "context.is_organic",
        "feedback.played",
        "feedback.like",
        "feedback.dislike",
    ]
    assert raw.events.rows() == [
        (100, 9, START_MS, "0", 0.5, None, None),
        (100, 4, START_MS + 185_000, "1", 1.0, None, None),  # replayed parts: 159 %
        (200, 9, START_MS + 5000, "1", 0.0, None, None),
        (100, 4, START_MS + 200_000, "1", None, 1.0, None),
        (100, 4, START_MS + 300_000, "1", None, 0.0, None),  # taken back
        (200, 9, START_MS + 5000, "0", None, None, 1.0),
    ]
    assert raw.items is not None
    assert raw.items.rows() == [(9, 180), (4, 240)]
    assert raw.views == {"listened": "played >= 0.5", "liked": "like == 1", "disliked": "dislike == 1"}
    assert [note for note in raw.notes if "undislikes" in note]


def test_listens_alone(tmp_path):
    listens(tmp_path, (1, 9, 26_000_000, 0, 100, 180))
    raw = yambda(tmp_path, explicit=False, start=date(2020, 2, 1))
    assert raw.events.rows() == [(1, 9, 1580515200000 + 26_000_000_000, "0", 1.0)]
    assert raw.feedback == {"played": "fraction"}


def test_ticks_of_five_seconds(tmp_path):
    listens(tmp_path, (1, 9, 3, 0, 100, 180))
    assert yambda(tmp_path).events["time_ms"].item() == START_MS + 3000
    assert any("no multiples of 5" in note for note in yambda(tmp_path).notes)
    assert yambda(tmp_path, seconds_per_tick=5).events["time_ms"].item() == START_MS + 15_000


def test_errors(tmp_path):
    with pytest.raises(BadData, match=r"holds no listens.parquet; download"):
        yambda(tmp_path)
    listens(tmp_path, (1, 9, 0, 3, 100, 180))
    with pytest.raises(BadData, match=r"listens.parquet row 1: column 'is_organic' is 3; allowed: 0 or 1"):
        yambda(tmp_path)
    write(tmp_path, "listens", [(1, 9, 0, 1)])
    with pytest.raises(BadData, match=r"has no column 'played_ratio_pct'"):
        yambda(tmp_path)
