"""What a ranker reads of an event is what was known when its request began."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, NUM_ITEMS, NUM_USERS, Event, log_of, schema
from tests.reference.aggregates import slow_aggregate
from upnext.base.batches import Column, FlatColumn
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.evaluation.feedback import predict_feedback
from upnext.events.impressions import window_start
from upnext.events.log import EventLog
from upnext.features.aggregates import Aggregate, Past, Questions
from upnext.models.boosted import Boosted, Examples
from upnext.models.boosted_config import BoostedConfig
from upnext.preparation.candidate_features import candidate_features, check_aggregates

DECLARED = [
    {"by": ["user"]},
    {"by": ["item"], "what": "mean", "feedback": "played"},
    {"by": ["user", "maker"], "what": "recency", "view": "watched"},
    {"by": ["device"], "window": "3ms"},
    {"by": ["user", "tags"], "what": "age"},
]
AGGREGATES = [parse_config(Aggregate, data, "test") for data in DECLARED]
HAS = schema(
    item_features={"maker": "categorical", "tags": "multi", "length": "numeric", "name": "text", "cover": "vector"},
    user_features={"age": "numeric"},
)
V = torch.arange(NUM_ITEMS)
ITEMS = {
    "maker": Column(V % 3 - 2**60, V % 4 > 0),
    "tags": Column(torch.stack([V % 2, V], 1), torch.stack([V > 3, V > 5], 1)),
    "length": Column(V / 10, V > 2),
    "name": Column(V[:, None], (V > 0)[:, None]),
    "cover": Column(torch.zeros(NUM_ITEMS, 4), V > 0),
}
USERS = {"age": Column(torch.arange(NUM_USERS) / 7, torch.arange(NUM_USERS) > 2)}


def features(log: EventLog, rows: np.ndarray) -> dict[str, FlatColumn]:
    return candidate_features(AGGREGATES, log, rows, ITEMS, USERS)


def past_log() -> EventLog:
    g = np.random.default_rng(0)
    events = [
        Event(int(g.integers(2, 5)), int(g.integers(1, NUM_ITEMS)), int(g.integers(0, 50)), -1, float(g.integers(0, 2)))
        for _ in range(200)
    ]
    return log_of(events, HAS)


def trees() -> Boosted:
    log = past_log()
    rows = np.arange(len(log))
    feedback = {"played": log.rows.columns["feedback.played"]}
    examples = Examples(features(log, rows), feedback, rows, np.zeros(len(rows)))
    settings = {"aggregates": DECLARED, "training": {"least_in_leaf": 5, "trees": 20}}
    return Boosted.fit(parse_config(BoostedConfig, settings, "test"), HAS.feedback, examples, examples)


MODEL = trees()


def same(one: FlatColumn, other: FlatColumn) -> bool:
    return bool((one.observed == other.observed).all() and (one.values == other.values)[one.observed].all())


@settings(deadline=None, max_examples=60)
@given(EVENTS.filter(len), st.integers(0, 10**6))
def test_nothing_from_the_request_on_changes_a_feature(events, seed):
    g = np.random.default_rng(seed)
    log = log_of(events, HAS)
    row = int(g.integers(len(log)))
    now = log.rows.time_ms[log.request_start[row]]
    unknown = (log.rows.time_ms >= now) | (log.groups == log.groups[row])
    others = unknown & (np.arange(len(log)) != row)
    column = log.rows.columns["feedback.played"]
    values = np.where(unknown, g.random(len(log)), column.values).astype(np.float32)
    columns = dict(log.rows.columns) | {"feedback.played": FlatColumn(values, column.observed ^ unknown)}
    items = np.where(others, g.integers(1, NUM_ITEMS, len(log)), log.rows.item)
    changed = EventLog(log.schema, replace(log.rows, columns=columns, item=items), log.offsets)
    before, after = (features(one, np.array([row])) for one in (log, changed))
    for name in before:
        assert same(before[name], after[name]), name
    asked = np.array([row])
    first, second = (predict_feedback(MODEL, one, asked, features(one, asked)) for one in (log, changed))
    assert first["played"] == second["played"]


@settings(deadline=None, max_examples=40)
@given(EVENTS.filter(len), st.integers(0, 10**6))
def test_another_item_has_what_it_would_have_had_if_it_had_been_shown(events, seed):
    g = np.random.default_rng(seed)
    log = log_of(events, HAS)
    row, other = int(g.integers(len(log))), int(g.integers(1, NUM_ITEMS))
    items = log.rows.item.copy()
    items[row] = other
    shown = EventLog(log.schema, replace(log.rows, item=items), log.offsets)
    asked = np.array([row])
    instead = candidate_features(AGGREGATES, log, asked, ITEMS, USERS, item=np.array([other]))
    for name, column in features(shown, asked).items():
        assert same(column, instead[name]), name


def test_as_of_an_earlier_moment_less_is_counted():
    log = past_log()
    rows = np.arange(len(log))
    start = window_start(log, rows, 20)
    earlier = candidate_features(AGGREGATES, log, rows, ITEMS, USERS, start)["user.count"].values
    times, user = log.rows.time_ms, log.rows.user
    expected = [int(((user == user[row]) & (times < times[row] // 20 * 20)).sum()) for row in rows]
    assert earlier.tolist() == expected


def test_predictions_follow_the_features():
    log = past_log()
    rows = np.arange(len(log))
    whole = predict_feedback(MODEL, log, rows, features(log, rows))["played"]
    assert len(np.unique(whole)) > 10
    some = rows[::7]
    apart = predict_feedback(MODEL, log, some, features(log, some))["played"]
    np.testing.assert_allclose(apart, whole[::7], atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(EVENTS.filter(len))
def test_aggregates_equal_a_loop(events):
    log = log_of(events, HAS)
    rows = np.arange(len(log))
    found = features(log, rows)
    item, device = log.rows.item, log.rows.columns["context.device"]

    def known(column: FlatColumn, missing: int) -> np.ndarray:
        return np.where(column.observed, column.values, missing)

    def keys(missing: int) -> dict[str, np.ndarray]:
        maker = FlatColumn(ITEMS["maker"].values.numpy()[item], ITEMS["maker"].observed.numpy()[item])
        tag = FlatColumn(ITEMS["tags"].values.numpy()[item, 0], ITEMS["tags"].observed.numpy()[item, 0])
        return {"user": log.rows.user, "item": item} | {
            name: known(column, missing) for name, column in (("maker", maker), ("tags", tag), ("device", device))
        }

    past = Past(keys(-1), log.rows.time_ms, {"played": log.rows.columns["feedback.played"]}, log.views)
    questions = Questions(keys(-2), log.rows.time_ms[log.request_start])
    for aggregate in AGGREGATES:
        expected = np.array([slow_aggregate(aggregate, past, questions, row) for row in rows.tolist()], np.float32)
        values, observed = found[aggregate.name].values, found[aggregate.name].observed
        np.testing.assert_array_equal(observed, ~np.isnan(expected))
        np.testing.assert_allclose(values[observed], expected[observed], rtol=1e-6)


def test_which_columns_there_are():
    log = log_of([], HAS)
    found = features(log, np.empty(0, np.int64))
    assert list(found) == [
        "context.device",
        "feature.item.maker",
        "feature.item.tags",
        "feature.item.length",
        "feature.user.age",
        "hour_of_day",
        *(aggregate.name for aggregate in AGGREGATES),
    ]
    assert found["feature.item.tags"].values.dtype == np.int64


@pytest.mark.parametrize(
    ("declared", "of", "words"),
    [
        ({"by": ["studio"]}, HAS, "no by 'studio'; allowed: ['device', 'item', 'maker', 'tags', 'user']"),
        ({"by": ["length"]}, HAS, "no by 'length'"),
        ({"by": ["item"], "what": "mean", "feedback": "like"}, HAS, "no feedback 'like'; allowed: ['played']"),
        ({"by": ["item"], "view": "liked"}, HAS, "no view 'liked'; allowed: ['all', 'skipped', 'watched']"),
        ({"by": ["item"]}, schema(has_times=False), "aggregates need times"),
        ({"by": ["device"]}, schema(item_features={"device": "categorical"}), "'device' names two columns"),
    ],
)
def test_what_the_log_lacks_is_named(declared, of, words):
    with pytest.raises(BadConfig) as error:
        check_aggregates([parse_config(Aggregate, declared, "test")], log_of([], of))
    assert words in str(error.value)
