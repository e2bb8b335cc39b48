"""Side tables: what is known about items and users, beside the events."""

from collections.abc import Mapping
from typing import Annotated, Any

import polars as pl
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator, model_validator

from upnext.base.configuration import Config
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE, USER_ID, FeatureKind
from upnext.events.sources.columns import (
    SideIds,
    read_categories,
    read_genres,
    read_ids,
    read_untyped,
    refuse_repeats,
)
from upnext.events.sources.features import FeatureColumn, check_features, read_feature
from upnext.events.sources.formats import Format, read_table
from upnext.events.sources.frames import Frames
from upnext.events.sources.raw import Column, Origin
from upnext.events.sources.short_forms import named_columns

__all__ = ["ItemTable", "Path", "Separator", "UserTable", "in_order", "read_items", "read_users"]

Path = str | Annotated[list[str], Field(min_length=1)]
"""A file, a glob, or a list of them; `${UPNEXT_DATA}` may lead."""

_SHOWN = (TITLE, GENRES, COLLECTION)

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
    features: dict[str, FeatureColumn] = Field(default_factory=dict)
    """What models may read: name = "kind", name = { column, kind }, or a list of names, all categorical. Only what
    holds at any time: nothing that was counted after the events."""

    @field_validator("features", mode="before")
    @classmethod
    def _short_features(cls, value: Any, info: ValidationInfo) -> Any:
        return named_columns(value, "categorical", {name: info.data.get(name) for name in _SHOWN})

    @model_validator(mode="after")
    def _features_fit(self) -> "ItemTable":
        check_features(self.features, self.item, {name: getattr(self, name) for name in _SHOWN})
        return self

    @property
    def kinds(self) -> dict[str, FeatureKind]:
        """The kind of each feature."""
        return {name: feature.kind for name, feature in self.features.items()}


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
    features: dict[str, FeatureColumn] = Field(default_factory=dict)
    """As for the items."""

    @field_validator("features", mode="before")
    @classmethod
    def _short_features(cls, value: Any) -> Any:
        return named_columns(value, "categorical")

    @model_validator(mode="after")
    def _features_fit(self) -> "UserTable":
        check_features(self.features, self.user)
        return self

    @property
    def kinds(self) -> dict[str, FeatureKind]:
        """The kind of each feature."""
        return {name: feature.kind for name, feature in self.features.items()}


def read_items(config: ItemTable, frames: Frames | None = None) -> tuple[SideIds, pl.DataFrame]:
    """Read an item table.

    Args:     frames: as for `read_table`.
    Returns:  its ids, for the events' to join, and the table: `item_id`, `title`, `genres`, `collection`, then the
              others.
    Raises:   BadData: a missing column or id, an item described twice.
    """
    named = {TITLE: config.title, GENRES: config.genres, COLLECTION: config.collection}
    roles = {config.item: "items.item"} | {name: f"items.{key}" for key, name in named.items() if name is not None}
    roles = _roles("items", config.features) | roles
    form, separator = config.format, config.separator
    frame, origin = read_table(config.path, roles, form=form, separator=separator, keep_others=True, in_memory=frames)
    side = Column(frame[config.item], origin)
    side_ids = read_ids(side)
    refuse_repeats(side, side_ids)
    found = {key: name or key for key, name in named.items() if (name or key) in frame.columns}
    columns = [side_ids.alias(ITEM_ID)]
    for key, name in found.items():
        column = Column(frame[name], origin)
        values = read_genres(column, config.genre_separator) if key == GENRES else read_categories(column)
        columns.append(values.alias(key))
    features = {name: feature for name, feature in config.features.items() if name not in found}
    separators = {found[GENRES]: config.genre_separator} if GENRES in found else {}
    columns += _features(frame, origin, features, separators)
    used = {config.item, *found.values(), *(feature.column for feature in features.values())}
    columns += _others(frame, side, used, {ITEM_ID, *_SHOWN, *features})
    return SideIds(side, side_ids), pl.DataFrame(columns)


def read_users(config: UserTable, frames: Frames | None = None) -> tuple[SideIds, pl.DataFrame]:
    """Read a user table: its ids, and the table: `user_id`, then the others; as `read_items`."""
    roles = _roles("users", config.features) | {config.user: "users.user"}
    form, separator = config.format, config.separator
    frame, origin = read_table(config.path, roles, form=form, separator=separator, keep_others=True, in_memory=frames)
    side = Column(frame[config.user], origin)
    side_ids = read_ids(side)
    refuse_repeats(side, side_ids)
    used = {config.user, *(feature.column for feature in config.features.values())}
    columns = [side_ids.alias(USER_ID), *_features(frame, origin, config.features)]
    columns += _others(frame, side, used, {USER_ID, *config.features})
    return SideIds(side, side_ids), pl.DataFrame(columns)


def _roles(table: str, features: Mapping[str, FeatureColumn]) -> dict[str, str]:
    """Which key asks for a column that a feature reads."""
    return {feature.column: f"{table}.features.{name}" for name, feature in features.items()}


def _features(
    frame: pl.DataFrame,
    origin: Origin,
    features: Mapping[str, FeatureColumn],
    separators: Mapping[str, str] | None = None,
) -> list[pl.Series]:
    """The columns of features, each under the feature's name; `separators` of columns that have one already."""
    return [
        read_feature(
            Column(frame[feature.column], origin),
            feature.kind,
            feature.separator or (separators or {}).get(feature.column, "|"),
        ).alias(name)
        for name, feature in features.items()
    ]


def _others(frame: pl.DataFrame, side: Column, used: set[str], reserved: set[str]) -> list[pl.Series]:
    """The columns without a role; one whose name a canonical column bears gives way to it."""
    names = [name for name in frame.columns if name not in used | reserved]
    return [read_untyped(Column(frame[name], side.origin)) for name in names]


def in_order(ids: pl.Series, side: pl.DataFrame | None) -> pa.Table:
    """Put a side table into the order of a vocabulary, without its id column; what it does not describe is null.

    Args:     ids: called as the id column of the table.
    Returns:  a row per id; a table without columns of its own has one that numbers the rows.
    """
    if side is None or side.width == 1:
        return pa.table({"row": pa.array(range(len(ids)), pa.int64())})
    side = side.cast({ids.name: ids.dtype})
    joined = ids.to_frame().join(
        side.unique(ids.name, keep="first", maintain_order=True), on=ids.name, how="left", maintain_order="left"
    )
    table: pa.Table = joined.drop(ids.name).to_arrow(compat_level=pl.CompatLevel.oldest())
    return table
