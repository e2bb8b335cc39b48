"""Uplift: by hand, and only between what is alike."""

import numpy as np
import pytest

from tests.events.logs import Event, log_of
from upnext.base.protocols import Link
from upnext.evaluation.feedback import Foreseen
from upnext.evaluation.uplift import UpliftConfig, uplift_rows
from upnext.evaluation.utility import compared
from upnext.metrics.intervals import relative_rise

# Two users with a request of three items each: the pairs weigh 1/2, 1/2 and 1.
LOG = log_of([Event(user, 2 + n, n, 1, n / 2) for user in (2, 3) for n in range(3)])
ROWS = np.arange(6)
WEIGHTS = {"played": 1.0}
RIGHT, WRONG = np.arange(3.0), -np.arange(3.0)


def foreseen(first: np.ndarray, second: np.ndarray, link: Link = Link.SIGMOID) -> Foreseen:
    return Foreseen({"played": link}, {"played": np.concatenate([first, second])})


def rows_of(models: dict[str, Foreseen], of: str = "b", over: str = "a") -> list[dict[str, object]]:
    shown = compared(LOG, ROWS, WEIGHTS, None)
    return uplift_rows(models, [UpliftConfig(of=of, over=over)], LOG, ROWS, shown, WEIGHTS, 200)


def test_it_is_the_relative_rise_of_pair_accuracy():
    half = np.array([0.0, 2.0, 1.0])  # one of the pairs that weigh 1/2 is wrong
    (row,) = rows_of({"a": foreseen(half, WRONG), "b": foreseen(RIGHT, half)})
    assert (row["of"], row["over"], row["metric"]) == ("b", "a", "pair_accuracy")
    assert row["over_value"] == pytest.approx(1.5 / 4)
    assert row["of_value"] == pytest.approx(3.5 / 4)
    assert row["value"] == pytest.approx(3.5 / 1.5 - 1)
    assert row["low"] == pytest.approx(2 / 1.5 - 1)  # the first user twice; of the second alone nothing can be said
    alike = foreseen(half, RIGHT)
    (row,) = rows_of({"a": alike, "b": alike})
    assert (row["value"], row["low"], row["high"]) == (0, 0, 0)


def test_orders_are_compared_with_orders_and_expectations_with_expectations():
    def both(name: str) -> Foreseen:
        scores = np.tile(RIGHT, 2)
        return Foreseen({"played": Link.SIGMOID, "utility": Link.ORDER_ONLY}, {"played": scores, "utility": -scores})

    found = rows_of({"trees-argus": both("b"), "trees": both("a")}, "trees-argus", "trees")
    assert [(row["of"], row["over"]) for row in found] == [
        ("trees-argus", "trees"),
        ("trees-argus (utility)", "trees (utility)"),
    ]
    only = Foreseen({"utility": Link.ORDER_ONLY}, {"utility": np.tile(RIGHT, 2)})
    assert len(rows_of({"b": both("b"), "a": only})) == 1  # it has one order, under its own name
    assert rows_of({"b": both("b")}) == []


def test_a_rise_by_hand():
    a, b, weights, users = np.array([1.0, 1]), np.array([1.0, 0]), np.array([1.0, 3]), np.array([4, 7])
    rise = relative_rise(a, b, weights, users, num_samples=200)
    assert rise.value == pytest.approx(3.0)
    assert rise.low == pytest.approx(0.0)
    assert np.isnan(relative_rise(a, 0 * b, weights, users).value)
