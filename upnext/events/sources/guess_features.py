"""Guessing what the columns of a side table are: the id, what the page shows, and what models may read."""

from collections.abc import Sequence

import polars as pl

from upnext.base.errors import BadData
from upnext.base.schema import COLLECTION, GENRES, TITLE
from upnext.events.leaks import is_counted
from upnext.events.sources.guess import Guess, as_id, name_words, plainest, with_sample

__all__ = ["guess_features"]

_TITLES = ("title", "name", "headline")
_GENRES = ("genres", "genre", "categories", "tags")
_COLLECTIONS = ("collection", "section")
_CODES = frozenset(("id", "code", "type", "category", "brand", "author", "artist", "publisher"))
_MOST_CODES = 50
"""Integers of so few different values are codes, unless their name says otherwise."""
_MARK = "|"


def guess_features(frame: pl.DataFrame, is_untyped: bool, owner: str, event_column: str) -> list[Guess]:
    """Guess the role of every column of a side table, in the order of the table.

    Args:     is_untyped: whether values are text whose types are ours to decide (CSV); owner: "item" or "user";
              event_column: what the events call the ids.
    Returns:  a guess per column; the role is the owner, title, genres, collection, feature, or left out.
    Raises:   BadData: no column holds each id once.
    """
    table = frame.select(plainest(frame[name], is_untyped) for name in frame.columns)
    ids = _id_column(table, owner, event_column)
    guesses = []
    taken: set[str] = set()
    for name in table.columns:
        if name == ids:
            guess = Guess(name, "item" if owner == "item" else "user", None, "each of its values stands on one row")
        else:
            guess = _guess(table[name], owner, taken)
            taken.add(guess.role)
        guesses.append(with_sample(guess, frame[name]))
    return guesses


def _id_column(table: pl.DataFrame, owner: str, event_column: str) -> str:
    unique = [name for name in table.columns if as_id(table[name]) and table[name].n_unique() == table.height]
    named = [name for name in unique if "id" in name_words(name) or owner in name_words(name)]
    for name in (event_column, *named, *unique):
        if name in unique:
            return name
    raise BadData(
        f"no column of the {owner} table holds each id once ({', '.join(table.columns)}); keep one row per {owner},"
        " with ids as integers or text"
    )


def _guess(values: pl.Series, owner: str, taken: set[str]) -> Guess:
    name, words = values.name, name_words(values.name)
    known = values.drop_nulls()
    if known.is_empty() or (not isinstance(values.dtype, pl.List | pl.Array) and known.n_unique() == 1):
        return Guess(name, "left out", None, "empty, or the same on every row")
    if is_counted(name):
        return Guess(name, "left out", None, "its name says that it was counted: it may know the future")
    if isinstance(values.dtype, pl.List | pl.Array):
        return _list(values, owner, taken)
    if values.dtype.is_temporal():
        return Guess(name, "feature", "numeric", "a date or a moment")
    if values.dtype == pl.String:
        return _text(values, owner, taken)
    if values.dtype.is_float() or values.dtype == pl.Boolean:
        kind = "numeric" if values.dtype.is_float() else "categorical"
        return Guess(name, "feature", kind, "numbers" if kind == "numeric" else "yes or no")
    if not values.dtype.is_integer():
        return Guess(name, "left out", None, f"of type {values.dtype}")
    distinct = known.n_unique()
    if _CODES & set(words):
        if distinct == len(known):
            return Guess(name, "left out", None, "different on every row: another id")
        return Guess(name, "feature", "categorical", f"integers, codes by its name; {distinct:,} different values")
    if distinct <= _MOST_CODES and distinct * 2 <= len(known) and not _looks_like_years(known):
        return Guess(
            name, "feature", "categorical", f"integers of {distinct} different values; numeric if they measure"
        )
    return Guess(name, "feature", "numeric", f"integers of {distinct:,} different values")


def _list(values: pl.Series, owner: str, taken: set[str]) -> Guess:
    inner = values.dtype.inner if isinstance(values.dtype, pl.List | pl.Array) else None
    lengths = values.drop_nulls().cast(pl.List(inner)).list.len() if inner is not None else values
    if inner is not None and inner.is_float():
        if lengths.n_unique() == 1:
            return Guess(values.name, "feature", "vector", f"lists of {lengths[0]} numbers")
        return Guess(values.name, "left out", None, "lists of numbers of several lengths: no vectors")
    if inner == pl.String or (inner is not None and inner.is_integer()):
        return _multi(values.name, "lists", owner, taken)
    return Guess(values.name, "left out", None, f"of type {values.dtype}")


def _multi(name: str, why: str, owner: str, taken: set[str]) -> Guess:
    if owner == "item" and GENRES not in taken and "".join(name_words(name)) in _GENRES:
        return Guess(name, "genres", "multi", f"{why}, and its name")
    return Guess(name, "feature", "multi", why)


def _text(values: pl.Series, owner: str, taken: set[str]) -> Guess:
    name, joined, known = values.name, "".join(name_words(values.name)), values.drop_nulls()
    distinct = known.n_unique()
    if _says(joined, _TITLES) and owner == "item" and TITLE not in taken:
        return Guess(name, "title", "text", f"its name; {distinct:,} different texts")
    if float(known.str.contains(_MARK, literal=True).mean() or 0) >= 0.1:  # type: ignore[arg-type]
        return _multi(name, f'"{_MARK}" between values', owner, taken)
    if joined in _COLLECTIONS and owner == "item" and COLLECTION not in taken:
        return Guess(name, "collection", "categorical", f"its name; {distinct:,} different values")
    if distinct * 2 <= len(known):
        return Guess(name, "feature", "categorical", f"{distinct:,} different values")
    if float(known.str.contains(r"\S\s+\S").mean() or 0) >= 0.5:  # type: ignore[arg-type]
        return Guess(name, "feature", "text", f"words; {distinct:,} different texts")
    return Guess(name, "left out", None, "different on nearly every row, and no words")


def _says(joined: str, names: Sequence[str]) -> bool:
    return any(joined.endswith(name) for name in names)


def _looks_like_years(values: pl.Series) -> bool:
    return bool(values.is_between(1850, 2100).all())
