"""Conditions: their grammar, what fulfils them, and what a mistake is told."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.errors import BadConfig
from upnext.base.views import Condition


def select(text: str, **columns: Sequence[float | None]) -> list[bool]:
    """Evaluate a condition; None is a value that was not observed and lies in the array as 0."""
    values = {name: np.array([0 if v is None else v for v in column], np.float32) for name, column in columns.items()}
    observed = {name: np.array([v is not None for v in column], bool) for name, column in columns.items()}
    selected: list[bool] = Condition.parse(text).select(values, observed).tolist()
    return selected


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (">=", [False, True, True]),
        (">", [False, False, True]),
        ("<=", [True, True, False]),
        ("<", [True, False, False]),
        ("==", [False, True, False]),
        ("!=", [True, False, True]),
    ],
)
def test_each_comparison(operator: str, expected: list[bool]) -> None:
    assert select(f"x {operator} 2", x=[1, 2, 3]) == expected


def test_and_binds_tighter_than_or() -> None:
    a, b, c = [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1, 0, 1]
    expected = [bool(x or (y and z)) for x, y, z in zip(a, b, c, strict=True)]
    assert select("a == 1 or b == 1 and c == 1", a=a, b=b, c=c) == expected
    assert select("b == 1 and c == 1 or a == 1", a=a, b=b, c=c) == expected


@pytest.mark.parametrize("operator", [">=", ">", "<=", "<", "==", "!="])
def test_what_was_not_observed_fulfils_no_comparison(operator: str) -> None:
    """Not even those that the zero in its place would fulfil."""
    for number in ("-1", "0", "1"):
        assert select(f"x {operator} {number}", x=[None, None]) == [False, False]


def test_an_unobserved_value_leaves_the_other_alternative_alone() -> None:
    assert select("x < 1 or y == 1", x=[None, None], y=[1, None]) == [True, False]
    assert select("x < 1 and y == 1", x=[None, 0], y=[1, 1]) == [False, True]


def test_a_threshold_meets_the_same_decimal_in_a_column() -> None:
    """0.7 as float32 lies below 0.7 as float64; who wrote "played >= 0.7" means the float32."""
    assert select("played >= 0.7 and played <= 0.7", played=[0.7, 0.6, 0.8]) == [True, False, False]


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [("x>=-1.5", -1.5, True), (" x  ==  +2 ", 2, True), ("x==1 and\tx==1", 1, True), ("x < -0.25", 0, False)],
)
def test_signs_decimals_and_spaces(text: str, x: float, expected: bool) -> None:
    assert select(text, x=[x]) == [expected]


def test_the_words_and_and_or_inside_a_name_are_part_of_it() -> None:
    assert select("brand == 1 and order == 2", brand=[1], order=[2]) == [True]
    assert Condition.parse("a_or_b > 1").names == {"a_or_b"}


def test_names_are_all_that_the_condition_reads() -> None:
    assert Condition.parse("a == 1 or b == 1 and a < 3 or c2 > 0").names == {"a", "b", "c2"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "''"),
        ("played", "'played'"),
        ("played >= ", "'played >='"),
        ("played => 0.5", "'played => 0.5'"),
        ("0.5 <= played", "'0.5 <= played'"),
        ("played >= 0.5 and", "''"),
        ("played >= 0.5 or or like == 1", "''"),
        ("(played >= 0.5)", "'(played >= 0.5)'"),
        ("played >= 0.5 AND like == 1", "'played >= 0.5 AND like == 1'"),
        ("like == 1 or played >= half", "'played >= half'"),
        ("played = 1", "'played = 1'"),
    ],
)
def test_a_mistake_is_shown_where_it_is(text: str, where: str) -> None:
    with pytest.raises(BadConfig) as caught:
        Condition.parse(text)
    assert repr(text) in str(caught.value)
    assert f"at {where};" in str(caught.value)
    assert "played >= 0.5 or like == 1" in str(caught.value)  # an example of what is allowed


def test_no_events_give_an_empty_selection() -> None:
    assert select("x == 1 or y == 2", x=[], y=[]) == []


COMPARISON = st.tuples(
    st.sampled_from(["x", "y", "z"]), st.sampled_from([">=", "<=", "==", "!=", ">", "<"]), st.integers(-2, 2)
)
ROW = st.tuples(*[st.none() | st.integers(-2, 2)] * 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(COMPARISON, min_size=1, max_size=3), min_size=1, max_size=3), st.lists(ROW, max_size=5))
def test_equals_python_row_by_row(alternatives, rows) -> None:
    text = " or ".join(" and ".join(f"{n} {o} {v}" for n, o, v in part) for part in alternatives)

    def holds(row, name, operator, number):
        value = row["xyz".index(name)]
        return value is not None and bool(eval(f"{value} {operator} {number}"))

    expected = [any(all(holds(row, *comparison) for comparison in part) for part in alternatives) for row in rows]
    columns = {name: [row["xyz".index(name)] for row in rows] for name in "xyz"}
    assert select(text, **columns) == expected
