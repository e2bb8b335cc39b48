"""What every reader of source files hands over: one canonical form; and errors that name file and row."""

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import polars as pl

from upnext.base.errors import BadConfig, BadData
from upnext.base.schema import (
    COLLECTION,
    GENRES,
    INTERACTION_ID,
    ITEM_ID,
    POSITION,
    REQUEST_ID,
    TIME_MS,
    TITLE,
    USER_ID,
    ContextKind,
    FeatureKind,
    FeedbackKind,
    MergeRule,
    context_column,
    feedback_column,
)

__all__ = ["ORDER", "Column", "First", "Origin", "Part", "RawLog"]

ORDER = "order"
"""The column of a part that says which row comes first where times are equal; else the files do."""


@dataclass(eq=False)
class RawLog:
    """A source as it is read: typed and checked, but neither sorted nor numbered."""

    source: Iterable[pl.DataFrame]
    """Parts with one row per interaction, in file order (sort them stably): `user_id` and `item_id` (Int64 or String;
    where parts differ in it, the whole is text), `time_ms` (Int64, absent without times), `request_id` (String),
    `position` (Int32) and `interaction_id` (String) where the source has them, `context.<name>` (String or Float32) and
    `feedback.<name>` (Float32). Null means not observed. A part whose rows are of no file says their
    `order` (Int64) itself."""
    contexts: dict[str, ContextKind] = field(default_factory=dict)
    feedback: dict[str, FeedbackKind] = field(default_factory=dict)
    merge: dict[str, MergeRule] = field(default_factory=dict)
    """How feedback is merged where rows have an interaction in common; "last" where a name is missing."""
    items: pl.DataFrame | None = None
    """`item_id` (Int64 or String, unique; it can be cast to the type of the events'); `title` (String), `genres`
    (List[String], never null) and `collection` (String) where the source has them; then any other columns."""
    users: pl.DataFrame | None = None
    """`user_id` (as `item_id` of `items`) and any other columns."""
    item_features: dict[str, FeatureKind] = field(default_factory=dict)
    """Columns of `items` that models may read: categorical and text are String, multi List(String), numeric a number,
    vector List(Float32) of one length; null (multi: an empty list) means not observed."""
    user_features: dict[str, FeatureKind] = field(default_factory=dict)
    """The same of `users`."""
    views: dict[str, str] = field(default_factory=dict)
    """Views that the source proposes."""
    notes: list[str] = field(default_factory=list)
    """What the reader left out or could not find, for people."""

    def __post_init__(self) -> None:
        """The first part is read at once: it says which columns there are, and most mistakes show in it."""
        for table, features in ((self.items, self.item_features), (self.users, self.user_features)):
            assert all(table is not None and _is_feature(table.schema[name], kind) for name, kind in features.items())
        rest = iter(self.source)
        self._first = next(rest)
        self._rest = rest

    def without(self, features: Sequence[str]) -> "RawLog":
        """The same source without some features of items and users; its parts are then read from the new one.

        Raises:   BadConfig: there is no such feature.
        """
        there = [*self.item_features, *self.user_features]
        for name in features:
            if name not in there:
                raise BadConfig(f"prepare.leave_out names {name!r}; the features of items and users: {there}")
        kept = [
            {name: kind for name, kind in of.items() if name not in features}
            for of in (self.item_features, self.user_features)
        ]
        # What has a meaning of its own, such as genres, stays for people to see.
        dropped = [name for name in features if name not in (TITLE, GENRES, COLLECTION)]
        tables = [None if of is None else of.drop(dropped, strict=False) for of in (self.items, self.users)]
        source = chain([self._first], self._rest)
        return replace(
            self, source=source, items=tables[0], users=tables[1], item_features=kept[0], user_features=kept[1]
        )

    def parts(self) -> Iterator[pl.DataFrame]:
        """The parts, one after the other. They can be had once."""
        for part in chain([self._first], self._rest):
            self._check(part)
            yield part

    @cached_property
    def events(self) -> pl.DataFrame:
        """All rows at once, of a source small enough for it; its parts are then used up."""
        return pl.concat(self.parts())

    def _check(self, part: pl.DataFrame) -> None:
        schema = dict(part.schema)
        ids = [schema.pop(USER_ID), schema.pop(ITEM_ID)]
        expected: dict[str, pl.DataType | type[pl.DataType]] = {}
        expected |= {
            ORDER: pl.Int64,
            TIME_MS: pl.Int64,
            REQUEST_ID: pl.String,
            POSITION: pl.Int32,
            INTERACTION_ID: pl.String,
        }
        kinds = self.contexts.items()
        expected |= {context_column(name): pl.String if kind == "categorical" else pl.Float32 for name, kind in kinds}
        expected |= {feedback_column(name): pl.Float32 for name in self.feedback}
        assert all(dtype in (pl.Int64, pl.String) for dtype in ids), ids
        assert all(expected.get(name) == dtype for name, dtype in schema.items()), (schema, expected)
        assert set(part.columns) - {ORDER} == set(self._first.columns), part.columns

    @property
    def has_times(self) -> bool:
        """False where the source has an order but no clock."""
        return TIME_MS in self._first.columns

    @property
    def has_requests(self) -> bool:
        """True where the source says which items were shown together."""
        return REQUEST_ID in self._first.columns

    @property
    def has_positions(self) -> bool:
        """True where the source says at which place an item was shown."""
        return POSITION in self._first.columns

    @property
    def has_interactions(self) -> bool:
        """True where the source says which rows tell of one event."""
        return INTERACTION_ID in self._first.columns


def _is_feature(dtype: pl.DataType, kind: FeatureKind) -> bool:
    if kind == "numeric":
        return dtype.is_numeric()
    types = {"multi": pl.List(pl.String), "vector": pl.List(pl.Float32)}
    return dtype == types.get(kind, pl.String())


@dataclass(frozen=True)
class Part:
    """Rows of one source file that follow each other."""

    path: Path
    num_rows: int
    separator: str | None = None
    """The separator of a text file whose first line is a header; its rows and lines then differ."""
    num_before: int = 0
    """How many rows of the file come before them."""


@dataclass(frozen=True)
class First:
    """The first row of a source of several parts: it was found good before the others are looked at."""

    values: Mapping[str, Any]
    place: str


@dataclass(frozen=True)
class Origin:
    """Where the rows of a table came from: its files, in the order they were read."""

    parts: Sequence[Part]
    is_untyped: bool = False
    """True for text files: a value's type is then ours to decide."""
    first: First | None = None
    """The source's first row, where it lies in an earlier part."""
    is_whole: bool = True
    """False where the source goes on in other parts."""

    def place(self, row: int) -> str:
        """Say where a row (from 0) lies: `ratings.csv row 812 (line 813)`, counted from 1."""
        ends = list(accumulate(part.num_rows for part in self.parts))
        index = next(number for number, end in enumerate(ends) if row < end)
        part = self.parts[index]
        number = row - (ends[index] - part.num_rows) + part.num_before + 1
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
        least = "" if self.origin.is_whole else "at least "
        others = f" ({least}{count:,} rows like it)" if count > 1 else ""
        value = self.values[row]
        found = "is missing" if value is None else f"is {value!r}"
        raise BadData(f"{self.origin.place(row)}: column {self.name!r} {found}{others}; allowed: {allowed}; {todo}")

    def wrong_type(self, allowed: str, todo: str) -> BadData:
        """Make the error for a column whose type no value could mend."""
        return BadData(
            f"{self.origin.place(0)}: column {self.name!r} is of type {self.values.dtype}; allowed: {allowed}; {todo}"
        )
