"""Yambda (https://huggingface.co/datasets/yandex/yambda): listens, likes and dislikes of a music service."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.schema import ITEM_ID, TIME_MS, USER_ID, FeedbackKind, context_column, feedback_column
from upnext.events.sources.columns import read_ids, read_integers
from upnext.events.sources.files import resolve_path
from upnext.events.sources.formats import read_parts
from upnext.events.sources.raw import Column, Origin, RawLog

__all__ = ["YambdaSource", "read"]

_ROLE = 'kind = "yambda"'
_EXPLICIT = {
    "likes": ("like", 1.0),
    "unlikes": ("like", 0.0),
    "dislikes": ("dislike", 1.0),
    "undislikes": ("dislike", 0.0),
}
"""What a file of explicit feedback says: taking a like back is a like of 0."""
_STEP = 5
_COMMON = ("uid", "item_id", "timestamp", "is_organic")
_LISTENS = (*_COMMON, "played_ratio_pct", "track_length_seconds")
_TRACKS_AT_ONCE = 1_000_000


class YambdaSource(Config):
    """A folder of Yambda's flat layout (`flat/50m`, `flat/500m`, `flat/5b`): listens.parquet and, where they are,
    likes.parquet, unlikes.parquet, dislikes.parquet, undislikes.parquet."""

    kind: Literal["yambda"]
    path: str
    """The folder."""
    explicit: bool = True
    """Read likes, unlikes, dislikes and undislikes where the folder has them."""
    start: date = date(2024, 1, 1)
    """The day that timestamp 0 is taken for: the true one is not published. Weekdays and hours mean nothing."""
    seconds_per_tick: Annotated[int, Field(ge=1)] = 1
    """What a step of 1 in `timestamp` lasts. The published files hold seconds, rounded to multiples of 5; set 5
    if yours counts five-second bins."""


def read(config: YambdaSource, rows: int | None = None) -> RawLog:
    """Read Yambda: a row per listen, then a row per explicit reaction; what a row does not say is not observed.

    `played` is the share of the track that was played, at most 1: replaying parts leads above 100 % in the files.

    Args:     rows: of a part; unset, all rows are one part.
    Raises:   BadData: no listens.parquet, or a file that is not as published.
    """
    folder = resolve_path(config.path)
    file = folder / "listens.parquet"
    if not file.is_file():
        raise BadData(
            f"{folder.absolute()} holds no listens.parquet; download a folder such as flat/50m from"
            " https://huggingface.co/datasets/yandex/yambda and give its path"
        )
    notes = [f"times count from an unpublished moment, taken as {config.start}: hours and weekdays mean nothing"]
    notes += [f"{folder} holds no {name}.parquet" for name in _absent(folder, config)]
    names = ["like", "dislike"] if config.explicit else []
    binary: dict[str, FeedbackKind] = dict.fromkeys(names, "binary")
    parts = _parts(folder, config, rows)
    return RawLog(
        parts if rows is not None else [pl.concat(parts)],
        contexts={"is_organic": "categorical"},
        feedback=binary | {"played": "fraction"},
        items=_tracks(file, config, notes),
        item_features={"duration_s": "numeric"},
        views={"listened": "played >= 0.5"} | {f"{name}d": f"{name} == 1" for name in names},
        notes=notes,
    )


def _absent(folder: Path, config: YambdaSource) -> list[str]:
    return [name for name in _EXPLICIT if config.explicit and not (folder / f"{name}.parquet").is_file()]


def _parts(folder: Path, config: YambdaSource, rows: int | None) -> Iterator[pl.DataFrame]:
    """Read the listens, then the explicit files that are there; all parts have the same columns."""
    names = ["like", "dislike"] if config.explicit else []
    unsaid = [pl.lit(None, pl.Float32).alias(feedback_column(name)) for name in names]
    for frame, origin in read_parts(str(folder / "listens.parquet"), dict.fromkeys(_LISTENS, _ROLE), rows):
        ratio = read_integers(Column(frame["played_ratio_pct"], origin), 0, 2**31 - 1)
        played = (ratio.cast(pl.Float64) / 100).clip(0.0, 1.0).cast(pl.Float32)
        yield _events(frame, origin, config).with_columns(played.alias(feedback_column("played")), *unsaid)
    unsaid = [pl.lit(None, pl.Float32).alias(feedback_column(name)) for name in ("played", *names)]
    for name, (feedback, value) in _EXPLICIT.items() if config.explicit else ():
        if name not in _absent(folder, config):
            said = pl.lit(value, pl.Float32).alias(feedback_column(feedback))
            for frame, origin in read_parts(str(folder / f"{name}.parquet"), dict.fromkeys(_COMMON, _ROLE), rows):
                yield _events(frame, origin, config).with_columns(unsaid).with_columns(said)


def _tracks(file: Path, config: YambdaSource, notes: list[str]) -> pl.DataFrame:
    """Read how long tracks last, as their first listen with a length has it; it takes a pass of its own."""
    found: list[pl.DataFrame] = []
    in_steps = True
    names = ("item_id", "track_length_seconds", "timestamp")
    for frame, origin in read_parts(str(file), dict.fromkeys(names, _ROLE), _TRACKS_AT_ONCE):
        in_steps &= not (frame["timestamp"] % _STEP != 0).any()
        length = read_integers(Column(frame["track_length_seconds"], origin), 0, 2**31 - 1)
        ids = read_ids(Column(frame["item_id"], origin)).alias(ITEM_ID)
        tracks = pl.DataFrame([ids, length.alias("duration_s")]).drop_nulls()
        found = [pl.concat([*found, tracks]).unique(ITEM_ID, keep="first", maintain_order=True)]
    if config.seconds_per_tick == 1 and not in_steps:
        notes.append(f"{file}: timestamps are no multiples of {_STEP}; are they five-second bins? set seconds_per_tick")
    return found[0]


def _events(frame: pl.DataFrame, origin: Origin, config: YambdaSource) -> pl.DataFrame:
    zero = datetime.combine(config.start, datetime.min.time(), UTC)
    start_ms = int(zero.timestamp()) * 1000
    time = Column(frame["timestamp"], origin)
    time.refuse(time.values.is_null(), "a time on every row", "download the file again")
    ticks = read_integers(time, 0, 2**32 - 1)
    organic = Column(frame["is_organic"].cast(pl.Int64), origin)
    organic.refuse(~organic.values.is_in([0, 1]), "0 or 1", "download the file again")
    columns = {
        USER_ID: read_ids(Column(frame["uid"], origin)),
        ITEM_ID: read_ids(Column(frame["item_id"], origin)),
        TIME_MS: ticks * (config.seconds_per_tick * 1000) + start_ms,
        context_column("is_organic"): organic.values.cast(pl.String),
    }
    return pl.DataFrame([values.alias(name) for name, values in columns.items()])
