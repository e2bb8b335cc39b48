"""The published files themselves: row counts and a few facts that their documentation states."""

import polars as pl
import pytest

from upnext.events.sources import MovieLensSource, MovieTweetingsSource, SASRecSource, TableSource, read

pytestmark = pytest.mark.data


def test_movielens_100k(data_folder):
    raw = read(MovieLensSource(kind="movielens", path=str(data_folder / "ml-100k")))
    assert raw.events.height == 100_000
    assert raw.events.select(pl.col("user_id").n_unique(), pl.col("item_id").n_unique()).row(0) == (943, 1682)
    assert raw.events.row(0) == (196, 242, 3.0, 881250949000)
    assert raw.items is not None
    assert raw.items.height == 1682
    assert raw.items.row(0) == (1, "Toy Story (1995)", ["Animation", "Children's", "Comedy"], "Animation", 1995)
    assert raw.items["release_year"].null_count() == 1  # the item called "unknown"
    assert raw.items.filter(pl.col("title").str.contains("é")).height > 0
    assert raw.users is not None
    assert raw.users.height == 943


def test_movielens_1m_ordered(data_folder):
    raw = read(MovieLensSource(kind="movielens", path=str(data_folder / "ml-1m")))
    assert raw.events.height == 1_000_209 - 598
    assert raw.events["user_id"].n_unique() == 6040
    assert not raw.has_times
    assert "598" in raw.notes[0]
    assert raw.items is not None
    assert raw.items.height == 3883
    assert raw.items["release_year"].null_count() == 0
    assert raw.users is not None
    assert raw.users.height == 6040


def test_sasrec_file_of_movielens_1m(data_folder):
    raw = read(SASRecSource(kind="sasrec", path=str(data_folder / "ml-1m" / "ml-1m.txt.gz")))
    assert raw.events.height == 999_611
    assert raw.events.select(pl.col("user_id").n_unique(), pl.col("item_id").n_unique()).row(0) == (6040, 3416)


def test_movietweetings(data_folder):
    raw = read(MovieTweetingsSource(kind="movietweetings", path=str(data_folder / "movietweetings")))
    assert raw.events.height == 141_695
    assert raw.events.select(pl.col("user_id").n_unique(), pl.col("item_id").n_unique()).row(0) == (21_081, 12_611)
    assert raw.events.row(0) == (1, "0054890", 1381945744000, 9.0)
    assert raw.items is not None
    assert raw.items.height == 12_611
    assert raw.items.filter(pl.col("collection") == "Other").height == 91
    assert set(raw.events["item_id"]) == set(raw.items["item_id"])


def test_a_table_of_impressions(data_folder):
    source = {
        "kind": "table",
        "path": str(data_folder / "kuairand-pure" / "log_*.parquet"),
        "user": "user_id",
        "item": "video_id",
        "time": "time_ms",
        "time_unit": "ms",
        "contexts": ["tab"],
        "feedback": {
            "click": {"column": "is_click", "kind": "binary"},
            "watch_ms": {"column": "play_time_ms", "kind": "amount"},
        },
    }
    raw = read(TableSource.model_validate(source))
    assert raw.events.height == 228_329
    assert raw.events["feedback.click"].is_in([0.0, 1.0]).all()
