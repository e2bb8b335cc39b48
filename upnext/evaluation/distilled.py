"""How well scores order example sets, and how well they tell the labels: teacher and students side by side.

Shape letters: I candidates, S sets.
"""

import numpy as np
from numpy.typing import NDArray

from upnext.base.example_sets import ExampleSets
from upnext.events.impressions import pairs_within
from upnext.metrics.calibration import calibration_error
from upnext.metrics.classification import auc, log_loss, pair_accuracy
from upnext.metrics.ranking import group_ndcg

__all__ = ["METRICS", "set_figures", "set_ndcg"]

METRICS = ("ndcg", "pair_accuracy", "auc", "log_loss", "calibration_error")
"""The figures, in the order in which they are shown; the last two need probabilities."""


def set_figures(sets: ExampleSets, scores: NDArray[np.float64], are_logits: bool) -> dict[str, float]:
    """NDCG, pair accuracy, AUC and, of logits, log-loss and calibration error.

    NDCG is the mean over the sets that have a label above the least of all, without a cut; a label y gains 2^y - 1.
    Pair accuracy is over all pairs of a set whose labels differ. The others are over all candidates, positive or not,
    those of sets without a positive one too.

    Args:     scores: (I,); are_logits: of the probability that a candidate is positive; else they only order.
    """
    pairs = pairs_within(sets.set, sets.label)
    ones = np.ones(len(pairs))
    found = {
        "ndcg": float(np.nanmean(set_ndcg(sets, scores))),
        "pair_accuracy": pair_accuracy(scores[pairs.better], scores[pairs.worse], ones),
        "auc": auc(scores, sets.is_positive),
    }
    if are_logits:
        probability, target = 1 / (1 + np.exp(-scores)), sets.is_positive.astype(np.float64)
        found["log_loss"] = float(log_loss(probability, target).mean())
        found["calibration_error"] = calibration_error(probability, target)
    return found


def set_ndcg(sets: ExampleSets, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) the NDCG of each set; NaN where nothing gains."""
    return np.asarray(group_ndcg(scores, np.exp2(sets.label) - 1, sets.set))
