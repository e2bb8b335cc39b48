"""What rankers are told by other models: point in time, one after the other, the same as asking event by event."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tests.evaluation.test_feedback import MODELS, make_model
from tests.evaluation.test_stages import CATALOGUE
from tests.events.logs import EVENTS, NUM_ITEMS, Event, log_of
from tests.preparation.test_candidate_features import AGGREGATES, HAS, ITEMS, MODEL, USERS, past_log
from upnext.base.batches import FlatColumn, ItemTable
from upnext.base.errors import BadConfig
from upnext.evaluation.cases import find_cases
from upnext.evaluation.feedback import predict_feedback
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, UNUSED, VALIDATION, GlobalTime, split_log
from upnext.fitting.held_back import hold_back, left_to, training_end_ms
from upnext.models.boosted import Boosted, Examples
from upnext.models.boosted_config import BoostedConfig
from upnext.models.build import AnyRanker
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.models.scorers import ReadsScores, chain_of
from upnext.pipeline.told import Scorers, Told

BOTH = ReadsScores(scores=["argus", "popular", "now"], vectors=["argus"])
COUNTS = np.arange(NUM_ITEMS)


def scorers_for(log: EventLog, items: ItemTable = CATALOGUE) -> Scorers:
    models: dict[str, AnyRanker] = {
        "argus": MODELS["all"],
        "popular": Popular(PopularConfig(), torch.from_numpy(COUNTS)),
        "now": RecentlyPopular(RecentlyPopularConfig(window=3), COUNTS[:0], COUNTS[:0], 0 * COUNTS),
    }
    return Scorers({"ranker": BOTH}, models, log, items)


def told(log: EventLog, rows: np.ndarray, known_at: np.ndarray | None = None) -> dict[str, FlatColumn]:
    return Told.of_rows(log, rows, CATALOGUE, {}, scorers_for(log), known_at).to("ranker", [])


@settings(deadline=None, max_examples=30)
@given(EVENTS.filter(len))
def test_scores_are_what_each_model_answers_by_itself(events):
    log = log_of(events)
    rows = np.arange(len(log))
    found = told(log, rows)
    expected = predict_feedback(MODELS["all"], log, rows)["played"]
    np.testing.assert_allclose(found["argus.played"].values, expected, atol=1e-5)
    np.testing.assert_array_equal(found["popular.score"].values, COUNTS[log.rows.item])
    moments = log.rows.time_ms[log.request_start]
    counts = [
        sum(t < moment and i == item for t, i in zip(log.rows.time_ms, log.rows.item, strict=True))
        for moment, item in zip(moments, log.rows.item, strict=True)
    ]
    assert (np.floor(found["now.score"].values) <= counts).all()
    vectors = [found[f"argus.{whose}_vector"].values for whose in ("user", "item")]
    assert [vector.shape for vector in vectors] == [(len(log), 8)] * 2
    with torch.inference_mode():
        items = MODELS["all"].item_vectors(CATALOGUE).numpy()
    np.testing.assert_allclose(vectors[1], items[log.rows.item], atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(EVENTS.filter(lambda events: len(events) > 1))
def test_own_feedback_siblings_and_the_future_never_change_a_score(events):
    log = log_of(events)
    row = len(log) // 2
    moment = log.rows.time_ms[log.request_start[row]]
    same, start = log.rows.user == log.rows.user[row], log.request_start[row]
    later = (same & (np.arange(len(log)) >= start)) | (~same & (log.rows.time_ms >= moment))
    item, played = log.rows.item.copy(), log.rows.columns["feedback.played"]
    item[later] = (item[later] + 1) % NUM_ITEMS
    item[row] = log.rows.item[row]  # it is asked about
    hashes = np.where(item == log.rows.item, log.rows.item_hash, CATALOGUE.item_hash.numpy()[item])
    columns = dict(log.rows.columns)
    columns["feedback.played"] = FlatColumn(np.where(later, 1 - played.values, played.values), played.observed | later)
    changed = EventLog(log.schema, replace(log.rows, item=item, item_hash=hashes, columns=columns), log.offsets)
    before, after = (told(one, np.array([row])) for one in (log, changed))
    assert before.keys() == after.keys()
    for name, column in before.items():
        np.testing.assert_allclose(column.values, after[name].values, atol=1e-5, err_msg=name)


@settings(deadline=None, max_examples=20)
@given(EVENTS.filter(len))
def test_as_of_a_window_nothing_since_its_beginning_counts(events):
    log = log_of(events)
    known_at = log.rows.time_ms[log.request_start] // 3 * 3
    rows = np.arange(len(log))
    found = told(log, rows, known_at)
    for row in rows[:: max(1, len(rows) // 3)]:
        later = log.rows.time_ms >= known_at[row]
        played = log.rows.columns["feedback.played"]
        other = FlatColumn(np.where(later, 1 - played.values, played.values), played.observed | later)
        columns = dict(log.rows.columns) | {"feedback.played": other}
        changed = EventLog(log.schema, replace(log.rows, columns=columns), log.offsets)
        again = told(changed, np.array([row]), known_at[row : row + 1])
        for name, column in again.items():
            np.testing.assert_allclose(column.values[0], found[name].values[row], atol=1e-5, err_msg=name)


def test_models_are_asked_one_after_the_other():
    """Trees read ARGUS, and other trees read these: each finds what the ones before it put out."""
    log, items = past_log(), ItemTable(CATALOGUE.item, CATALOGUE.item_hash, ITEMS)
    rows = np.arange(len(log))
    argus = {"argus": make_model("all")}
    first_asks = BoostedConfig(scores=["argus"], aggregates=AGGREGATES[:1])
    feedback = {"played": log.rows.columns["feedback.played"]}

    def fit(config: BoostedConfig, features: dict[str, FlatColumn]) -> Boosted:
        examples = Examples(features, feedback, rows, feedback["played"].values.astype(np.float64))
        return Boosted.fit(config, {"played": "fraction"}, examples, examples)

    readers: dict[str, ReadsScores] = {"first": first_asks}
    of_first = Told.of_rows(log, rows, items, USERS, Scorers(readers, argus, log, items)).to("first", AGGREGATES[:1])
    first = fit(first_asks, of_first)
    readers["second"] = ReadsScores(scores=["first"], vectors=["argus"])
    scorers = Scorers(readers, {**argus, "first": first}, log, items)
    assert [one.name for one in scorers.of("second")] == ["argus", "first"]
    found = Told.of_rows(log, rows, items, USERS, scorers).to("second", AGGREGATES[1:2])
    np.testing.assert_allclose(
        found["first.played"].values, predict_feedback(first, log, rows, of_first)["played"], atol=1e-5
    )
    assert {"argus.user_vector", "argus.played", "user.count", "item.played.mean"} <= found.keys()
    # Of items that were not shown it is told what it would have been told of them.
    cases = find_cases(log, np.full(len(log), TEST, np.int8), TEST, "all")
    shown = np.stack([log.rows.item[cases.first_target], np.full(len(cases), -1)], axis=1)
    of_cases = Told.of_cases(log, cases, shown, items, USERS, scorers).to("second", AGGREGATES[1:2])
    for name in ("first.played", "argus.played", "argus.user_vector"):
        asked = of_cases[name].values.reshape(len(cases), 2, -1)[:, 0]
        np.testing.assert_allclose(asked, found[name].values.reshape(len(rows), -1)[cases.first_target], atol=1e-5)


def test_what_cannot_be_asked_is_refused():
    log = past_log()
    with pytest.raises(BadConfig, match="vectors names 'trees', which has no user and item vectors"):
        Scorers({"ranker": ReadsScores(vectors=["trees"])}, {"trees": MODEL}, log, CATALOGUE)
    nothing = make_model("all")
    nothing.inputs = nothing.inputs.model_copy(update={"feedback": {}})
    with pytest.raises(BadConfig, match="scores names 'argus', which foresees nothing of this log"):
        Scorers({"ranker": ReadsScores(scores=["argus"])}, {"argus": nothing}, log, CATALOGUE)
    assert [one.name for one in chain_of({}, "whoever")] == []


SPLIT = GlobalTime(validation=10, test=10)
FACTS = SPLIT.model_dump()


def long_log() -> EventLog:
    """A user's request at every third moment from 0 to 49, and one of another user that lasts from 24 to 27."""
    events = [Event(2, 2 + t % 5, t, t // 3) for t in range(50)]
    return log_of([*events, *[Event(3, 3, t, 99) for t in (24, 25, 26, 27)]], HAS)


def test_what_is_held_back_is_trained_on_by_nobody_before_and_by_rankers_alone():
    log = long_log()
    (part,) = split_log(SPLIT, log, len(log))
    assert training_end_ms(FACTS, log) == 30
    kept, until = hold_back(log, part, FACTS, 5)
    assert until == 25
    time_ms, request = log.rows.time_ms, log.rows.request
    trained = (part == TRAIN) & (time_ms < 25) & ~np.isin(request, [8, 99])  # these go on beyond it
    np.testing.assert_array_equal(kept == TRAIN, trained)
    for which in (VALIDATION, TEST):
        np.testing.assert_array_equal(kept == which, part == which)
    assert (kept[(part == TRAIN) & ~trained] == UNUSED).all()
    same, end = hold_back(log, part, FACTS, None)
    assert same is part
    assert end == 30


def test_rankers_learn_only_from_what_all_left():
    log = long_log()
    (part,) = split_log(SPLIT, log, len(log))
    rows = np.flatnonzero(part == TRAIN)

    class Made:
        def __init__(self, until: int | None) -> None:
            self.manifest = {"metrics": {"trained_until_ms": until}}

    def left(last: int | None, *until: int | None) -> list[int]:
        asked = {f"m{number}": Made(one) for number, one in enumerate(until)}
        found = left_to(rows, log, FACTS, last, asked)  # type: ignore[arg-type]
        return sorted(set(log.rows.time_ms[found].tolist()))

    assert left(None) == list(range(30))
    assert left(None, None) == list(range(30))
    assert left(None, 20, 25) == [27, 28, 29]  # a request that began before has siblings that were trained
    assert left(5) == [27, 28, 29]
    assert left(3, 25) == [27, 28, 29]
    with pytest.raises(BadConfig, match="nothing of the training part is left to learn from"):
        left(None, 10, 30)
    with pytest.raises(BadConfig, match="last asks for"):
        left(10, 25)
    with pytest.raises(BadConfig, match="leaves nothing to train on"):
        hold_back(log, part, FACTS, 31)
    with pytest.raises(BadConfig, match="needs a split by time"):
        hold_back(log, part, {"kind": "leave_last_out"}, 5)
