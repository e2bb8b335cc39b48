"""A retriever and a ranker together: figures by hand, and the answers that each event would have had by itself."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tests.evaluation.test_feedback import MODELS as ARGUSES
from tests.events.logs import BIG, EVENTS, NUM_ITEMS, log_of
from tests.preparation.test_candidate_features import AGGREGATES, ITEMS, MODEL, USERS, past_log
from upnext.base.batches import ItemTable
from upnext.base.ids import item_hash
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.feedback import predict_feedback
from upnext.evaluation.ranking import Ranking
from upnext.evaluation.stages import drawn_cases, pair_figures, predict_candidates
from upnext.events.log import EventLog
from upnext.events.split import TEST
from upnext.preparation.candidate_features import candidate_features

CATALOGUE = ItemTable(torch.arange(NUM_ITEMS), torch.from_numpy(item_hash(range(BIG, BIG + NUM_ITEMS))))


def cases_of(*targets: list[int]) -> Cases:
    """A case for each list of targets, each of another user."""
    K = len(targets)
    number = np.repeat(np.arange(K), [len(some) for some in targets])
    nothing = np.zeros(K, np.int64)
    return Cases(
        2 + np.arange(K), nothing, nothing, nothing, number, np.concatenate([np.array(some) for some in targets])
    )


def test_figures_by_hand():
    # Two candidates of each case. The first case: 7 is found second and ranked first. The second: of 8 and 9 only 9 is
    # there, and stays first. The third: nothing is found.
    cases = cases_of([7], [8, 9], [5])
    items = np.array([[3, 7], [9, 4], [6, -1]])
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 9.0]])
    retrieved = Ranking(np.array([2.0, 40, 1, 3]), items)
    rows = pair_figures(items, scores, retrieved, cases, 10, 50)
    of = {(row["metric"], row["k"]): row["value"] for row in rows}
    both = 1 + 1 / math.log2(3)
    own = [1 / math.log2(3), 1 / both, 1 / math.log2(4)]
    end = [1, 1 / both, 0]
    assert of == {
        ("recall", 2): pytest.approx((1 + 1 / 2 + 0) / 3),
        ("retrieved_ndcg", 10): pytest.approx(sum(own) / 3),
        ("ndcg", 10): pytest.approx(sum(end) / 3),
        ("lift", 10): pytest.approx((sum(end) - sum(own)) / 3),
        ("possible_ndcg", 10): pytest.approx(sum(end) / 3),
    }
    assert {(row["cases"], row["users"]) for row in rows} == {(3, 3)}


def test_a_ranker_that_ties_everything_gains_nothing_by_it():
    cases, items = cases_of([2]), np.arange(2, 102)[None]
    ranking = Ranking(np.array([1.0]), items)
    rows = pair_figures(items, np.zeros(items.shape), ranking, cases, 10, 20)
    of = {(row["metric"], row["k"]): row["value"] for row in rows}
    assert of["recall", 100] == of["retrieved_ndcg", 10] == of["possible_ndcg", 10] == 1
    assert of["ndcg", 10] == 0  # rank 50.5


@settings(deadline=None, max_examples=40)
@given(EVENTS.filter(len))
def test_what_was_shown_is_predicted_as_it_was_by_itself(events):
    log = log_of(events)
    cases = find_cases(log, np.full(len(log), TEST, np.int8), TEST, "all")
    first = cases.first_target
    items = np.stack([log.rows.item[first], np.full(len(cases), -1), log.rows.item[first]], axis=1)
    for model in ARGUSES.values():
        alone = predict_feedback(model, log, first)["played"]
        found = predict_candidates(model, log, cases, items, CATALOGUE)["played"]
        np.testing.assert_allclose(found[:, 0], alone, atol=1e-5)
        np.testing.assert_allclose(found[:, 2], found[:, 0], atol=1e-6)


def test_trees_read_of_each_candidate_what_it_would_have_had():
    log = past_log()
    cases = find_cases(log, np.full(len(log), TEST, np.int8), TEST, "all")
    first, C = cases.first_target, 3
    items = np.random.default_rng(5).integers(1, NUM_ITEMS, (len(cases), C))
    items[:, 0] = log.rows.item[first]
    rows, moments = np.repeat(first, C), np.repeat(cases.time_ms, C)
    features = candidate_features(AGGREGATES, log, rows, ITEMS, USERS, moments, items.ravel())
    found = predict_candidates(MODEL, log, cases, items, CATALOGUE, features)["played"]
    alone = predict_feedback(MODEL, log, first, candidate_features(AGGREGATES, log, first, ITEMS, USERS))["played"]
    np.testing.assert_allclose(found[:, 0], alone, atol=1e-6)
    assert np.abs(found[:, 1] - found[:, 0]).max() > 0.1
    for case in range(0, len(cases), 9):
        changed = log.rows.item.copy()
        changed[first[case]] = items[case, 2]
        other = EventLog(log.schema, replace(log.rows, item=changed), log.offsets)
        row = first[case : case + 1]
        expected = predict_feedback(MODEL, other, row, candidate_features(AGGREGATES, other, row, ITEMS, USERS))
        assert found[case, 2] == pytest.approx(expected["played"][0], abs=1e-6)


def test_cases_are_drawn_once_and_stay_in_order():
    cases = cases_of(*[[number] for number in range(2, 60)])
    some = drawn_cases(cases, 10)
    assert len(some) == 10
    assert (np.diff(some.user) > 0).all()
    assert (some.target == some.user).all()
    assert (drawn_cases(cases, 10).user == some.user).all()
    assert len(drawn_cases(cases, 1000)) == 58
