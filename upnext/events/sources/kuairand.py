"""KuaiRand (https://kuairand.com): what short videos were shown, and everything that people did with them."""

from pathlib import Path
from typing import Literal

import polars as pl

from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.schema import (
    GENRES,
    ITEM_ID,
    TIME_MS,
    USER_ID,
    FeatureKind,
    FeedbackKind,
    context_column,
    feedback_column,
)
from upnext.events.sources.columns import (
    SideIds,
    read_categories,
    read_feedback,
    read_genres,
    read_ids,
    read_integers,
    read_numbers,
    refuse_repeats,
)
from upnext.events.sources.files import resolve_path
from upnext.events.sources.formats import read_parts, read_table
from upnext.events.sources.raw import Column, Origin, RawLog
from upnext.events.sources.times import read_times

__all__ = ["KuaiRandSource", "read"]

_ROLE = 'kind = "kuairand"'
_BINARY = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
    "hate": "is_hate",
}
_ITEM_COLUMNS = ("author_id", "tag", "upload_dt", "video_duration")
_ITEM_FEATURES: dict[str, FeatureKind] = {
    GENRES: "multi",
    "author_id": "categorical",
    "upload_day": "numeric",
    "duration_ms": "numeric",
}
_FUTURE = r"_cnt$|_num$|^counts$|^play_(duration|progress)$|^comment_stay_duration$|^visible_status$"
"""Columns of an item table that were counted over a month, or hold at the time of the download."""


class KuaiRandSource(Config):
    """A folder with the files of KuaiRand (Pure, 1K or 27K): log_*.parquet, or log_standard_*.csv as published."""

    kind: Literal["kuairand"]
    path: str
    """The folder."""
    random: bool = False
    """Read log_random_*.csv too: impressions that were drawn at random. A context `is_rand` tells them apart."""


def read(config: KuaiRandSource, rows: int | None = None) -> RawLog:
    """Read KuaiRand: one row per video shown, in the order of the files' names.

    Feedback: seven binary signals, `play_ms` (amount) and `played` (play time over duration, at most 1; not
    observed where the duration is 0). Of items only what holds at any time is kept.

    Args:     rows: of a part; unset, all rows are one part.
    Raises:   BadData: no log, or a file that is not as published.
    """
    folder = resolve_path(config.path)
    files = _logs(folder, config.random)
    names = ["user_id", "video_id", "time_ms", "tab", "hourmin", *_BINARY.values(), "play_time_ms", "duration_ms"]
    names += ["is_rand"] if config.random else []
    notes = [] if config.random else ["impressions drawn at random (log_random_*.csv) are not read; set random = true"]
    videos = items = None
    table = _item_file(folder)
    if table is None:
        notes.append(f"{folder} holds no item_features.parquet or video_features_basic_*.csv: no authors, no tags")
    else:
        videos, items = _items(table, notes)
    file = _user_file(folder)
    people = users = None
    if file is None:
        notes.append(f"{folder} holds no user_features_*.csv: no user features")
    else:
        people, users = _users(file, notes)
    parts = read_parts([str(file) for file in files], dict.fromkeys(names, _ROLE), rows)
    kinds: dict[str, FeedbackKind] = dict.fromkeys(_BINARY, "binary")
    return RawLog(
        (_events(frame, origin, config.random, people, videos) for frame, origin in parts),
        contexts=dict.fromkeys(["tab", "hour", *(["is_rand"] if config.random else [])], "categorical"),
        feedback=kinds | {"play_ms": "amount", "played": "fraction"},
        items=items,
        users=users,
        item_features=_ITEM_FEATURES if items is not None else {},
        user_features={} if users is None else _user_kinds(users),
        views={"clicked": "click == 1", "watched": "long_view == 1", "liked": "like == 1", "passed": "click == 0"},
        notes=notes,
    )


def _events(
    frame: pl.DataFrame, origin: Origin, random: bool, people: SideIds | None, videos: SideIds | None
) -> pl.DataFrame:
    user, item = Column(frame["user_id"], origin), Column(frame["video_id"], origin)
    user_ids, item_ids = read_ids(user), read_ids(item)
    events = {
        USER_ID: user_ids if people is None else people.join(user, user_ids),
        ITEM_ID: item_ids if videos is None else videos.join(item, item_ids),
        TIME_MS: read_times(Column(frame["time_ms"], origin), "ms"),
    }
    events |= _contexts(frame, origin, random) | _feedback(frame, origin)
    return pl.DataFrame([values.alias(name) for name, values in events.items()])


def _logs(folder: Path, random: bool) -> list[Path]:
    """Parquet logs where there are any, else the published CSV files (27K comes in parts)."""
    found = sorted(folder.glob("log_*.parquet"))
    found = found or sorted([*folder.glob("log_standard_*.csv"), *folder.glob("log_standard_*.csv.gz")])
    if not found:
        raise BadData(
            f"{folder.absolute()} holds no log_standard_*.csv (plain or .gz) and no log_*.parquet; download KuaiRand"
            " from https://kuairand.com and give the folder that holds them (data/)"
        )
    shown = sorted([*folder.glob("log_random_*.csv"), *folder.glob("log_random_*.csv.gz")]) if random else []
    if random and not shown:
        raise BadData(f"{folder.absolute()} holds no log_random_*.csv; remove random = true, or download them")
    if shown and found[0].suffix == ".parquet":
        raise BadData(f"{found[0]} is Parquet, but {shown[0]} is CSV; random = true needs both as published (CSV)")
    return found + shown


