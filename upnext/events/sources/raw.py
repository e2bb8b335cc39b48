"""What every reader of source files hands over: one canonical form; and errors that name file and row."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.base.errors import BadData
from upnext.base.schema import (
    ITEM_ID,
    POSITION,
    REQUEST_ID,
    TIME_MS,
    USER_ID,
    ContextKind,
    FeatureKind,
    FeedbackKind,
    context_column,
    feedback_column,
)

__all__ = ["Column", "Origin", "Part", "RawLog"]


@dataclass(frozen=True, eq=False)
class RawLog:
    """A source as it was read: typed and checked, but neither sorted nor numbered."""

    events: pl.DataFrame
    """One row per interaction, in file order (sort it stably): `user_id` and `item_id` (Int64 or String),
    `time_ms` (Int64, absent without times), `request_id` (String) and `position` (Int32) where the source has
    them, `context.<name>` (String or Float32), `feedback.<name>` (Float32). Null means not observed."""
    contexts: dict[str, ContextKind] = field(default_factory=dict)
    feedback: dict[str, FeedbackKind] = field(default_factory=dict)
    items: pl.DataFrame | None = None
    """`item_id` (of the events' type, unique); `title` (String), `genres` (List[String], never null) and
    `collection` (String) where the source has them; then any other columns."""
    users: pl.DataFrame | None = None
    """`user_id` (of the events' type, unique) and any other columns."""
    item_features: dict[str, FeatureKind] = field(default_factory=dict)
    """Columns of `items` that models may read: categorical and text are String, multi List(String), numeric a number,
    vector List(Float32) of one length; null (multi: an empty list) means not observed."""
    user_features: dict[str, FeatureKind] = field(default_factory=dict)
    """The same of `users`."""
    views: dict[str, str] = field(default_factory=dict)
    """Views that the source proposes."""
    notes: list[str] = field(default_factory=list)
    """What the reader left out or could not find, for people."""
    late_order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """The order of the last rows, where these are of no file."""

    def __post_init__(self) -> None:
        schema = dict(self.events.schema)
        ids = [schema.pop(USER_ID), schema.pop(ITEM_ID)]
        expected: dict[str, pl.DataType | type[pl.DataType]] = {}
        expected |= {TIME_MS: pl.Int64, REQUEST_ID: pl.String, POSITION: pl.Int32}
        kinds = self.contexts.items()
        expected |= {context_column(name): pl.String if kind == "categorical" else pl.Float32 for name, kind in kinds}
        expected |= {feedback_column(name): pl.Float32 for name in self.feedback}
        assert all(dtype in (pl.Int64, pl.String) for dtype in ids), ids
        assert all(expected.get(name) == dtype for name, dtype in schema.items()), (schema, expected)
        assert self.items is None or self.items.schema[ITEM_ID] == self.events.schema[ITEM_ID]
        assert self.users is None or self.users.schema[USER_ID] == self.events.schema[USER_ID]
        for table, features in ((self.items, self.item_features), (self.users, self.user_features)):
            assert all(table is not None and _is_feature(table.schema[name], kind) for name, kind in features.items())

    @property
    def has_times(self) -> bool:
        """False where the source has an order but no clock."""
        return TIME_MS in self.events.columns

    @property
    def has_requests(self) -> bool:
        """True where the source says which items were shown together."""
        return REQUEST_ID in self.events.columns


def _is_feature(dtype: pl.DataType, kind: FeatureKind) -> bool:
    if kind == "numeric":
        return dtype.is_numeric()
    types = {"multi": pl.List(pl.String), "vector": pl.List(pl.Float32)}
    return dtype == types.get(kind, pl.String())


@dataclass(frozen=True)
class Part:
    """One source file and how many rows were read from it."""

    path: Path
    num_rows: int
    separator: str | None = None
    """The separator of a text file whose first line is a header; its rows and lines then differ."""


@dataclass(frozen=True)
class Origin:
    """Where the rows of a table came from: its files, in the order they were read."""

    parts: Sequence[Part]
    is_untyped: bool = False
    """True for text files: a value's type is then ours to decide."""

    def place(self, row: int) -> str:
        """Say where a row (from 0) lies: `ratings.csv row 812 (line 813)`, counted from 1."""
        ends = list(accumulate(part.num_rows for part in self.parts))
        index = next(number for number, end in enumerate(ends) if row < end)
        part = self.parts[index]
        number = row - (ends[index] - part.num_rows) + 1
        line = "" if part.separator is None else f" (line {_line(part, number)})"
        return f"{part.path} row {number}{line}"


def _line(part: Part, number: int) -> int:
    """Find the line on which a data row starts: quoted fields may hold line breaks."""
    opened = gzip.open if part.path.suffix == ".gz" else open
    try:
        with opened(part.path, "rt", encoding="utf-8-sig", errors="replace", newline="") as lines:
            reader = csv.reader(lines, delimiter=part.separator or ",")
            for _ in range(number):
                next(reader)
            return reader.line_num + 1
    except (OSError, StopIteration, csv.Error):
        return number + 1


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a source table, with the place it came from, so that an error can name it."""

    values: pl.Series
    origin: Origin

    @property
    def name(self) -> str:
        """The column's name in the file."""
        return self.values.name

    def refuse(self, bad: pl.Series, allowed: str, todo: str) -> None:
        """Raise for the first row that is marked as bad; nulls in `bad` count as good.

        Raises:   BadData: the file, the row, the column, the value, what is allowed, what to do.
        """
        row = bad.fill_null(False).arg_max() if len(bad) else None
        if row is None or not bad[row]:
            return
        count = int(bad.sum())
        others = f" ({count:,} rows like it)" if count > 1 else ""
        value = self.values[row]
        found = "is missing" if value is None else f"is {value!r}"
        raise BadData(f"{self.origin.place(row)}: column {self.name!r} {found}{others}; allowed: {allowed}; {todo}")

    def wrong_type(self, allowed: str, todo: str) -> BadData:
        """Make the error for a column whose type no value could mend."""
        return BadData(
            f"{self.origin.place(0)}: column {self.name!r} is of type {self.values.dtype}; allowed: {allowed}; {todo}"
        )
