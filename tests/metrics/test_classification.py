import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.metrics.classification import auc, log_loss, normalised_entropy, pair_accuracy, per_user_auc

scored = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=12)


@given(scored)
def test_auc_equals_counting_pairs(rows):
    scores = np.array([score for score, _ in rows], float)
    positive = np.array([is_positive for _, is_positive in rows], bool)
    pairs = [(a, b) for a in scores[positive] for b in scores[~positive]]
    if not pairs:
        assert math.isnan(auc(scores, positive))
        return
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert auc(scores, positive) == pytest.approx(expected)


def test_per_user_auc_leaves_out_users_of_one_kind():
    scores = np.array([1.0, 2, 3, 4, 1, 2])
    positive = np.array([True, False, True, False, True, True])
    values, users = per_user_auc(scores, positive, np.array([7, 7, 5, 5, 9, 9]))
    assert users.tolist() == [5, 7]
    assert values.tolist() == [0, 0]
    values, users = per_user_auc(np.empty(0), np.empty(0, bool), np.empty(0, np.int64))
    assert len(values) == len(users) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-math.inf, -1.0, 0.0, 2.0]), st.booleans()), max_size=20))
def test_per_user_auc_equals_a_loop_over_users(rows):
    users, scores, positive = (
        np.array([row[place] for row in rows], kind) for place, kind in enumerate((np.int64, float, bool))
    )
    expected = {user: auc(scores[users == user], positive[users == user]) for user in np.unique(users)}
    expected = {user: value for user, value in expected.items() if not math.isnan(value)}
    values, found = per_user_auc(scores, positive, users)
    assert found.tolist() == list(expected)
    assert values.tolist() == pytest.approx(list(expected.values()))


def test_normalised_entropy_by_hand():
    p, y = np.array([0.9, 0.1]), np.array([1.0, 0.0])
    assert normalised_entropy(p, y, 0.5) == pytest.approx(-math.log(0.9) / math.log(2))
    assert normalised_entropy(np.full(4, 0.25), np.array([1.0, 0, 0, 0]), 0.25) == pytest.approx(1)
    assert math.isnan(normalised_entropy(p, y, 0.0))
    assert math.isnan(normalised_entropy(p[:0], y[:0], 0.5))


def test_a_certain_error_costs_a_finite_amount():
    assert log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0])).tolist() == pytest.approx(
        [-math.log(1e-12)] * 2, rel=1e-3
    )


def test_pair_accuracy_by_hand():
    better, worse, weights = np.array([2.0, 1, 0]), np.array([1.0, 1, 1]), np.array([1.0, 1, 2])
    assert pair_accuracy(better, worse, weights) == pytest.approx(0.375)
    assert math.isnan(pair_accuracy(better[:0], worse[:0], weights[:0]))
