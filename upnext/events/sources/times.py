"""Times of a source in the one form that the log keeps: int64 milliseconds UTC."""

import time
from datetime import UTC, datetime, timedelta
from typing import Literal

import polars as pl

from upnext.base.errors import BadData
from upnext.events.sources.raw import Column

__all__ = ["TimeUnit", "guess_unit", "read_times"]

TimeUnit = Literal["s", "ms", "us", "iso"]

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_CALLED = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "iso": "ISO 8601 text",
}
_EARLIEST_S = 631_152_000  # 1990-01-01: anything before is a mistake of unit, or a zero

_ISO = r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2})?(?:[.,](\d{1,9}))?)? ?(?:[Zz]|([+-]\d{2}):?(\d{2})?)?$"
_ISO_EXAMPLE = '"2024-07-01T10:00:00Z"'


def read_times(column: Column, unit: TimeUnit | None) -> pl.Series:
    """Read a column of times.

    Args:     unit: of numbers, or "iso" for text; a column of Parquet timestamps needs none.
              Times without a zone are UTC. What is finer than a millisecond is cut off.
    Returns:  (rows,) Int64 milliseconds since 1970, without nulls.
    Raises:   BadData: a missing or unreadable time, one before 1990 or after tomorrow, or a wrong unit.
    """
    column.refuse(column.values.is_null(), "a time on every row", "add it, or remove the row")
    if column.values.dtype.is_temporal():
        return _within(column, _from_temporal(column), "ms")
    if unit is None:
        raise BadData(_undeclared(column))
    if unit == "iso":
        return _within(column, _from_iso(column), "ms")
    numbers = _numbers(column, unit)
    if numbers.dtype == pl.Float64:
        numbers = _within(column, numbers, unit)
        # Fractions of a microsecond change nothing of the others: parts of a column may be whole, or not.
        milliseconds = (numbers / 1000).floor() if unit == "us" else (numbers * (1000 / _PER_SECOND[unit])).round()
        return milliseconds.cast(pl.Int64)
    numbers = _within(column, numbers, unit)
    return numbers * 1000 if unit == "s" else numbers // (_PER_SECOND[unit] // 1000)


def _from_temporal(column: Column) -> pl.Series:
    values = column.values
    if isinstance(values.dtype, pl.Date):
        return values.cast(pl.Datetime("ms")).dt.timestamp("ms")
    if not isinstance(values.dtype, pl.Datetime):
        raise column.wrong_type("timestamps, or numbers since 1970", "join the date to it")
    return values.dt.timestamp("ms")


def _from_iso(column: Column) -> pl.Series:
    if column.values.dtype != pl.String:
        raise BadData(
            f"{column.origin.place(0)}: {column.name} {column.values[0]} is a number, but"
            f' time_unit = "iso" reads text; {_advice(guess_unit(column.values[0]))}'
        )
    frame = column.values.str.strip_chars().str.extract_groups(_ISO).struct.unnest()
    day, minute, second, fraction, hours, minutes = (pl.col(name) for name in frame.columns)
    text = day + " " + minute.fill_null("00:00") + second.fill_null(":00")
    moment = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms", strict=False).dt.timestamp("ms")
    part = (fraction.fill_null("") + "000").str.slice(0, 3).cast(pl.Int64)
    sign = pl.when(hours.str.starts_with("-")).then(-1).otherwise(1)
    offset = hours.cast(pl.Int64).fill_null(0) * 60 + sign * minutes.cast(pl.Int64).fill_null(0)
    values = frame.select((moment + part - offset * 60_000).alias(column.name)).to_series()
    column.refuse(
        values.is_null(),
        f"ISO 8601 text such as {_ISO_EXAMPLE}",
        "correct it, or declare the time_unit it is in",
    )
    return values


def _numbers(column: Column, unit: TimeUnit) -> pl.Series:
    """Read numbers as Int64 where all are whole, else as Float64, which is exact to the microsecond."""
    values = column.values
    if values.dtype == pl.String:
        text = values.str.strip_chars()
        whole = text.cast(pl.Int64, strict=False)
        values = whole if whole.null_count() == 0 else text.cast(pl.Float64, strict=False)
    elif values.dtype.is_integer():
        values = values.cast(pl.Int64, strict=False)
    elif values.dtype != pl.Float64:
        raise column.wrong_type("int64, float64, timestamps or text for a time", "store int64 milliseconds")
    unreadable = values.is_null() if values.dtype == pl.Int64 else ~values.is_finite().fill_null(False)
    row = unreadable.arg_max()
    found = None if row is None or not unreadable[row] else column.values[row]
    todo = 'correct it, or declare time_unit = "iso"' if guess_unit(found) == "iso" else "correct it, or remove the row"
    column.refuse(unreadable, f"a number of {_CALLED[unit]} since 1970", todo)
    return values


def _within(column: Column, values: pl.Series, unit: str) -> pl.Series:
    """Refuse what cannot be when an event happened; say which unit it looks like, if any."""
    per_second = _PER_SECOND[unit]
    good = values.is_between(_EARLIEST_S * per_second, _latest_s() * per_second)
    if good.all():
        return values
    row = int((~good).arg_max() or 0)
    value, place = column.values[row], column.origin.place(row)
    guess = guess_unit(value)
    if guess not in (None, "iso", unit):
        known = _known_good(column, good)
        if known is None:
            raise BadData(f"{place}: {column.name} {value} looks like {_CALLED[guess or unit]}; {_advice(guess)}")
        raise BadData(
            f"{place}: {column.name} {value} looks like {_CALLED[guess or unit]}, but {column.name} {known} is in"
            f" {_CALLED[unit]}; write the whole column in one unit"
        )
    latest = datetime.fromtimestamp(_latest_s(), UTC)
    raise BadData(
        f"{place}: {column.name} {value} is {_called(float(values[row]) / per_second)}; allowed: 1990-01-01"
        f" to {latest:%Y-%m-%d %H:%M} UTC, one day from now; correct it, or remove the row"
    )


def _known_good(column: Column, good: pl.Series) -> str | None:
    """A value that is in the declared unit, and its place; None if there is none so far."""
    if column.origin.first is not None:
        return f"{column.origin.first.values[column.name]} of {column.origin.first.place}"
    row = good.arg_max()
    return f"{column.values[row]} of {column.origin.place(row)}" if row is not None and good[row] else None


def _latest_s() -> int:
    return int(time.time()) + 86_400


def _called(seconds: float) -> str:
    try:
        return f"{datetime(1970, 1, 1) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError):
        return "in no calendar"


def guess_unit(value: object) -> str | None:
    """Guess the unit in which a value would be a moment between 1990 and tomorrow: s, ms, us, ns, iso, or None."""
    text = str(value).strip()
    if pl.Series([text]).str.contains(_ISO).item():
        return "iso"
    try:
        number = float(text)
    except ValueError:
        return None
    units = (unit for unit, per_second in _PER_SECOND.items() if _EARLIEST_S <= number / per_second <= _latest_s())
    return next(units, None)


def _advice(guess: str | None) -> str:
    if guess is None:
        return "declare the time_unit that it is in: s, ms, us or iso"
    return 'divide it by 1000 and declare time_unit = "us"' if guess == "ns" else f'declare time_unit = "{guess}"'


def _undeclared(column: Column) -> str:
    value = column.values[0]
    guess = guess_unit(value)
    looks = "" if guess is None else f", which looks like {_CALLED[guess]}"
    place = column.origin.place(0)
    return f"{place}: {column.name} {value}{looks}, but no time_unit is declared; {_advice(guess)}"
