"""Side tables: what is known about items and users, beside the events."""

from typing import Annotated

import polars as pl
from pydantic import Field

from upnext.base.configuration import Config
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE, USER_ID
from upnext.events.sources.columns import (
    join_ids,
    read_categories,
    read_genres,
    read_ids,
    read_untyped,
    refuse_repeats,
)
from upnext.events.sources.formats import Format, read_table
from upnext.events.sources.frames import Frames
from upnext.events.sources.raw import Column

__all__ = ["ItemTable", "Path", "Separator", "UserTable", "read_items", "read_users"]

Path = str | Annotated[list[str], Field(min_length=1)]
"""A file, a glob, or a list of them; `${UPNEXT_DATA}` may lead."""

Separator = Annotated[str, Field(min_length=1, max_length=1)]


class ItemTable(Config):
    """A table with one row per item. Columns that are not named here are kept under their own names."""

    path: Path
    """A file, a glob, or a list of them."""
    format: Format | None = None
    """As for the events."""
    separator: Separator | None = None
    """As for the events."""
    item: str
    """The column of item ids; each id once."""
    title: str | None = None
    """The column of titles; where it is not given, a column called `title`."""
    genres: str | None = None
    """A list column, or text with a separator; where it is not given, a column called `genres`."""
    genre_separator: Annotated[str, Field(min_length=1)] = "|"
    """Between genres in text."""
    collection: str | None = None
    """What a page groups items by; where it is not given, a column called `collection`."""


class UserTable(Config):
    """A table with one row per user. Its other columns are kept under their own names."""

    path: Path
    """A file, a glob, or a list of them."""
    format: Format | None = None
    """As for the events."""
    separator: Separator | None = None
    """As for the events."""
    user: str
    """The column of user ids; each id once."""


def read_items(
    config: ItemTable, events: Column, event_ids: pl.Series, frames: Frames | None = None
) -> tuple[pl.Series, pl.DataFrame]:
    """Read an item table.

    Args:     events, event_ids: the events' item column and the ids read from it; both tables get one type.
              frames: as for `read_table`.
    Returns:  the events' ids, and the table: `item_id`, `title`, `genres`, `collection`, then the others.
    Raises:   BadData: a missing column or id, an item described twice, ids of another type.
    """
    named = {TITLE: config.title, GENRES: config.genres, COLLECTION: config.collection}
    roles = {config.item: "items.item"} | {name: f"items.{key}" for key, name in named.items() if name is not None}
    form, separator = config.format, config.separator
    frame, origin = read_table(config.path, roles, form=form, separator=separator, keep_others=True, in_memory=frames)
    side = Column(frame[config.item], origin)
    side_ids = read_ids(side)
    refuse_repeats(side, side_ids)
    event_ids, side_ids = join_ids(events, event_ids, side, side_ids)
    found = {key: name or key for key, name in named.items() if (name or key) in frame.columns}
    columns = [side_ids.alias(ITEM_ID)]
    for key, name in found.items():
        column = Column(frame[name], origin)
        values = read_genres(column, config.genre_separator) if key == GENRES else read_categories(column)
        columns.append(values.alias(key))
    columns += _others(frame, side, {config.item, *found.values()}, {ITEM_ID, TITLE, GENRES, COLLECTION})
    return event_ids, pl.DataFrame(columns)


def read_users(
    config: UserTable, events: Column, event_ids: pl.Series, frames: Frames | None = None
) -> tuple[pl.Series, pl.DataFrame]:
    """Read a user table: the events' ids, and the table: `user_id`, then the others; as `read_items`."""
    roles = {config.user: "users.user"}
    form, separator = config.format, config.separator
    frame, origin = read_table(config.path, roles, form=form, separator=separator, keep_others=True, in_memory=frames)
    side = Column(frame[config.user], origin)
    side_ids = read_ids(side)
    refuse_repeats(side, side_ids)
    event_ids, side_ids = join_ids(events, event_ids, side, side_ids)
    return event_ids, pl.DataFrame([side_ids.alias(USER_ID), *_others(frame, side, {config.user}, {USER_ID})])


def _others(frame: pl.DataFrame, side: Column, used: set[str], reserved: set[str]) -> list[pl.Series]:
    """The columns without a role; one whose name a canonical column bears gives way to it."""
    names = [name for name in frame.columns if name not in used | reserved]
    return [read_untyped(Column(frame[name], side.origin)) for name in names]
