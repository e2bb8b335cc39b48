"""How well what was shown together is ordered by the utility of what came of it: U = sum_k w_k f_k.

A model's order is that of its expected utility sum_k w_k E[f_k]; of one that foresees nothing, that of its score.
Shape letters: I impressions, P pairs, B requests, C candidates.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.errors import BadConfig
from upnext.base.protocols import Link, Ranker
from upnext.evaluation.feedback import Foreseen, predict_feedback
from upnext.evaluation.gaps import gaps
from upnext.evaluation.validation import Validate
from upnext.events.impressions import Impressions, Pairs, pairs_within
from upnext.events.log import EventLog
from upnext.metrics.classification import pair_accuracy
from upnext.metrics.intervals import Interval, bootstrap_over_users, bootstrap_ratio
from upnext.metrics.ranking import group_ndcg

__all__ = ["UTILITY", "compared", "evaluate_utility", "orders", "pair_validation", "rightly", "utility_figures"]

UTILITY = "utility"
"""What stands for a feedback's name in the rows of these figures."""


def orders(name: str, foreseen: Foreseen, weights: Mapping[str, float]) -> dict[str, NDArray[np.float64]]:
    """By what a model orders: its expected utility, and each output that only orders.

    Returns:  (N,) scores, by the model's name; an order beside a utility has its own name after it.
    """
    known = [weight * foreseen.predicted[name] for name, weight in weights.items() if name in foreseen.components]
    found = {name: np.sum(known, axis=0)} if known else {}
    for component, link in foreseen.components.items():
        if link is Link.ORDER_ONLY:
            found[f"{name} ({component})" if found else name] = foreseen.predicted[component]
    return found


def compared(
    log: EventLog, rows: NDArray[np.int64], weights: Mapping[str, float], window_ms: int | None
) -> Impressions:
    """The impressions of a part that can be compared with another one.

    Raises:   BadConfig: there are none, or the log does not have what is asked for.
    """
    shown = Impressions.of(log, rows, weights, window_ms).with_partner()
    if not len(shown):
        raise BadConfig(
            "no two impressions of the part that is tested can be compared: none that were shown together differ in"
            " utility; make that part of the split longer, set a (longer) window, or weigh other feedback"
        )
    return shown


def evaluate_utility(
    foreseen: Mapping[str, Foreseen],
    log: EventLog,
    rows: NDArray[np.int64],
    shown: Impressions,
    weights: Mapping[str, float],
    num_samples: int,
) -> list[dict[str, Any]]:
    """How well each model orders impressions.

    Args:     foreseen: by model, for the events `rows` (N,), ascending, among which are those of `shown`.
    Returns:  tidy rows: model, feedback ("utility"), metric, value, low, high.
    """
    pairs, place = pairs_within(shown.group, shown.value), np.searchsorted(rows, shown.rows)
    users = log.rows.user[shown.rows]
    found, wrongly, lost = [], {}, {}
    for name, one in foreseen.items():
        for subject, scores in orders(name, one, weights).items():
            figures = utility_figures(scores[place], shown, pairs, users, num_samples)
            found += [{"model": subject} | row for row in figures]
            wrongly[subject] = 1.0 - rightly(scores[place], pairs)
            lost[subject] = 1.0 - _ndcg(scores[place], shown)
    owner = users[np.unique(shown.group, return_index=True)[1]]
    found += gaps(wrongly, pairs.weight, users[pairs.better], UTILITY, num_samples)
    return found + gaps(lost, np.ones(len(owner)), owner, UTILITY, num_samples, "ndcg_behind")


def utility_figures(
    scores: NDArray[np.float64], shown: Impressions, pairs: Pairs, users: NDArray[np.int64], num_samples: int
) -> list[dict[str, Any]]:
    """Pair accuracy over all pairs and the mean of users' own; NDCG; with 95 % intervals over users.

    A pair weighs as much as its utilities differ. The NDCG is the mean over groups; the gain of an impression is its
    utility less the least one of its group, so that what could not be avoided counts for nothing and nothing is
    below 0.

    Args:     scores, users: (I,) of the impressions.
    """
    is_right, owner = rightly(scores, pairs), users[pairs.better]
    found, place = np.unique(owner, return_inverse=True)
    per_user = np.bincount(place, pairs.weight * is_right) / np.bincount(place, pairs.weight)
    first = np.unique(shown.group, return_index=True)[1]
    intervals: dict[str, Interval] = {
        "pair_accuracy": bootstrap_ratio(is_right, pairs.weight, owner, num_samples=num_samples),
        "user_pair_accuracy": bootstrap_over_users(per_user, found, num_samples=num_samples),
        "utility_ndcg": bootstrap_over_users(_ndcg(scores, shown), users[first], num_samples=num_samples),
    }
    return [
        {"feedback": UTILITY, "metric": metric, "value": one.value, "low": one.low, "high": one.high}
        for metric, one in intervals.items()
    ]


def rightly(scores: NDArray[np.float64], pairs: Pairs) -> NDArray[np.float64]:
    """(P,): 1 for a pair whose better one is scored higher, a half for a tie."""
    better, worse = scores[pairs.better], scores[pairs.worse]
    return np.asarray((better > worse) + 0.5 * (better == worse), np.float64)


def _ndcg(scores: NDArray[np.float64], shown: Impressions) -> NDArray[np.float64]:
    """The NDCG of each group, in the order of their numbers."""
    numbers, group = np.unique(shown.group, return_inverse=True)
    least = np.full(len(numbers), np.inf)
    np.minimum.at(least, group, shown.value)
    return np.asarray(group_ndcg(scores, shown.value - least[group], group))


def pair_validation(
    model: Ranker, log: EventLog, shown: Impressions, num_groups: int, device: torch.device
) -> Validate:
    """The pair accuracy of a model that orders, as it then is, on up to so many groups, drawn once.

    Args:     shown: impressions of the validation part that can be compared.
    """
    drawn = np.random.default_rng(0).permutation(np.unique(shown.group))[:num_groups]
    shown = shown.take(np.isin(shown.group, drawn))
    pairs = pairs_within(shown.group, shown.value)
    (name,) = model.components

    def validate() -> dict[str, float]:
        scores = predict_feedback(model, log, shown.rows, device=device)[name]
        return {"pair_accuracy": pair_accuracy(scores[pairs.better], scores[pairs.worse], pairs.weight)}

    return validate
