"""Features of side tables: which columns models may read, and how each kind is read and checked."""

from collections.abc import Mapping
from typing import Annotated

import polars as pl
from pydantic import Field, model_validator

from upnext.base.configuration import Config
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE, USER_ID, FeatureKind
from upnext.events.sources.columns import read_categories, read_genres, read_numbers
from upnext.events.sources.raw import Column

__all__ = ["FeatureColumn", "check_features", "read_feature"]

_SHOWN: dict[str, tuple[FeatureKind, ...]] = {
    TITLE: ("text", "categorical"),
    GENRES: ("multi",),
    COLLECTION: ("categorical", "text"),
}
"""Columns that the page shows, and as what a feature of that name may read them."""


class FeatureColumn(Config):
    """A column of a side table that holds at any time, so that a model may read it."""

    column: str
    """By default the feature's own name."""
    kind: FeatureKind
    """A category, several (`multi`), a number, a text, or a vector of numbers."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Between the values of a `multi` or a `vector` in text; unset, `|`. Lists need none."""

    @model_validator(mode="after")
    def _separator_has_an_effect(self) -> "FeatureColumn":
        if self.separator is not None and self.kind not in ("multi", "vector"):
            raise ValueError(f'separator = {self.separator!r} has no effect on kind = "{self.kind}"; remove it')
        return self


def check_features(
    features: Mapping[str, FeatureColumn], id_column: str, shown: Mapping[str, str | None] | None = None
) -> None:
    """Refuse features that are the id, that repeat each other, or that take the name of what the page shows.

    Args:     shown: of a table of items, the columns of title, genres and collection, where they are given.
    Raises:   ValueError: the feature, the column, what to do.
    """
    taken: dict[tuple[str, str], str] = {}
    for name, feature in features.items():
        if name in (ITEM_ID, USER_ID) or feature.column == id_column:
            raise ValueError(
                f"the feature {name!r} reads the id, column {feature.column!r}: models know it by itself; remove it"
            )
        other = taken.setdefault((feature.column, feature.kind), name)
        if other != name:
            raise ValueError(f"the features {other!r} and {name!r} both read column {feature.column!r}; remove one")
        kinds = _SHOWN.get(name)
        if kinds is None or shown is None:
            continue
        if feature.column != (shown.get(name) or name):
            raise ValueError(
                f"{name!r} is column {shown.get(name) or name!r} to the page; give the feature that reads"
                f" {feature.column!r} another name"
            )
        if feature.kind not in kinds:
            raise ValueError(f"the feature {name!r} has kind {feature.kind!r}; allowed: {' or '.join(kinds)}")
        if feature.separator is not None:
            raise ValueError(f"separator has no effect on the feature {name!r}; set genre_separator beside it")


def read_feature(column: Column, kind: FeatureKind, separator: str = "|") -> pl.Series:
    """Read a feature: null (for `multi` an empty list) where it was not observed.

    Returns:  categorical and text: String; multi: List(String); numeric: Float64; vector: List(Float32), all of one
              length. Dates become days, and moments milliseconds, since 1970.
    Raises:   BadData: values of another kind, an infinite number, vectors of several lengths or with a gap.
    """
    match kind:
        case "categorical":
            values = read_categories(column)
            return values.set(values == "", None)
        case "multi":
            return _multi(column, separator)
        case "numeric":
            return _numeric(column)
        case "text":
            if column.values.dtype not in (pl.String, pl.Null):
                raise column.wrong_type("text", 'convert the column, or declare kind = "categorical"')
            text = column.values.cast(pl.String)
            return text.set(text.str.strip_chars() == "", None)
        case "vector":
            return _vector(column, separator)


def _multi(column: Column, separator: str) -> pl.Series:
    inner = column.values.dtype.inner if isinstance(column.values.dtype, pl.List | pl.Array) else None
    if inner is not None and not (inner in (pl.String, pl.Null, pl.Boolean) or inner.is_integer()):
        raise column.wrong_type("lists of text or integers", "convert the column")
    return read_genres(column, separator, "separator")


def _numeric(column: Column) -> pl.Series:
    if column.values.dtype == pl.Date:
        return column.values.cast(pl.Int32).cast(pl.Float64)
    if isinstance(column.values.dtype, pl.Datetime):
        return column.values.dt.timestamp("ms").cast(pl.Float64)
    return read_numbers(column)


def _vector(column: Column, separator: str) -> pl.Series:
    values = column.values
    if values.dtype == pl.String:
        lists = values.str.split(separator).list.eval(pl.element().str.strip_chars().cast(pl.Float64, strict=False))
        lists = _where(lists, values.str.strip_chars() != "")
    elif isinstance(values.dtype, pl.List | pl.Array) and values.dtype.inner.is_numeric():
        lists = values.cast(pl.List(pl.Float64))
    else:
        raise column.wrong_type("lists of numbers, or text with a separator", "convert the column")
    lists = _where(lists, lists.list.len() > 0).cast(pl.List(pl.Float32)).alias(column.name)
    lengths = lists.list.len()
    if lengths.null_count() == len(lengths):
        column.refuse(lengths.is_null(), "a vector on at least one row", "fill the column, or remove the feature")
    first = int(lengths.drop_nulls()[0])
    shown = Column((lengths.cast(pl.String) + " numbers").alias(column.name), column.origin)
    shown.refuse(lengths != first, f"{first} numbers, as on the first row with any", "give all vectors one length")
    broken = lists.list.eval(pl.element().is_null() | ~pl.element().is_finite()).list.any()
    what = pl.Series(column.name, ["a vector with a gap, or with a number that is not finite"]).new_from_index(
        0, len(lists)
    )
    Column(what, column.origin).refuse(broken, "finite numbers", "mend the vector, or leave the row empty")
    return lists


def _where(lists: pl.Series, kept: pl.Series) -> pl.Series:
    """Null where a list is not kept."""
    return pl.select(pl.when(kept).then(lists)).to_series()
