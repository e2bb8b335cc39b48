from dataclasses import replace

import numpy as np
import pytest

from tests.fitting.planted import planted
from upnext.base.example_sets import ExampleSets
from upnext.evaluation.distilled import set_figures


def graded() -> ExampleSets:
    """Two queries: labels 2, 0, 1 and 0, 0."""
    sets = planted(num_sets=2, size=3)
    return ExampleSets(
        {}, np.array([0, 3, 5]), np.array([2.0, 0, 1, 0, 0]), ["a", "b"], sets.owner, sets.part, np.full(5, -1)
    )


def test_figures_by_hand():
    found = set_figures(graded(), np.log(np.array([1.0, 3, 1 / 3, 1, 1])), are_logits=True)
    # Gains 3, 0, 1 at ranks 2, 1, 3: (3/log2(3) + 1/2) / (3 + 1/log2(3)); the query without a relevant one is left out
    assert found["ndcg"] == pytest.approx((3 / np.log2(3) + 0.5) / (3 + 1 / np.log2(3)))
    # Of the pairs (2 over 0), (2 over 1), (1 over 0) only the second is right.
    assert found["pair_accuracy"] == pytest.approx(1 / 3)
    # Probabilities 1/2, 3/4, 1/4, 1/2, 1/2, positive the first and the third
    assert found["log_loss"] == pytest.approx(-np.log([1 / 2, 1 / 4, 1 / 4, 1 / 2, 1 / 2]).mean())
    # 2 positives, 3 others: the first one beats none and ties with two, the third one beats none
    assert found["auc"] == pytest.approx(1 / 6)
    assert 0 < found["calibration_error"] < 1


def test_an_order_has_no_probabilities():
    assert set(set_figures(graded(), np.arange(5.0), are_logits=False)) == {"ndcg", "pair_accuracy", "auc"}


def test_a_utility_below_zero_gains_no_less_than_nothing():
    sets = replace(graded(), label=np.array([0.0, -1, -2, 0, 0]))
    found = set_figures(sets, np.array([1.0, 2, 3, 1, 1]), are_logits=False)
    # Gains 3, 1, 0 at ranks 3, 2, 1; in the second set all gain alike
    assert found["ndcg"] == pytest.approx(((3 / 2 + 1 / np.log2(3)) / (3 + 1 / np.log2(3)) + 1) / 2)


def test_where_nothing_gains_there_is_no_ndcg():
    assert np.isnan(set_figures(replace(graded(), label=np.zeros(5)), np.arange(5.0), are_logits=False)["ndcg"])
