"""Guessing roles on tables of many shapes: each test is a table and what a person would say of it."""

from typing import Any

import polars as pl
import pytest

from upnext.base.errors import BadConfig
from upnext.events.sources.guess import Guesses, guess_columns

N = 40
S = 1_700_000_000
BIG = 2**53 + 1


def guess(columns: dict[str, Any], untyped: bool = False, **given: str) -> Guesses:
    return guess_columns(pl.DataFrame(columns), untyped, given)


def roles(columns: dict[str, Any], untyped: bool = False, **given: str) -> dict[str, tuple[str, str | None]]:
    return {found.column: (found.role, found.kind) for found in guess(columns, untyped, **given).columns}


def log(**more: Any) -> dict[str, Any]:
    """A plain log of N rows, and more columns."""
    base = {"user_id": [i % 7 for i in range(N)], "item_id": [BIG + i % 11 for i in range(N)]}
    return base | {"timestamp": [S + 3600 * i for i in range(N)]} | more


def text(columns: dict[str, Any]) -> dict[str, list[str | None]]:
    """The same table as a CSV file holds it."""
    return {name: [None if value is None else str(value) for value in values] for name, values in columns.items()}


def test_a_plain_log():
    assert roles(log()) == {"user_id": ("user", None), "item_id": ("item", None), "timestamp": ("time", "s")}
    assert guess(log()).span_ms == 3_600_000 * (N - 1)
    assert guess(log()).problems == []
    assert guess(log()).columns[1].sample == [str(BIG), str(BIG + 1), str(BIG + 2)]
    assert roles(text(log()), untyped=True) == roles(log())


@pytest.mark.parametrize(
    ("user", "item"),
    [
        ("reviewerID", "asin"),
        ("visitorid", "sku"),
        ("customer_id", "product_id"),
        ("userId", "movieId"),
        ("uid", "track_id"),
        ("user", "click_article_id"),
        ("session_id", "item"),
        ("who", "what"),  # no name says it: the first two columns whose ids repeat
    ],
)
def test_names_of_users_and_items(user, item):
    columns = log()
    found = roles({item: columns["item_id"], user: columns["user_id"]} if user != "who" else
                  {user: columns["user_id"], item: columns["item_id"]})  # fmt: skip
    assert found == {user: ("user", None), item: ("item", None)}


@pytest.mark.parametrize(("factor", "unit"), [(1, "s"), (1000, "ms"), (1_000_000, "us")])
def test_the_unit_of_times_comes_from_their_size(factor, unit):
    columns = log(timestamp=[(S + 60 * i) * factor for i in range(N)])
    for found in (guess(columns), guess(text(columns), untyped=True)):
        assert [(time.column, time.kind) for time in found.of("time")] == [("timestamp", unit)]
        assert found.span_ms == 60_000 * (N - 1)


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%3f"])
def test_iso_text(form):
    moments = pl.from_epoch(pl.Series([S + 86_400 * i for i in range(N)])).dt.strftime(form)
    found = guess(log(timestamp=moments), untyped=True)
    assert [(time.column, time.kind) for time in found.of("time")] == [("timestamp", "iso")]
    assert found.span_ms == 86_400_000 * (N - 1)


def test_parquet_timestamps_need_no_unit():
    found = guess(log(timestamp=pl.from_epoch(pl.Series(range(S, S + N)))))
    assert [(time.column, time.kind) for time in found.of("time")] == [("timestamp", None)]


@pytest.mark.parametrize(
    "times", [None, list(range(N)), [S * 10**9 + i for i in range(N)], [None, *range(S, S + N - 1)]]
)
def test_no_usable_time(times):
    columns = log()
    del columns["timestamp"]
    found = guess(columns if times is None else columns | {"timestamp": times})
    assert found.of("time") == []
    assert found.span_ms is None
    assert found.problems == []


