"""A log of one's own: CSV, TSV, JSON lines or Parquet files whose columns are named by role.

[prepare.source]
kind = "table"
path = "events/*.parquet"
user = "user_id"
item = "item_id"
time = "time_ms"
time_unit = "ms"
contexts = { surface = "categorical", daypart = { column = "hour", kind = "categorical" } }
feedback = { played = "fraction" }
items = { path = "items.parquet", item = "item_id", title = "title" }
"""

import re
from typing import Any, Literal

import polars as pl
from pydantic import Field, field_validator, model_validator

from upnext.base.configuration import Config
from upnext.base.schema import (
    INTERACTION_ID,
    ITEM_ID,
    POSITION,
    REQUEST_ID,
    TIME_MS,
    USER_ID,
    ContextKind,
    FeedbackKind,
    MergeRule,
    context_column,
    feedback_column,
)
from upnext.events.sources.columns import SideIds, read_context, read_feedback, read_group_ids, read_ids, read_integers
from upnext.events.sources.formats import Format, read_parts
from upnext.events.sources.frames import Frames
from upnext.events.sources.raw import Column, Origin, RawLog
from upnext.events.sources.sequences import SequenceTable
from upnext.events.sources.short_forms import named_columns
from upnext.events.sources.side_tables import ItemTable, Path, Separator, UserTable, read_items, read_users
from upnext.events.sources.times import TimeUnit, read_times

__all__ = ["ContextColumn", "FeedbackColumn", "TableSource", "read"]

_LARGEST_POSITION = 2**31 - 1


class ContextColumn(Config):
    """A column known before the item is chosen."""

    column: str
    """By default the context's own name."""
    kind: ContextKind
    """What its values are."""


class FeedbackColumn(Config):
    """A column known only after the item was shown."""

    column: str
    """By default the feedback's own name."""
    kind: FeedbackKind
    """0 or 1; a share from 0 to 1; or an amount from 0."""


