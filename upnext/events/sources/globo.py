"""Clicks on the news portal G1 by Globo.com (https://www.kaggle.com/gspmoreira/news-portal-user-interactions-by-globocom)."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import polars as pl

from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.schema import ITEM_ID, TIME_MS, USER_ID, FeatureKind, context_column
from upnext.events.sources.columns import SideIds, read_categories, read_ids, read_numbers, refuse_repeats
from upnext.events.sources.files import either, resolve_path
from upnext.events.sources.formats import read_parts, read_table
from upnext.events.sources.raw import Column, Origin, RawLog
from upnext.events.sources.times import read_times

__all__ = ["GloboSource", "click_files", "read"]

_ROLE = 'kind = "globo"'
_CONTEXTS = {
    "environment": "click_environment",
    "device": "click_deviceGroup",
    "os": "click_os",
    "country": "click_country",
    "region": "click_region",
    "referrer": "click_referrer_type",
}
_FEATURES: dict[str, FeatureKind] = {
    "category_id": "categorical",
    "publisher_id": "categorical",
    "published_ms": "numeric",
    "num_words": "numeric",
}


class GloboSource(Config):
    """A folder with Globo's clicks: *clicks*.parquet, or clicks/clicks_hour_*.csv as published."""

    kind: Literal["globo"]
    path: str
    """The folder."""
    since: date | None = None
    """Read only clicks from this day on, UTC: `2017-10-13`. Unset: all."""


def read(config: GloboSource, rows: int | None = None) -> RawLog:
    """Read Globo's clicks, in the order of the files, with six categorical contexts and no feedback.

    Args:     rows: of a part; unset, all rows are one part.
    Raises:   BadData: no clicks, or a file that is not as published.
    """
    folder = resolve_path(config.path)
    files = click_files(folder)
    if not files:
        raise BadData(
            f"{folder.absolute()} holds no *clicks*.parquet and no clicks/clicks_hour_*.csv; download the data set"
            " from https://www.kaggle.com/gspmoreira/news-portal-user-interactions-by-globocom"
        )
    notes = ["session_size is not read: it counts clicks that are still to come"]
    file = either(folder, "articles_metadata.csv")
    if file is None:
        notes.append(f"{folder} holds no articles_metadata.csv: no categories, no times of publication")
    articles, items = (None, None) if file is None else _articles(file)
    names = ["user_id", "click_article_id", "click_timestamp", *_CONTEXTS.values()]
    parts = read_parts([str(file) for file in files], dict.fromkeys(names, _ROLE), rows)
    if config.since is not None:
        notes.append(f"clicks before {config.since} are not read")
    return RawLog(
        (_since(_events(frame, origin, articles), config.since) for frame, origin in parts),
        contexts=dict.fromkeys(_CONTEXTS, "categorical"),
        items=items,
        item_features={} if items is None else _FEATURES,
        notes=notes,
    )


def _events(frame: pl.DataFrame, origin: Origin, articles: SideIds | None) -> pl.DataFrame:
    item = Column(frame["click_article_id"], origin)
    ids = read_ids(item)
    events = {
        USER_ID: read_ids(Column(frame["user_id"], origin)),
        ITEM_ID: ids if articles is None else articles.join(item, ids),
        TIME_MS: read_times(Column(frame["click_timestamp"], origin), "ms"),
    }
    for name, column in _CONTEXTS.items():
        events[context_column(name)] = read_categories(Column(frame[column], origin))
    return pl.DataFrame([values.alias(name) for name, values in events.items()])


def _since(events: pl.DataFrame, day: date | None) -> pl.DataFrame:
    if day is None:
        return events
    begin_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    return events.filter(pl.col(TIME_MS) >= begin_ms)


def click_files(folder: Path) -> list[Path]:
    """Find the clicks of a folder: Parquet where there is any, else the hourly CSV files."""
    found = sorted(folder.glob("*clicks*.parquet"))
    return found or sorted([*folder.glob("clicks/clicks_hour_*.csv"), *folder.glob("clicks_hour_*.csv")])


def _articles(file: Path) -> tuple[SideIds, pl.DataFrame]:
    names = ["article_id", "category_id", "created_at_ts", "publisher_id", "words_count"]
    frame, origin = read_table(str(file), dict.fromkeys(names, _ROLE))
    side = Column(frame["article_id"], origin)
    side_ids = read_ids(side)
    refuse_repeats(side, side_ids)
    columns = {
        ITEM_ID: side_ids,
        "category_id": read_categories(Column(frame["category_id"], origin)),
        "publisher_id": read_categories(Column(frame["publisher_id"], origin)),
        "published_ms": read_numbers(Column(frame["created_at_ts"], origin)),
        "num_words": read_numbers(Column(frame["words_count"], origin)),
    }
    return SideIds(side, side_ids), pl.DataFrame([values.alias(name) for name, values in columns.items()])