def _contexts(frame: pl.DataFrame, origin: Origin, random: bool) -> dict[str, pl.Series]:
    hour = read_integers(Column(frame["hourmin"], origin), 0, 2400) // 100
    contexts = {"tab": read_categories(Column(frame["tab"], origin)), "hour": hour.cast(pl.String)}
    if random:
        contexts["is_rand"] = read_categories(Column(frame["is_rand"], origin))
    return {context_column(name): values for name, values in contexts.items()}


def _feedback(frame: pl.DataFrame, origin: Origin) -> dict[str, pl.Series]:
    values = {name: read_feedback(Column(frame[column], origin), "binary") for name, column in _BINARY.items()}
    play_ms = read_feedback(Column(frame["play_time_ms"], origin), "amount")
    duration_ms = read_feedback(Column(frame["duration_ms"], origin), "amount")
    share = (play_ms.cast(pl.Float64) / duration_ms.cast(pl.Float64).set(duration_ms <= 0, None)).clip(0.0, 1.0)
    values |= {"play_ms": play_ms, "played": share.cast(pl.Float32)}
    return {feedback_column(name): series for name, series in values.items()}


def _item_file(folder: Path) -> list[Path] | None:
    whole = folder / "item_features.parquet"
    basic = sorted([*folder.glob("video_features_basic_*.csv"), *folder.glob("video_features_basic_*.csv.gz")])
    return [whole] if whole.is_file() else basic or None


def _user_file(folder: Path) -> Path | None:
    return next(iter(sorted([*folder.glob("user_features_*.csv"), *folder.glob("user_features_*.csv.gz")])), None)


def _users(file: Path, notes: list[str]) -> tuple[SideIds, pl.DataFrame]:
    """Of users what never changes: the order in which they registered, and codes whose meaning is not published."""
    frame, origin = read_table(str(file), dict.fromkeys(("user_id", "register_days"), _ROLE), keep_others=True)
    codes = [name for name in frame.columns if name.startswith("onehot_feat")]
    left = [name for name in frame.columns if name not in ("user_id", "register_days", *codes)]
    if left:
        notes.append(f"{file}: left out {len(left)} columns that hold at the time of the download: {', '.join(left)}")
    side = Column(frame["user_id"], origin)
    side_ids = read_ids(side)
    refuse_repeats(side, side_ids)
    columns = {USER_ID: side_ids, "register_days": read_numbers(Column(frame["register_days"], origin))}
    columns |= {name: read_categories(Column(frame[name], origin)) for name in codes}
    return SideIds(side, side_ids), pl.DataFrame([values.alias(name) for name, values in columns.items()])


def _user_kinds(users: pl.DataFrame) -> dict[str, FeatureKind]:
    codes: dict[str, FeatureKind] = {name: "categorical" for name in users.columns if name.startswith("onehot_feat")}
    return {"register_days": "numeric", **codes}


def _day(column: Column) -> pl.Series:
    """Dates as days since 1970."""
    days = column.values.cast(pl.String).str.to_date("%Y-%m-%d", strict=False)
    column.refuse(days.is_null() & column.values.is_not_null(), "a date such as 2022-04-10", "download the file again")
    return days.cast(pl.Int32)


def _items(files: list[Path], notes: list[str]) -> tuple[SideIds, pl.DataFrame]:
    roles = dict.fromkeys(("video_id", *_ITEM_COLUMNS), _ROLE)
    frame, origin = read_table([str(file) for file in files], roles, keep_others=True)
    left = pl.Series([name for name in frame.columns if name not in roles], dtype=pl.String)
    future = left.filter(left.str.contains(_FUTURE)).to_list()
    others = [name for name in left if name not in future]
    if future:
        notes.append(
            f"{files[0]}: left out {len(future)} columns that look like aggregates of the future: {', '.join(future)}"
        )
    if others:
        notes.append(f"{files[0]}: not read: {', '.join(others)}")
    side = Column(frame["video_id"], origin)
    side_ids = read_ids(side)
    refuse_repeats(side, side_ids)
    tag = frame["tag"].cast(pl.String)
    duration = read_feedback(Column(frame["video_duration"], origin), "amount").cast(pl.Int64)
    columns = {
        ITEM_ID: side_ids,
        GENRES: read_genres(Column(tag.set(tag == "unknown", None), origin), ","),
        "author_id": read_categories(Column(frame["author_id"], origin)),
        "upload_day": _day(Column(frame["upload_dt"], origin)),
        "duration_ms": duration.set(duration == 0, None),
    }
    return SideIds(side, side_ids), pl.DataFrame([values.alias(name) for name, values in columns.items()])
