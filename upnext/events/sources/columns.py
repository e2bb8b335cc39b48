"""Columns of a source in their canonical types, every value checked."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

from upnext.base.schema import ContextKind, FeedbackKind
from upnext.events.sources.raw import Column

__all__ = [
    "IdType",
    "SideIds",
    "read_amounts",
    "read_categories",
    "read_context",
    "read_feedback",
    "read_genres",
    "read_group_ids",
    "read_ids",
    "read_integers",
    "read_numbers",
    "read_untyped",
    "refuse_repeats",
]

IdType = Literal["integers", "text"]

_INTEGER = r"^(?:0|-?[1-9][0-9]*)$"
_DECIMAL = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$"
_FLOAT_ID = r"^-?[0-9]+(?:\.0+|\.[0-9]+[eE]\+[0-9]+)?$"  # what a number column becomes where a value is missing
_FLOAT_ADVICE = "store it as integers or text (pandas turns integers into floats where a value is missing)"


def read_ids(column: Column, published: IdType | None = None) -> pl.Series:
    """Read external ids: they stay what they are, and never pass through a float.

    Integers stay Int64 and text stays String. In a text file, ids are Int64 where every value is an integer
    in its one canonical spelling (no leading zeros, plus signs, spaces), else String: "0054890" stays.

    Args:     published: the type that a published text format gives its ids, whatever they look like.
    Returns:  (rows,) Int64 or String, without nulls.
    Raises:   BadData: a missing id, a float column, an integer outside int64, another type.
    """
    values = _ids(column, "integers or text")
    missing = values.is_null() if values.dtype != pl.String else values.is_null() | (values.str.strip_chars() == "")
    column.refuse(missing, "an id on every row", "add it, or remove the row")
    if published == "text" or not column.origin.is_untyped:
        return values
    if published == "integers":
        column.refuse(~values.str.contains(_INTEGER), "integers", "download the file again")
    return _integers_if_canonical(values)


def read_group_ids(column: Column) -> pl.Series:
    """Read ids of requests or interactions: (rows,) String, null where a row belongs to none."""
    values = _ids(column, "integers or text").cast(pl.String)
    return values.set(values == "", None)


def _ids(column: Column, allowed: str) -> pl.Series:
    values = column.values
    if values.dtype.is_integer():
        ids = values.cast(pl.Int64, strict=False)
        column.refuse(ids.is_null() & values.is_not_null(), "integers within int64", "store the column as text")
        return ids
    if values.dtype.is_float():
        column.refuse(values.is_not_null(), f"{allowed}, never floats: they confuse ids above 2^53", _FLOAT_ADVICE)
    if values.dtype == pl.Null:
        values = values.cast(pl.String)
    if values.dtype != pl.String:
        raise column.wrong_type(allowed, "convert the column")
    if column.origin.is_untyped and values.str.contains(_FLOAT_ID).all():
        floats = values.str.contains(".", literal=True)
        column.refuse(floats, f"{allowed}, never floats: they confuse ids above 2^53", _FLOAT_ADVICE)
    return values


def _is_canonical(values: pl.Series) -> bool:
    return bool(values.str.contains(_INTEGER).all()) and values.cast(pl.Int64, strict=False).null_count() == 0


def _integers_if_canonical(values: pl.Series) -> pl.Series:
    return values.cast(pl.Int64) if values.dtype == pl.String and _is_canonical(values) else values


@dataclass(frozen=True, eq=False)
class SideIds:
    """The ids of a side table: integers in the events, and text that holds no integer in the table, do not go together.

    Integers in their one spelling can become text and text that spells them integers, with none changed.
    """

    column: Column
    values: pl.Series

    @cached_property
    def _are_integers(self) -> bool:
        return self.values.dtype == pl.Int64 or _is_canonical(self.values)

    def join(self, events: Column, ids: pl.Series) -> pl.Series:
        """Bring the ids of events to a type that these ids can be cast to, changing none.

        Raises:   BadData: integers in the events, and text that is no integer in the side table.
        """
        if ids.dtype == pl.String or self._are_integers:
            return ids
        if not events.origin.is_untyped:
            self.column.refuse(
                ~self.values.str.contains(_INTEGER) | self.values.cast(pl.Int64, strict=False).is_null(),
                f"integers, as in column {events.name!r} of {events.origin.parts[0].path}",
                "store both columns as text, or both as integers",
            )
        return ids.cast(pl.String)


def refuse_repeats(column: Column, ids: pl.Series) -> None:
    """Refuse a side table that describes one id twice.

    Raises:   BadData: naming the second row of the first id that is repeated.
    """
    column.refuse(~ids.is_first_distinct(), "each id once", "keep one row per id")


def read_context(column: Column, kind: ContextKind) -> pl.Series:
    """Read a context: String for a categorical, Float32 for a numeric one; null where it was not observed."""
    return read_categories(column) if kind == "categorical" else _narrow(column, read_numbers(column))


def read_categories(column: Column) -> pl.Series:
    """Read categories as text: (rows,) String; whole numbers lose their ".0", booleans become true and false.

    Raises:   BadData: fractions, dates, lists and other types that are no categories.
    """
    values = column.values
    if values.dtype.is_float():
        whole = values.fill_nan(None).cast(pl.Float64)
        column.refuse(
            (whole != whole.floor()) | (whole.abs() > 2.0**53),
            "text, booleans, or whole numbers for a category",
            'store it as text, or declare kind = "numeric"',
        )
        return whole.cast(pl.Int64).cast(pl.String)
    plain = values.dtype.is_integer() or values.dtype in (pl.String, pl.Boolean, pl.Null, pl.Date)
    if not plain:
        raise column.wrong_type("text, integers or booleans for a category", "convert the column")
    return values.cast(pl.String)


def read_feedback(column: Column, kind: FeedbackKind) -> pl.Series:
    """Read a feedback: (rows,) Float32, null where it was not observed; booleans become 0 and 1.

    Raises:   BadData: no number, or not 0 or 1 (binary), outside [0, 1] (fraction), negative (amount).
    """
    values = read_numbers(column)
    if kind == "binary":
        bad, allowed, todo = ~values.is_in([0.0, 1.0]), "0 or 1 for binary feedback", 'declare kind "amount"'
    elif kind == "fraction":
        bad, allowed = ~values.is_between(0.0, 1.0), "0 to 1 for a fraction"
        todo = 'divide it, cut it off at 1, or declare kind "amount"'
    else:
        bad, allowed, todo = (
            values < 0.0,
            "0 or more for an amount",
            "leave it empty where it was not observed",
        )
    column.refuse(bad, allowed, todo)
    return _narrow(column, values)


def read_amounts(column: Column, highest: float) -> pl.Series:
    """Read an amount that a published format keeps within 0 and `highest`: (rows,) Float32, no nulls."""
    column.refuse(column.values.is_null(), f"0 to {highest:g}", "download the file again")
    values = read_numbers(column)
    column.refuse(~values.is_between(0.0, highest), f"0 to {highest:g}", "download the file again")
    return values.cast(pl.Float32)


def read_integers(column: Column, lowest: int, highest: int) -> pl.Series:
    """Read integers within a range, such as positions: (rows,) Int64, null where there is none.

    Raises:   BadData: no integer, or outside the range.
    """
    values = read_numbers(column)
    column.refuse(
        (values != values.floor()) | ~values.is_between(lowest, highest),
        f"integers from {lowest} to {highest}",
        "correct it, or leave it empty",
    )
    return values.cast(pl.Int64)


def read_numbers(column: Column) -> pl.Series:
    """Read numbers as Float64; what is empty or not a number (NaN) was not observed.

    Raises:   BadData: no number, or an infinite one.
    """
    values = column.values
    if values.dtype == pl.String:
        text = values.str.strip_chars()
        lower = text.str.to_lowercase()
        text = text.set(lower == "true", "1").set(lower == "false", "0").set(text == "", None)
        numbers = text.cast(pl.Float64, strict=False)
        column.refuse(numbers.is_null() & text.is_not_null(), "numbers", "correct it, or leave it empty")
    elif values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
        numbers = values.cast(pl.Float64)
    else:
        raise column.wrong_type("numbers or booleans", "convert the column")
    numbers = numbers.fill_nan(None)
    column.refuse(numbers.is_infinite(), "finite numbers", "leave it empty where it was not observed")
    return numbers


def _narrow(column: Column, values: pl.Series) -> pl.Series:
    narrow = values.cast(pl.Float32)
    column.refuse(narrow.is_infinite(), "numbers up to 3.4e38 (float32)", "measure it in a larger unit")
    return narrow


def read_genres(column: Column, separator: str, key: str = "genre_separator") -> pl.Series:
    """Read lists of names from lists, or from text with a separator: (rows,) List[String], never null.

    Args:     key: what the separator is called in the configuration.

    Raises:   BadData: another type.
    """
    values = column.values
    if values.dtype == pl.Null:
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        lists = values.str.split(separator)
    elif isinstance(values.dtype, pl.List | pl.Array):
        lists = values.cast(pl.List(pl.String))
    else:
        raise column.wrong_type(f"lists, or text with a {key}", "convert the column")
    cleaned = pl.element().str.strip_chars()
    kept = lists.list.eval(cleaned.filter(pl.element().is_not_null() & (cleaned != "")))
    empty = pl.Series([[]], dtype=pl.List(pl.String))
    return pl.select(pl.when(kept.is_not_null()).then(kept).otherwise(pl.lit(empty).first())).to_series()


def read_untyped(column: Column) -> pl.Series:
    """Give a column of a text file the plainest type that loses nothing: Int64, else Float64, else String."""
    values = column.values
    if values.dtype != pl.String or not column.origin.is_untyped or values.null_count() == len(values):
        return values
    observed = values.drop_nulls()
    if _is_canonical(observed):
        return values.cast(pl.Int64)
    return values.cast(pl.Float64) if observed.str.contains(_DECIMAL).all() else values
