"""Globo's clicks, written small as Parquet and as the published hourly CSV files."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from upnext.base.errors import BadData
from upnext.events.sources import GloboSource, RawLog, read, source_files

HEADER = (
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,"
    "click_deviceGroup,click_os,click_country,click_region,click_referrer_type\n"
)
FIRST = "7,1506825423271737,1506825423000,2,157541,1506826828020,4,3,20,1,20,2\n"
SECOND = "8,1506825426267738,1506825426000,2,68866,1506827017951,4,1,17,1,16,1\n"


def globo(folder: Path) -> RawLog:
    return read(GloboSource(kind="globo", path=str(folder)))


def test_hourly_files_as_published(tmp_path):
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "clicks_hour_001.csv").write_text(HEADER + SECOND)
    (tmp_path / "clicks" / "clicks_hour_000.csv").write_text(HEADER + FIRST)
    articles = "article_id,category_id,created_at_ts,publisher_id,words_count\n157541,281,1506800000000,0,280\n"
    (tmp_path / "articles_metadata.csv").write_text(articles)
    raw = globo(tmp_path)
    assert raw.events.rows() == [
        (7, 157541, 1506826828020, "4", "3", "20", "1", "20", "2"),
        (8, 68866, 1506827017951, "4", "1", "17", "1", "16", "1"),
    ]
    assert list(raw.contexts) == ["environment", "device", "os", "country", "region", "referrer"]
    assert raw.items is not None
    assert raw.items.rows() == [(157541, "281", "0", 1506800000000, 280)]
    assert "session_size" in raw.notes[0]
    files = source_files(GloboSource(kind="globo", path=str(tmp_path)))
    assert [file.name for file in files] == ["articles_metadata.csv", "clicks_hour_000.csv", "clicks_hour_001.csv"]


def test_parquet_comes_first(tmp_path):
    (tmp_path / "h.csv").write_text(HEADER + FIRST)
    pl.read_csv(tmp_path / "h.csv").write_parquet(tmp_path / "globo_clicks.parquet")
    raw = globo(tmp_path)
    assert raw.events.row(0) == (7, 157541, 1506826828020, "4", "3", "20", "1", "20", "2")
    assert raw.items is None
    assert "holds no articles_metadata.csv" in raw.notes[1]


def test_clicks_before_a_day_are_left_out(tmp_path):
    late = FIRST.replace("1506826828020", "1506902400000")  # 2 October, midnight UTC
    early = SECOND.replace("1506827017951", "1506902399999")
    (tmp_path / "clicks_hour_000.csv").write_text(HEADER + late + early)
    raw = read(GloboSource(kind="globo", path=str(tmp_path), since=date(2017, 10, 2)))
    assert raw.events["time_ms"].to_list() == [1506902400000]
    assert "clicks before 2017-10-02 are not read" in raw.notes


def test_errors(tmp_path):
    with pytest.raises(BadData, match=r"holds no \*clicks\*.parquet and no clicks/clicks_hour"):
        globo(tmp_path)
    (tmp_path / "clicks_hour_000.csv").write_text(HEADER + FIRST.replace("1506826828020", "1506826828"))
    with pytest.raises(BadData, match=r"looks like seconds"):
        globo(tmp_path)


@pytest.mark.data
def test_globo_news(data_folder):
    raw = globo(data_folder / "globo-news")
    assert raw.events.height == 2_988_181
    assert raw.events.select(pl.col("user_id").n_unique(), pl.col("item_id").n_unique()).row(0) == (322_897, 46_033)
    assert raw.events["time_ms"].min() == 1506826800026
    assert all(raw.events[f"context.{name}"].null_count() == 0 for name in raw.contexts)
