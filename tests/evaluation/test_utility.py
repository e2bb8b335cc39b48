"""The order of what was shown together: figures by hand, and against slow loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, Event, log_of, schema
from upnext.base.errors import BadConfig
from upnext.base.protocols import Link
from upnext.evaluation.feedback import Foreseen
from upnext.evaluation.utility import compared, evaluate_utility, orders, utility_figures
from upnext.events.impressions import Impressions, pairs_within, shown_together


def test_figures_by_hand():
    shown = Impressions(np.arange(4), np.array([0, 0, 1, 1]), np.array([1.0, 0, 1, 3]))
    pairs = pairs_within(shown.group, shown.value)
    rows = utility_figures(np.array([0.3, 0.2, 0.5, 0.5]), shown, pairs, np.array([4, 4, 5, 5]), 20)
    values = {row["metric"]: row["value"] for row in rows}
    tied = (1 + 1 / math.log2(3)) / 2  # gains 0 and 2 share the discounts of two places
    assert values == pytest.approx(
        {"pair_accuracy": (1 + 2 * 0.5) / 3, "user_pair_accuracy": 0.75, "utility_ndcg": (1 + tied) / 2}
    )
    assert all(row["feedback"] == "utility" for row in rows)


def test_a_model_orders_by_what_it_expects_and_by_what_only_orders():
    two = np.array([1.0, 2.0])
    both = Foreseen({"like": Link.SIGMOID, "rank": Link.ORDER_ONLY}, {"like": two, "rank": -two})
    found = orders("m", both, {"like": 3.0, "played": 1.0})
    assert {name: scores.tolist() for name, scores in found.items()} == {"m": [3, 6], "m (rank)": [-1, -2]}
    only = Foreseen({"score": Link.ORDER_ONLY}, {"score": two})
    assert list(orders("m", only, {"like": 3.0})) == ["m"]
    assert orders("m", Foreseen({"played": Link.SIGMOID}, {"played": two}), {"like": 1.0}) == {}


@settings(deadline=None)
@given(EVENTS.filter(len), st.sampled_from([None, 1, 3]), st.integers(0, 10**6))
def test_pair_accuracy_equals_a_loop(events, window, seed):
    log = log_of(events)
    rows = np.arange(len(log))
    scores = np.random.default_rng(seed).integers(0, 3, len(log)).astype(float)
    played = log.rows.columns["feedback.played"]
    value = np.where(played.observed, 2.0 * played.values, 0.0)
    moment = log.rows.time_ms[log.request_start]

    def together(i: int, j: int) -> bool:
        if window is None:
            return bool(log.groups[i] == log.groups[j])
        return bool(log.rows.user[i] == log.rows.user[j] and moment[i] // window == moment[j] // window)

    pairs = [(i, j) for i in rows.tolist() for j in rows.tolist() if together(i, j) and value[i] > value[j]]
    if not pairs:
        with pytest.raises(BadConfig, match="no two impressions"):
            compared(log, rows, {"played": 2.0}, window)
        return
    shown = compared(log, rows, {"played": 2.0}, window)
    assert set(shown.rows.tolist()) == {i for pair in pairs for i in pair} | {
        k for k in rows.tolist() if any(together(k, i) for i, _ in pairs)
    }
    foreseen = {"m": Foreseen({"score": Link.ORDER_ONLY}, {"score": scores})}
    found = evaluate_utility(foreseen, log, rows, shown, {"played": 2.0}, 20)
    weight = sum(value[i] - value[j] for i, j in pairs)
    rightly = sum((value[i] - value[j]) * (0.5 + 0.5 * np.sign(scores[i] - scores[j])) for i, j in pairs)
    assert found[0]["metric"] == "pair_accuracy"
    assert found[0]["value"] == pytest.approx(rightly / weight)


def test_what_a_log_does_not_have_is_refused():
    log = log_of([Event(2, 3, 1, played=1.0), Event(2, 4, 1, played=0.0)])
    with pytest.raises(BadConfig, match=r"feedback 'x'; the log has \['played'\]"):
        Impressions.of(log, np.arange(2), {"x": 1.0}, None)
    alone = log_of([Event(2, 3, 1)], schema(request_safe=False))
    with pytest.raises(BadConfig, match="neither requests nor request-safe times"):
        shown_together(alone, np.arange(1), None)
    requests = log_of([Event(2, 3, 0)], schema(has_times=False, request_safe=False, has_requests=True))
    with pytest.raises(BadConfig, match=r"count with prepare\.request_safe = true"):
        shown_together(requests, np.arange(1), None)
    order_only = log_of([Event(2, 3, 0)], schema(has_times=False, request_safe=False, has_requests=False))
    with pytest.raises(BadConfig, match="only an order, so leave the utility out"):
        shown_together(order_only, np.arange(1), None)
    timeless = log_of([Event(2, 3, 0)], schema(has_times=False))
    with pytest.raises(BadConfig, match="a window of time needs times"):
        shown_together(timeless, np.arange(1), 1000)
