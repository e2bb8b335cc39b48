"""How well a ranker orders what was shown together, by the utility of what came of it.

Shape letters: I impressions, P pairs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.errors import BadConfig
from upnext.base.protocols import Link, Ranker
from upnext.evaluation.feedback import predict_feedback
from upnext.evaluation.validation import Validate
from upnext.events.impressions import Impressions, pairs_within
from upnext.events.log import EventLog
from upnext.metrics.classification import pair_accuracy

__all__ = ["pair_validation", "utility_scores"]


def utility_scores(
    components: Mapping[str, Link], predicted: Mapping[str, NDArray[np.float64]], weights: Mapping[str, float]
) -> NDArray[np.float64] | None:
    """What a ranker orders by: its expected utility Σ_k w_k E[f_k], or the score of one that only orders.

    Returns:  (I,); None for a ranker that foresees none of the feedback that has a weight.
    """
    for name, link in components.items():
        if link is Link.ORDER_ONLY:
            return predicted[name]
    known = [weight * predicted[name] for name, weight in weights.items() if name in components]
    return np.sum(known, axis=0) if known else None


def pair_validation(
    model: Ranker, log: EventLog, shown: Impressions, num_groups: int, device: torch.device
) -> Validate:
    """The pair accuracy of a model that orders, as it then is, on up to so many groups, drawn once.

    Args:     shown: impressions of the validation part.
    Raises:   BadConfig: no two of them were shown together and differ in utility.
    """
    shown = shown.with_partner()
    if not len(shown):
        raise BadConfig(
            "no two impressions of the validation part can be compared: none that were shown together differ in"
            " utility; make prepare.split.validation longer, set a (longer) window, or weigh other feedback"
        )
    groups = np.unique(shown.group)
    drawn = np.random.default_rng(0).permutation(groups)[:num_groups]
    shown = shown.take(np.isin(shown.group, drawn))
    pairs = pairs_within(shown.group, shown.value)
    (name,) = model.components

    def validate() -> dict[str, float]:
        scores = predict_feedback(model, log, shown.rows, device=device)[name]
        return {"pair_accuracy": pair_accuracy(scores[pairs.better], scores[pairs.worse], pairs.weight)}

    return validate