class TableSource(Config):
    """Files with one row per interaction."""

    kind: Literal["table"]
    path: Path
    """A file, a glob (read in the order of the names), or a list of them (read in the order given)."""
    format: Format | None = None
    """By default what the name ends in: .csv, .txt, .tsv, .jsonl, .ndjson, .parquet; text also with .gz."""
    separator: Separator | None = None
    """Of text files; unset: a tab for .tsv (and .txt with tabs), else a comma."""
    user: str
    """The column of user ids: integers or text, never floats."""
    item: str
    """The column of item ids: integers or text, never floats."""
    time: str | None = None
    """Without it the log has an order, but no times."""
    time_unit: TimeUnit | None = None
    """Needed where the times are numbers or text. Times without a zone are UTC."""
    request: str | None = None
    """The column that says which rows were shown together; empty where a row belongs to none."""
    position: str | None = None
    """The column of places within a request, from 0."""
    interaction: str | None = None
    """The column that says which rows of a user tell of one event, as a play and the like that follows it; empty where
    a row belongs to none. The event stands where its first row stands."""
    contexts: dict[str, ContextColumn] = Field(default_factory=dict)
    """name = "kind", name = { column, kind }, or a list of names, all categorical."""
    feedback: dict[str, FeedbackColumn] = Field(default_factory=dict)
    """name = "kind", name = { column, kind }, or a list of names, all binary."""
    merge: dict[str, MergeRule] = Field(default_factory=dict)
    """How the feedback of an event is merged from its rows, where it was observed: by name "last" (else it is that),
    "first", "max" or, for an amount, "sum"."""
    items: ItemTable | None = None
    """A side table of items."""
    users: UserTable | None = None
    """A side table of users."""
    sequences: dict[str, SequenceTable] = Field(default_factory=dict)
    """What users did that is no event of an item, such as searches, by names of your own."""

    @field_validator("contexts", mode="before")
    @classmethod
    def _short_contexts(cls, value: Any) -> Any:
        return named_columns(value, "categorical")

    @field_validator("feedback", mode="before")
    @classmethod
    def _short_feedback(cls, value: Any) -> Any:
        return named_columns(value, "binary")

    @model_validator(mode="after")
    def _one_role_per_column(self) -> "TableSource":
        if self.time_unit is not None and self.time is None:
            raise ValueError(f'time_unit = "{self.time_unit}" has no effect without time; name the time column')
        if self.sequences and self.time is None:
            raise ValueError("sequences have times, and the events have none; name the time column")
        for name in self.sequences:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"{name!r} cannot be a sequence's name; use small letters, digits and underscores")
        self._check_merge()
        taken: dict[str, str] = {}
        for role, column in self.columns:
            if column in taken:
                raise ValueError(
                    f"column {column!r} is used for both {taken[column]} and {role}; give each its own column"
                )
            taken[column] = role
        return self

    def _check_merge(self) -> None:
        if self.merge and self.interaction is None:
            raise ValueError("merge has no effect without interaction; name the interaction column")
        for name, rule in self.merge.items():
            if name not in self.feedback:
                raise ValueError(f"merge names {name!r}; the feedback here is {sorted(self.feedback)}")
            if rule == "sum" and self.feedback[name].kind != "amount":
                raise ValueError(
                    f'merge.{name} = "sum", but {name!r} is a {self.feedback[name].kind}, which a sum may exceed; use'
                    ' "max", "last" or "first"'
                )

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Every (role, column) that is read from the event files."""
        single = {"user": self.user, "item": self.item, "time": self.time}
        single |= {"request": self.request, "position": self.position, "interaction": self.interaction}
        named = [(role, column) for role, column in single.items() if column is not None]
        named += [(f"contexts.{name}", context.column) for name, context in self.contexts.items()]
        return named + [(f"feedback.{name}", feedback.column) for name, feedback in self.feedback.items()]


def read(config: TableSource, frames: Frames | None = None, rows: int | None = None) -> RawLog:
    """Read a log of one's own, with its side tables.

    Args:     frames: tables in memory, by the paths of the configuration; unset, files are read.
              rows: of a part; unset, all rows are one part.
    Returns:  the rows in file order.
    Raises:   BadData: naming the file, the row, the column, the value, what is allowed and what to do.
    """
    roles = {column: role for role, column in config.columns}
    users, user_table = read_users(config.users, frames) if config.users is not None else (None, None)
    items, item_table = read_items(config.items, frames) if config.items is not None else (None, None)
    parts = read_parts(config.path, roles, rows, form=config.format, separator=config.separator, in_memory=frames)
    return RawLog(
        (_events(config, frame, origin, users, items) for frame, origin in parts),
        contexts={name: context.kind for name, context in config.contexts.items()},
        feedback={name: feedback.kind for name, feedback in config.feedback.items()},
        merge=config.merge,
        items=item_table,
        users=user_table,
        item_features={} if config.items is None else config.items.kinds,
        user_features={} if config.users is None else config.users.kinds,
    )


def _events(
    config: TableSource, frame: pl.DataFrame, origin: Origin, users: SideIds | None, items: SideIds | None
) -> pl.DataFrame:
    user, item = Column(frame[config.user], origin), Column(frame[config.item], origin)
    user_ids, item_ids = read_ids(user), read_ids(item)
    events = {
        USER_ID: user_ids if users is None else users.join(user, user_ids),
        ITEM_ID: item_ids if items is None else items.join(item, item_ids),
    }
    if config.time is not None:
        events[TIME_MS] = read_times(Column(frame[config.time], origin), config.time_unit)
    if config.request is not None:
        events[REQUEST_ID] = read_group_ids(Column(frame[config.request], origin))
    if config.position is not None:
        places = read_integers(Column(frame[config.position], origin), 0, _LARGEST_POSITION)
        events[POSITION] = places.cast(pl.Int32)
    if config.interaction is not None:
        events[INTERACTION_ID] = read_group_ids(Column(frame[config.interaction], origin))
    for name, context in config.contexts.items():
        events[context_column(name)] = read_context(Column(frame[context.column], origin), context.kind)
    for name, feedback in config.feedback.items():
        events[feedback_column(name)] = read_feedback(Column(frame[feedback.column], origin), feedback.kind)
    return pl.DataFrame([values.alias(name) for name, values in events.items()])
