"""Feedback prediction in evaluation: equal to one event at a time, and blind to what comes later."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tests.events.logs import BIG, EVENTS, NUM_ITEMS, Event, log_of, schema
from upnext.base.batches import Candidates, Column, FlatColumn, ItemTable, Request
from upnext.base.configuration import parse_config
from upnext.base.ids import item_hash
from upnext.base.protocols import Link, expectation
from upnext.evaluation.feedback import Foreseen, evaluate_feedback, feedback_figures, mean_of, predict_feedback
from upnext.evaluation.rates import Rates, RatesConfig
from upnext.events.log import EventLog
from upnext.events.split import TEST
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.ordering import Ordering
from upnext.models.popularity import RecentlyPopular, RecentlyPopularConfig
from upnext.nn.encoders import Inputs


def make_model(view: str, contexts: dict[str, int] | None = None) -> ARGUS:
    torch.manual_seed(0)
    inputs = Inputs(
        has_times=True, contexts=contexts or {"device": 3}, feedback={"played": "fraction"}, item_features={}
    )
    config: dict[str, Any] = {"width": 8, "layers": 1, "max_length": 4, "view": view}
    items = ItemTable(torch.arange(NUM_ITEMS), torch.from_numpy(item_hash(range(BIG, BIG + NUM_ITEMS))))
    model = ARGUS(parse_config(ARGUSConfig, config, "test"), inputs, items, torch.arange(NUM_ITEMS) >= 2)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


MODELS = {view: make_model(view) for view in ("all", "watched")}


def one_at_a_time(model: ARGUS, log: EventLog, row: int) -> float:
    before = [
        other
        for other in range(log.request_start[row])
        if log.rows.user[other] == log.rows.user[row] and log.views[model.view][other]
    ][-model.max_length :]
    events = log.events.take(np.array(before, np.int64))
    device = log.rows.columns["context.device"]
    context = {"context.device": Column(torch.tensor([device.values[row]]), torch.tensor([device.observed[row]]))}
    moment = log.rows.time_ms[log.request_start[row]]
    ask = Request(torch.tensor([moment]), torch.tensor([log.rows.user[row]]), context)
    one = Candidates(
        torch.tensor([[log.rows.item[row]]]), torch.tensor([[log.rows.item_hash[row]]]), torch.ones(1, 1).bool()
    )
    with torch.inference_mode():
        state = model.encode(events.batch(np.array([0]), np.array([len(events)])))
        return float(model.predict(state, ask, one)["played"].sigmoid())


@settings(deadline=None, max_examples=40)
@given(EVENTS)
def test_equals_one_event_at_a_time(events):
    log = log_of(events)
    rows = np.arange(len(log))[::2]
    for model in MODELS.values():
        answers = predict_feedback(model, log, rows)["played"]
        expected = [one_at_a_time(model, log, int(row)) for row in rows]
        np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_a_context_of_minus_one_is_not_one_that_nobody_knows():
    log, rows = log_of([Event(2, 3, 1, 2), Event(2, 4, 1, 2), Event(2, 5, 1, 2)]), np.arange(3)
    columns = dict(log.rows.columns)
    columns["context.degrees"] = FlatColumn(np.array([-1, 0, 0], np.float32), np.array([True, False, True]))
    log = EventLog(schema(contexts={"degrees": "numeric"}), replace(log.rows, columns=columns), log.offsets)
    model = make_model("all", {"degrees": 0})
    together = predict_feedback(model, log, rows)["played"]
    alone = [predict_feedback(model, log, rows[row : row + 1])["played"][0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(EVENTS.filter(lambda events: len(events) > 1))
def test_feedback_of_its_own_of_siblings_and_of_later_never_counts(events):
    log = log_of(events)
    row = len(log) // 2
    later = (np.arange(len(log)) >= log.request_start[row]) | (log.rows.user != log.rows.user[row])
    column = log.rows.columns["feedback.played"]
    other = replace(column, values=np.where(later, 1 - column.values, column.values), observed=column.observed | later)
    columns = dict(log.rows.columns) | {"feedback.played": other}
    changed = EventLog(log.schema, replace(log.rows, columns=columns), log.offsets)
    asked = np.array([row])
    before, after = (predict_feedback(MODELS["all"], one, asked)["played"] for one in (log, changed))
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_links():
    output = torch.tensor([0.0, 1.0])
    assert expectation(output, Link.SIGMOID)[0] == 0.5
    assert expectation(output, Link.EXP)[1].item() == pytest.approx(math.e)
    assert expectation(output, Link.ORDER_ONLY).tolist() == [0, 1]


EIGHT = [Event(user=2 + i % 2, item=1 + i, time=i, played=(None if i == 7 else i / 8)) for i in range(8)]


def test_figures_by_hand():
    log = log_of(EIGHT)
    rows = np.arange(len(log))
    target = log.rows.columns["feedback.played"].values
    seen = log.rows.columns["feedback.played"].observed
    assert mean_of(log.rows.columns["feedback.played"], rows) == pytest.approx(sum(range(7)) / 8 / 7)
    figures = feedback_figures(log, rows, {"played": np.full(8, 0.4)}, {"played": 0.4}, 20)
    of = {row["metric"]: row["value"] for row in figures}
    assert of["mae"] == pytest.approx(np.abs(0.4 - target[seen]).mean(), rel=1e-6)
    cross = -(target[seen] * math.log(0.4) + (1 - target[seen]) * math.log(0.6)).mean()
    assert of["log_loss"] == pytest.approx(cross, rel=1e-6)
    assert of["normalised_entropy"] == pytest.approx(cross / -(0.4 * math.log(0.4) + 0.6 * math.log(0.6)), rel=1e-6)


def test_rates_are_drawn_towards_the_mean():
    log = log_of(EIGHT)
    columns = {"played": log.rows.columns["feedback.played"]}
    feedback = {"played": "fraction"}
    model = Rates.fit(RatesConfig(prior=2.0), feedback, log.rows.item, columns, NUM_ITEMS)  # type: ignore[arg-type]
    mean = sum(range(7)) / 8 / 7
    answers = predict_feedback(model, log, np.arange(len(log)))["played"]
    values, seen = columns["played"].values, columns["played"].observed
    expected = [(value + 2 * mean) / 3 if was_seen else mean for value, was_seen in zip(values, seen, strict=True)]
    np.testing.assert_allclose(answers, expected, rtol=1e-5)
    flat = Rates.fit(RatesConfig(prior=None), feedback, log.rows.item, columns, NUM_ITEMS)  # type: ignore[arg-type]
    np.testing.assert_allclose(predict_feedback(flat, log, np.arange(8))["played"], mean, rtol=1e-5)


def test_an_order_is_measured_by_how_it_tells_binary_feedback():
    events = [Event(2, 2, 0, played=1.0), Event(2, 3, 1, played=0.0), Event(3, 2, 2, played=1.0)]
    log = log_of([*events, Event(3, 4, 3, played=0.0), Event(3, 5, 4)], schema(feedback={"played": "binary"}))
    part = np.full(5, TEST, np.int8)
    scores = np.array([2.0, 1.0, -np.inf, 0.0, 9.0])
    only = Foreseen({"score": Link.ORDER_ONLY}, {"score": scores})
    both = Foreseen({"like": Link.SIGMOID, "score": Link.ORDER_ONLY}, {"like": scores, "score": scores})
    rows = evaluate_feedback({"only": only, "both": both}, log, part, 20)
    values = {(row["model"], row["metric"]): row["value"] for row in rows}
    assert values == {("only", "auc"): 2 / 4, ("only", "user_auc"): (1 + 0) / 2}
    assert evaluate_feedback({"nothing": Foreseen({}, {})}, log, part, 20) == []  # of a log without feedback


@settings(deadline=None, max_examples=40)
@given(EVENTS.filter(len))
def test_asked_as_of_a_moment_nothing_later_counts(events):
    log = log_of(events)
    rows = np.arange(len(log))
    known_at = log.rows.time_ms[log.request_start] // 3 * 3
    before = predict_feedback(MODELS["all"], log, rows, known_at=known_at)["played"]
    for row in rows[:: max(1, len(rows) // 3)]:
        later = log.rows.time_ms >= known_at[row]
        column = log.rows.columns["feedback.played"]
        other = FlatColumn(np.where(later, 1 - column.values, column.values), column.observed | later)
        changed = replace(log.rows, columns=dict(log.rows.columns) | {"feedback.played": other})
        asked = np.array([row])
        again = predict_feedback(
            MODELS["all"], EventLog(log.schema, changed, log.offsets), asked, known_at=known_at[asked]
        )
        np.testing.assert_allclose(again["played"][0], before[row], atol=1e-6)


def test_what_is_popular_is_asked_as_of_that_moment_too():
    log = log_of([Event(2, 5, 0), Event(3, 5, 3), Event(3, 6, 4), Event(3, 6, 5)])
    popular = RecentlyPopular(
        RecentlyPopularConfig(window=3_600_000), log.rows.item, log.rows.time_ms, np.zeros(NUM_ITEMS, np.int64)
    )
    rows = np.array([3])
    assert log.rows.time_ms[3] == 5
    now = predict_feedback(Ordering(popular), log, rows)["score"]
    then = predict_feedback(Ordering(popular), log, rows, known_at=np.array([4]))["score"]
    assert (now.item(), then.item()) == (1, 0)  # without the event at 4, of the same item
