"""Times: every unit becomes the same milliseconds, and a wrong unit is named."""

import time
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.sources.tables import table
from upnext.base.errors import BadData
from upnext.events.sources.raw import Column, Origin, Part
from upnext.events.sources.times import TimeUnit, read_times

NOON = 1719835200  # 2024-07-01 12:00:00 UTC


def column(values, dtype=None) -> Column:
    return Column(pl.Series("time", values, dtype=dtype, strict=False), Origin([Part(Path("log"), len(values))]))


def refusal(values, unit, dtype=None) -> str:
    with pytest.raises(BadData) as caught:
        read_times(column(values, dtype), unit)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([NOON, NOON + 1], "s"),
        ([float(NOON), NOON + 1.0], "s"),
        ([f"{NOON}", f" {NOON + 1}.0"], "s"),
        ([NOON * 1000, NOON * 1000 + 1000], "ms"),
        ([NOON * 1000_000 + 999, NOON * 1000_000 + 1000_999], "us"),
        (["2024-07-01T12:00:00Z", "2024-07-01 12:00:01"], "iso"),
        (["2024-07-01T14:00:00+02:00", "2024-07-01T06:30:01-0530"], "iso"),
        ([datetime(2024, 7, 1, 12), datetime(2024, 7, 1, 12, 0, 1)], None),
        ([datetime(2024, 7, 1, 12, tzinfo=UTC), datetime(2024, 7, 1, 12, 0, 1, tzinfo=UTC)], None),
    ],
)
def test_units(values, unit):
    assert read_times(column(values), unit).to_list() == [NOON * 1000, NOON * 1000 + 1000]


def test_milliseconds_survive():
    assert read_times(column([1719830000.123]), "s").to_list() == [1719830000123]
    assert read_times(column(["2024-07-01T10:33:20.123456Z"]), "iso").to_list() == [1719830000123]
    assert read_times(column(["2024-07-01T10:33:20,1"]), "iso").to_list() == [1719830000100]
    zurich = pl.Series("time", ["2024-07-01 12:33:20.123"]).str.to_datetime().dt.replace_time_zone("Europe/Zurich")
    for unit in ("ms", "us", "ns"):
        values = Column(zurich.dt.cast_time_unit(unit), Origin([Part(Path("log"), 1)]))
        assert read_times(values, None).to_list() == [1719830000123]


def test_dates_are_midnight():
    cases: list[tuple[list[Any], TimeUnit | None]] = [([date(2024, 7, 1)], None)]
    cases += [(["2024-07-01"], "iso"), (["2024-07-01T00:00"], "iso")]
    for values, unit in cases:
        assert read_times(column(values), unit).to_list() == [(NOON - 12 * 3600) * 1000]


@settings(deadline=None, max_examples=100)
@given(
    st.datetimes(datetime(1990, 1, 2), datetime(2024, 12, 31)),
    st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_iso_agrees_with_python(moment, zone):
    expected = int(moment.replace(tzinfo=UTC).timestamp()) * 1000 + moment.microsecond // 1000
    texts = [moment.isoformat(), moment.replace(tzinfo=UTC).astimezone(zone).isoformat(" ")]
    assert read_times(column(texts), "iso").to_list() == [expected] * 2


def test_a_wrong_unit_is_named(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,time\n1,a,1719830000123\n2,b,1719830000124\n")
    with pytest.raises(BadData) as caught:
        table(path=str(path), time="time", time_unit="s")
    assert str(caught.value) == (
        f'{path} row 1 (line 2): time 1719830000123 looks like milliseconds; declare time_unit = "ms"'
    )
    assert 'time 1719830000 looks like seconds; declare time_unit = "s"' in refusal([1719830000], "us")
    assert "looks like nanoseconds; divide it by 1000" in refusal([1719830000000000000], "s")
    assert 'declare time_unit = "iso"' in refusal(["2024-07-01"], "s")
    assert 'time 1719830000 is a number, but time_unit = "iso"' in refusal([1719830000], "iso")
    assert 'declare time_unit = "s"' in refusal([1719830000], "iso")


def test_mixed_units_are_refused():
    message = refusal([1719830000, 1719830001, 1719830002123], "s")
    assert "log row 3: time 1719830002123 looks like milliseconds, but time 1719830000 of log row 1" in message
    assert "is in seconds; write the whole column in one unit" in message
    assert "log row 1: time 1719830000 looks like seconds" in refusal([1719830000, 1719830001000], "ms")


def test_no_unit():
    assert "time 1719830000, which looks like seconds, but no time_unit" in refusal([1719830000], None)
    assert 'declare time_unit = "iso"' in refusal(["2024-07-01T10:00:00"], None)
    assert "declare the time_unit that it is in" in refusal(["yesterday"], None)


@pytest.mark.parametrize("value", [0, 1, -1, 631151999, int(time.time()) + 90_000, 2**62])
def test_moments_that_cannot_be(value):
    message = refusal([NOON, value], "s")
    assert f"log row 2: time {value} is " in message
    assert "allowed: 1990-01-01 to" in message
    assert "1990-01-01" in refusal([datetime(1989, 12, 31)], None)
    assert "1990-01-01" in refusal(["1970-01-01"], "iso")


def test_tomorrow_is_allowed():
    soon = int(time.time()) + 3600
    assert read_times(column([631152000, soon]), "s").to_list() == [631152000000, soon * 1000]


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        ([NOON, None], "s", "row 2: column 'time' is missing; allowed: a time on every row"),
        ([float(NOON), float("nan")], "s", "row 2: column 'time' is nan; allowed: a number of seconds"),
        ([f"{NOON}", "soon"], "s", "row 2: column 'time' is 'soon'; allowed: a number of seconds"),
        ([f"{NOON}", "inf"], "s", "row 2: column 'time' is 'inf'"),
        (["2024-07-01", "01/07/2024"], "iso", "row 2: column 'time' is '01/07/2024'; allowed: ISO 8601"),
        (["2024-07-01", "2024-13-01"], "iso", "row 2: column 'time' is '2024-13-01'; allowed: ISO 8601"),
        (["2024-07-01", "2024-07-01T25:00"], "iso", "row 2: column 'time' is '2024-07-01T25:00'"),
    ],
)
def test_unreadable_times(values, unit, message):
    assert message in refusal(values, unit)


def test_types_that_hold_no_time():
    assert "of type Float32" in refusal([NOON], "s", pl.Float32)
    assert "of type Boolean" in refusal([True], "s")
    assert "of type Duration" in refusal([timedelta(hours=1)], None)
