"""Uplift: what a ranker gains over the one that it extends, as the relative rise of its pair accuracy.

Shape letters: P pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from upnext.base.configuration import Config
from upnext.evaluation.feedback import Foreseen
from upnext.evaluation.utility import orders, rightly
from upnext.events.impressions import Impressions, pairs_within
from upnext.events.log import EventLog
from upnext.metrics.intervals import relative_rise

__all__ = ["UpliftConfig", "uplift_rows"]


class UpliftConfig(Config):
    """Two models by name: one that was given something, and the same without it."""

    of: str
    """The model that was given scores, say."""
    over: str
    """The model that it extends."""


def uplift_rows(
    foreseen: Mapping[str, Foreseen],
    wanted: Sequence[UpliftConfig],
    log: EventLog,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    shown: Impressions,
    weights: Mapping[str, float],
    num_samples: int,
) -> list[dict[str, Any]]:
    """PairAccuracy of one model over that of another, less 1, on the same pairs; users are resampled for both at once.

    Each order is compared with its like: the expected utility of one with that of the other, and what only orders.

    Args:     as for `evaluate_utility`.
    Returns:  tidy rows: of, over, metric, value, low, high, of_value, over_value.
    """
    pairs, place = pairs_within(shown.group, shown.value), np.searchsorted(rows, shown.rows)
    users = log.rows.user[shown.rows][pairs.better]
    found = []
    for pair in wanted:
        several = {name: orders(name, foreseen[name], weights) for name in (pair.of, pair.over) if name in foreseen}
        for subject, scores in several.get(pair.of, {}).items():
            other = pair.over + subject.removeprefix(pair.of)
            if other not in several.get(pair.over, {}):
                continue
            a, b = (rightly(one[place], pairs) for one in (scores, several[pair.over][other]))
            rise = relative_rise(a, b, pairs.weight, users, num_samples=num_samples)
            of_value, over_value = (float(np.average(one, weights=pairs.weight)) for one in (a, b))
            head = {"of": subject, "over": other, "metric": "pair_accuracy"}
            ends = {"value": rise.value, "low": rise.low, "high": rise.high}
            found.append(head | ends | {"of_value": of_value, "over_value": over_value})
    return found