def test_of_several_times_the_finest_is_chosen():
    days = [(S // 86_400 + i // 20) * 86_400 for i in range(N)]
    found = roles(log(session_start=days, date=["2023-11-14"] * N))
    assert found["timestamp"] == ("time", "s")
    assert found["session_start"] == found["date"] == ("left out", None)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("rating", [1 + i % 5 for i in range(N)], ("feedback", "amount")),
        ("stars", [0.5 * (1 + i % 10) for i in range(N)], ("feedback", "amount")),
        ("played", [i / N for i in range(N)], ("feedback", "fraction")),
        ("is_click", [i % 3 % 2 for i in range(N)], ("feedback", "binary")),
        ("liked", [i % 2 == 0 for i in range(N)], ("feedback", "binary")),
        ("purchased", [None if i % 2 else float(i % 4 == 0) for i in range(N)], ("feedback", "binary")),
        ("watch_seconds", [i * 7 for i in range(N)], ("feedback", "amount")),
        ("score", [i - 5 for i in range(N)], ("left out", None)),
        ("reaction", ["love", "hate"] * (N // 2), ("left out", None)),
        ("whatever", [i % 3 % 2 for i in range(N)], ("feedback", "binary")),
        ("event_type", ["view", "buy", "view", "cart"] * (N // 4), ("left out", None)),
        ("device", ["tv", "phone", None, "tv", "web"] * (N // 5), ("context", "categorical")),
        ("click_deviceGroup", [i * i % 5 for i in range(N)], ("context", "categorical")),
        ("mood", ["a", "b", "b", "c", "a"] * (N // 5), ("context", "categorical")),
        ("note", [f"text {i}" for i in range(N)], ("left out", None)),
        ("price_paid", [i * 1.5 + 3 for i in range(N)], ("left out", None)),
        ("page_view_id", [i // 4 for i in range(N)], ("request", None)),
        ("request_id", [f"r{i}" for i in range(N)], ("left out", None)),
        ("position", [i % 4 for i in range(N)], ("position", None)),
        ("event_id", list(range(N)), ("left out", None)),
        ("interaction_id", [0] * N, ("left out", None)),  # of several users and items
        ("genre", [f"g{i % 11 % 3}" for i in range(N)], ("left out", None)),  # follows from the item
        ("gender", ["mf"[i % 7 % 2] for i in range(N)], ("left out", None)),  # follows from the user
        ("empty", [None] * N, ("left out", None)),
        ("surface", ["home"] * N, ("left out", None)),
        ("tags", [["a"], ["b"]] * (N // 2), ("left out", None)),
        ("session_size", [i % 5 + 2 for i in range(N)], ("left out", None)),
    ],
)
def test_other_columns(name, values, expected):
    assert roles(log(**{name: values}))[name] == expected
    if name != "tags":
        columns = text(log(**{name: values}))
        as_text = {key: ["" if v is None else v for v in column] for key, column in columns.items()}
        frame = pl.DataFrame(as_text).with_columns(pl.when(pl.all() != "").then(pl.all()).name.keep())
        found = {one.column: (one.role, one.kind) for one in guess_columns(frame, True).columns}
        assert found[name] == expected


def test_a_property_of_an_item_says_so():
    reasons = {one.column: one.reason for one in guess(log(genre=[f"g{i % 11 % 3}" for i in range(N)])).columns}
    assert reasons["genre"] == "always the same for one item: it belongs into a table of items"


@pytest.mark.parametrize("untyped", [True, False])
def test_ids_as_floats_are_a_problem(untyped):
    columns: dict[str, Any] = log(user_id=[float(i % 7) for i in range(N)])
    found = guess(text(columns) if untyped else columns, untyped)
    assert [one.column for one in found.of("user")] == ["user_id"]
    assert "column 'user_id' holds user ids as floats such as 0.0; store them as integers or text" in found.problems[0]


def test_problems():
    assert "lacks the item on 1 rows" in guess(log(item_id=[None, *range(N - 1)])).problems[0]
    assert "no column looks like users" in guess({"a": [1.5, 2.5], "b": [2.5, 3.5]}).problems[0]
    assert guess({"user_id": [], "item_id": []}).problems == ["the table has no rows"]


def test_what_is_given_is_not_guessed():
    columns = {"buyer": [1, 2, 1, 3], "item_id": [5, 6, 6, 7], "user_id": [9, 9, 8, 8], "day": ["2024-01-01"] * 4}
    found = roles(columns, user="buyer", time="day")
    assert found["buyer"] == ("user", None)
    assert found["item_id"] == ("item", None)
    assert found["day"] == ("time", "iso")
    assert found["user_id"][0] != "user"
    with pytest.raises(BadConfig, match=r"--item thing: there is no such column; the table has buyer, item_id"):
        guess(columns, item="thing")
    with pytest.raises(BadConfig, match=r"--time item_id: its values are no times"):
        guess(columns, time="item_id")
