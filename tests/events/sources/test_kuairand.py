"""KuaiRand's files, written small in their published form and in the Parquet rearrangement."""

from pathlib import Path

import polars as pl
import pytest

from upnext.base.errors import BadData
from upnext.events.sources import KuaiRandSource, RawLog, read

SIGNALS = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")


def shown(user: int, video: int, time_ms: int, **given) -> dict:
    row = {"user_id": user, "video_id": video, "date": 20220421, "hourmin": 1900, "time_ms": time_ms}
    row |= dict.fromkeys(SIGNALS, 0) | {"play_time_ms": 0, "duration_ms": 10_000, "tab": 1, "is_rand": 0}
    return row | given


ROWS = [
    shown(7, 3, 1650485801301, is_click=1, long_view=1, play_time_ms=25_000, hourmin=400),
    shown(7, 5, 1650485801301, play_time_ms=2500, tab=0, is_hate=1),
    shown(8, 3, 1650485901301, duration_ms=0, play_time_ms=700),
]
VIDEOS = "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,tag\n"
VIDEOS += '3,441,NORMAL,2020-07-08,ShortImport,1,17200.0,"12,65"\n5,442,NORMAL,2020-07-09,Web,0,,\n'


def write_csv(folder: Path, name: str, rows: list[dict]) -> None:
    pl.DataFrame(rows).write_csv(folder / name)


def kuairand(folder: Path, **keys) -> RawLog:
    return read(KuaiRandSource(kind="kuairand", path=str(folder), **keys))


def test_published_csv(tmp_path):
    write_csv(tmp_path, "log_standard_4_22_to_5_08_pure.csv", ROWS[2:])
    write_csv(tmp_path, "log_standard_4_08_to_4_21_pure.csv", ROWS[:2])
    (tmp_path / "video_features_basic_pure.csv").write_text(VIDEOS)
    raw = kuairand(tmp_path)
    assert raw.events.select("user_id", "item_id", "context.tab", "context.hour").rows() == [
        (7, 3, "1", "4"),
        (7, 5, "0", "19"),
        (8, 3, "1", "19"),
    ]
    assert raw.events["feedback.click"].to_list() == [1.0, 0.0, 0.0]
    assert raw.events["feedback.hate"].to_list() == [0.0, 1.0, 0.0]
    assert raw.events["feedback.play_ms"].to_list() == [25_000.0, 2500.0, 700.0]
    assert raw.events["feedback.played"].to_list() == [1.0, 0.25, None]  # cut off at 1; unknown without a duration
    assert raw.items is not None
    assert raw.items.to_dicts() == [
        {
            "item_id": 3,
            "genres": ["12", "65"],
            "author_id": "441",
            "upload_day": 18451,
            "duration_ms": 17200,
        },
        {"item_id": 5, "genres": [], "author_id": "442", "upload_day": 18452, "duration_ms": None},
    ]
    assert "left out 1 columns that look like aggregates of the future: visible_status" in raw.notes[1]
    assert "set random = true" in raw.notes[0]


def test_parquet_is_read_without_what_was_counted_later(tmp_path):
    pl.DataFrame(ROWS).write_parquet(tmp_path / "log_0425_0430.parquet")
    items = {
        "video_id": [3],
        "author_id": [1],
        "upload_dt": ["2022-04-10"],
        "video_duration": [5.0],
        "tag": ["unknown"],
    }
    counted = {"show_cnt": [9.0], "play_user_num": [1.0], "counts": [3], "play_progress": [0.5], "music_id": [4]}
    pl.DataFrame(items | counted).write_parquet(tmp_path / "item_features.parquet")
    raw = kuairand(tmp_path)
    assert raw.items is not None
    assert raw.items.rows() == [(3, [], "1", 19092, 5)]
    assert "left out 4 columns" in raw.notes[1]
    assert raw.notes[2].endswith("not read: music_id")


def test_random_impressions_are_told_apart(tmp_path):
    write_csv(tmp_path, "log_standard_4_08_to_4_21_1k.csv", ROWS)
    with pytest.raises(BadData, match=r"holds no log_random"):
        kuairand(tmp_path, random=True)
    write_csv(tmp_path, "log_random_4_22_to_5_08_1k.csv", [shown(9, 5, 1650485901301, is_rand=1)])
    raw = kuairand(tmp_path, random=True)
    assert raw.events["context.is_rand"].to_list() == ["0", "0", "0", "1"]
    assert kuairand(tmp_path).events.height == 3
    assert "no authors, no tags" in raw.notes[0]


def test_errors(tmp_path):
    with pytest.raises(BadData, match=r"holds no log_standard.*download KuaiRand"):
        kuairand(tmp_path)
    write_csv(tmp_path, "log_standard_4_08_to_4_21_1k.csv", [ROWS[0], shown(7, 3, 1650485801301, is_like=2)])
    with pytest.raises(BadData, match=r"1k.csv row 2 \(line 3\): column 'is_like' is '2'; allowed: 0 or 1"):
        kuairand(tmp_path)
    pl.DataFrame(ROWS).drop("tab").write_parquet(tmp_path / "log_0425_0430.parquet")
    with pytest.raises(BadData, match=r"has no column 'tab'"):
        kuairand(tmp_path)


@pytest.mark.data
def test_kuairand_pure(data_folder):
    raw = kuairand(data_folder / "kuairand-pure")
    events = raw.events
    assert events.height == 94_784 + 133_545
    assert events["feedback.played"].null_count() == 3568  # rows whose video has no duration
    assert events["feedback.played"].is_between(0, 1).all()
    siblings = events.head(94_784).select("user_id", "time_ms").is_duplicated().sum()
    assert siblings == 7241
    assert raw.items is not None
    assert raw.items.columns == ["item_id", "genres", "author_id", "upload_day", "duration_ms"]
    assert raw.items.height == 7583
    assert set(events["item_id"]) <= set(raw.items["item_id"])
    assert any("show_cnt" in note for note in raw.notes)
