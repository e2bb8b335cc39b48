"""A model with a lag: what happened at or after request - lag never counts, in evaluation as in serving."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import BIG, EVENTS, NUM_ITEMS, Event, log_of, schema
from upnext.base.batches import ItemTable
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.base.ids import item_hash
from upnext.evaluation.cases import find_cases
from upnext.evaluation.feedback import predict_feedback
from upnext.evaluation.ranking import retriever_scores
from upnext.events.impressions import Impressions
from upnext.events.log import EventLog
from upnext.events.split import TEST
from upnext.fitting.finetuning import PairwiseConfig
from upnext.fitting.impressions import ChunkLimits, ImpressionData
from upnext.models.two_towers import TwoTowers, TwoTowersConfig
from upnext.nn.encoders import Inputs
from upnext.objectives.pairwise import PairwiseRanking
from upnext.pipeline.finetune import check
from upnext.serving.pasts import Pasts
from upnext.serving.retrieve import encode, readable


def make_model(form: str = "simplified") -> TwoTowers:
    torch.manual_seed(0)
    inputs = Inputs(has_times=True, contexts={"device": 3}, feedback={"played": "fraction"}, item_features={})
    encoder = {"width": 8, "layers": 1, "max_length": 16, "form": form, "dropout": 0.0}
    config = parse_config(TwoTowersConfig, {"encoder": encoder, "width": 4}, "test")
    items = ItemTable(torch.arange(NUM_ITEMS), torch.from_numpy(item_hash(range(BIG, BIG + NUM_ITEMS))))
    model = TwoTowers(config, inputs, items, torch.arange(NUM_ITEMS) >= 2)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


MODELS = {form: make_model(form) for form in ("simplified", "full")}


def with_lag(model: TwoTowers, lag_ms: int) -> TwoTowers:
    model.config = model.config.model_copy(update={"lag": lag_ms})
    return model


def others(log: EventLog, changed: np.ndarray) -> EventLog:
    """The same events with other items and feedback where `changed`."""
    item = np.where(changed, 2 + (log.rows.item + 1) % (NUM_ITEMS - 2), log.rows.item)
    played = log.rows.columns["feedback.played"]
    values = np.where(changed, 1 - played.values, played.values)
    columns = dict(log.rows.columns) | {"feedback.played": replace(played, values=values, observed=played.observed)}
    hashes = item_hash(range(BIG, BIG + NUM_ITEMS))[item]
    return EventLog(log.schema, replace(log.rows, item=item, item_hash=hashes, columns=columns), log.offsets)


def scores_of(model: TwoTowers, log: EventLog, row: int) -> np.ndarray:
    """The score of each item at the request of a row."""
    part = np.where(np.arange(len(log)) == row, TEST, 0).astype(np.int8)
    cases = find_cases(log, part, TEST, "all")
    (scores,) = retriever_scores(model, log, cases, NUM_ITEMS)(np.array([0]))
    return np.asarray(scores)


@settings(deadline=None, max_examples=60)
@given(EVENTS.filter(len), st.integers(0, 12), st.sampled_from(sorted(MODELS)), st.data())
def test_nothing_at_or_after_the_lag_counts(events, lag_ms, form, data):
    model = with_lag(MODELS[form], lag_ms)
    log = log_of(events)
    row = data.draw(st.integers(0, len(log) - 1))
    moment = log.rows.time_ms[log.request_start[row]]
    later = log.rows.time_ms >= moment - lag_ms
    other = others(log, later & (np.arange(len(log)) != row))
    np.testing.assert_array_equal(scores_of(model, log, row), scores_of(model, other, row))
    (before,), (after,) = (predict_feedback(model, one, np.array([row]))["score"] for one in (log, other))
    assert before == after


@pytest.mark.parametrize("form", sorted(MODELS))
def test_the_millisecond_before_the_lag_counts(form):
    log = log_of([Event(2, 3, 1000, played=0.9), Event(2, 4, 2000, played=0.9), Event(2, 5, 5000, played=0.1)])
    changed = others(log, np.array([False, True, False]))
    for lag_ms, counts in ((2999, True), (3000, False), (3001, False)):
        model = with_lag(MODELS[form], lag_ms)
        before, after = scores_of(model, log, 2), scores_of(model, changed, 2)
        assert np.array_equal(before, after) != counts


@settings(deadline=None, max_examples=40)
@given(EVENTS.filter(len), st.integers(0, 12), st.integers(0, 20), st.sampled_from(sorted(MODELS)))
def test_serving_reads_what_evaluation_reads(events, lag_ms, moment, form):
    model = with_lag(MODELS[form], lag_ms)
    log = log_of(events)
    user = int(log.rows.user[0])
    mine = log.events.take(slice(log.offsets[user], log.offsets[user + 1]))
    now = np.array([moment])
    with torch.inference_mode():
        served = encode(model, readable(model, Pasts.join([mine]).before(now), now, 0)).tensors["vector"]
        known = mine.take((mine.time_ms < moment - lag_ms) & (mine.item >= 2))
        expected = model.encode(known.batch(np.array([0]), np.array([len(known)]))).tensors["vector"]
    torch.testing.assert_close(served, expected)


@settings(deadline=None, max_examples=60)
@given(EVENTS.filter(len), st.integers(0, 12), st.sampled_from(sorted(MODELS)), st.integers(1, 2), st.integers(1, 3))
def test_training_scores_are_those_of_evaluation(events, lag_ms, form, shortest, most):
    model = with_lag(MODELS[form], lag_ms)
    log = log_of(events)
    shown = Impressions.of(log, np.arange(len(log)), {"played": 1.0}, None)
    data = ImpressionData.join(log, np.arange(len(log)), shown, lag_ms, ChunkLimits(99, shortest, most))
    assert data.num_unknown == len(log) - len(data.chunks.impression)
    if not len(data.chunks):
        return
    batch = data.batch(np.arange(len(data.chunks))[::-1])
    assert int(data.num_impressions.max()) <= data.most_impressions(1)
    with torch.inference_mode():
        scores = PairwiseRanking(model).scores(batch)
    pieces = np.split(data.chunks.impression, data.chunks.first[1:-1])
    evaluated = predict_feedback(model, log, np.concatenate(pieces[::-1]))["score"]
    np.testing.assert_allclose(scores, evaluated, atol=1e-5)


def test_a_lag_on_a_log_without_times_is_refused():
    log = log_of([Event(2, 3), Event(2, 4)], schema(has_times=False))
    given = {"from": "argus", "utility": {"played": 1.0}, "kind": "pairwise"}
    encoder = MODELS["simplified"].config.encoder
    with pytest.raises(BadConfig, match='a lag needs times, and this log has only an order; set lag = "0s"'):
        check(parse_config(PairwiseConfig, given, "test"), encoder, log)
    check(parse_config(PairwiseConfig, given | {"lag": "0s"}, "test"), encoder, log)
