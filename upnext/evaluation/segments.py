"""Segments: for whom, and for which items, a model works. Borders come from the training part alone.

Shape letters: K cases, T targets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.schema import context_column
from upnext.evaluation.cases import Cases
from upnext.evaluation.ranking import Histories, Ranking
from upnext.events.split import TRAIN
from upnext.metrics.intervals import bootstrap_together
from upnext.metrics.ranking import ndcg, recall

__all__ = ["COLD", "FEWEST_USERS", "Dimension", "find_dimensions", "heavy_from", "segment_figures"]

COLD = 5
"""Somebody with fewer events than this is cold."""
FEWEST_USERS = 20
"""A segment of fewer users gets no figure: its interval would promise more than so few people can say."""
_METRICS = {"ndcg": ndcg, "recall": recall}
_CONTEXT_VALUES = 6
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Dimension:
    """One way to divide the targets: each segment is a (T,) mask, and every target is in exactly one.

    `note` says how the borders were found.
    """

    name: str
    note: str
    segments: dict[str, NDArray[np.bool_]]


def find_dimensions(
    histories: Histories,
    part: NDArray[np.int8],
    cases: Cases,
    trained: NDArray[np.int64],
    contexts: Mapping[str, Callable[[int], str]],
) -> list[Dimension]:
    """Divide targets by the length of the history, by the user, by the item's popularity, and by each context.

    Args:     part: (N,) the split; trained: (V,) training events of the view per dense id; contexts: categorical
              contexts, and how to name a code of each.
    Returns:  only dimensions of two or more segments: one alone would repeat the whole.
    """
    found = [
        _by_history(histories, part, cases),
        _by_user(histories, part, cases),
        _by_item(cases, trained),
        *(_by_context(histories, part, cases, name, contexts[name]) for name in contexts),
    ]
    kept = [Dimension(d.name, d.note, {name: mask for name, mask in d.segments.items() if mask.any()}) for d in found]
    return [dimension for dimension in kept if len(dimension.segments) > 1]


def segment_figures(
    dimensions: Sequence[Dimension], rankings: Mapping[str, Ranking], cases: Cases, k: int, num_samples: int
) -> list[dict[str, Any]]:
    """Compute tidy rows: dimension, segment, model, metric, k, value, low, high, cases, users.

    A metric of a segment reads its targets alone, each with its rank in the whole catalogue. Where a segment has
    fewer than FEWEST_USERS users, value, low and high are None.
    """
    rows: list[dict[str, Any]] = []
    for dimension in dimensions:
        for segment, mask in dimension.segments.items():
            numbers, case = np.unique(cases.case[mask], return_inverse=True)
            users = cases.user[numbers]
            counts = {"cases": len(numbers), "users": len(np.unique(users))}
            keys = [(name, metric) for name in rankings for metric in _METRICS]
            ends: list[tuple[float | None, ...]] = [(None, None, None)] * len(keys)
            if counts["users"] >= FEWEST_USERS:
                ranks = {name: ranking.ranks[mask] for name, ranking in rankings.items()}
                values = np.stack([_METRICS[metric](ranks[name], case, len(numbers), k) for name, metric in keys])
                intervals = bootstrap_together(values, users, num_samples=num_samples)
                ends = [(found.value, found.low, found.high) for found in intervals]
            head = {"dimension": dimension.name, "segment": segment}
            rows += [
                head | {"model": name, "metric": metric, "k": k, "value": value, "low": low, "high": high} | counts
                for (name, metric), (value, low, high) in zip(keys, ends, strict=True)
            ]
    return rows


def heavy_from(histories: Histories, part: NDArray[np.int8]) -> int:
    """How many events make a heavy user: what the top tenth of the users has in training; more than COLD."""
    return max(_per_trained_user(histories, part)[1], COLD + 2)


def _per_trained_user(histories: Histories, part: NDArray[np.int8]) -> tuple[int, int]:
    """The median and the 90 % quantile of events of the view per user in training, of users who have any."""
    trained = histories.rows[part[histories.rows] == TRAIN]
    counts = np.bincount(histories.log.rows.user[trained])
    return _quantiles(counts[counts > 0])


def _quantiles(counts: NDArray[np.int64]) -> tuple[int, int]:
    median, top = np.quantile(counts, [0.5, 0.9], method="higher") if len(counts) else (0, 0)
    return int(median), int(top)


def _by_history(histories: Histories, part: NDArray[np.int8], cases: Cases) -> Dimension:
    median, top = _per_trained_user(histories, part)
    starts, ends = histories.ranges(cases)
    heavy = heavy_from(histories, part)
    bands = {"cold": 0, "short": COLD, "long": min(max(median, COLD + 1), heavy - 1), "heavy": heavy}
    note = (
        f"Events before the request. Cold is fewer than {COLD}; the other borders are the median ({median:,}) and the"
        f" 90 % quantile ({top:,}) of a user's events in training"
    )
    return Dimension("History", note, _banded((ends - starts)[cases.case], bands))


def _by_item(cases: Cases, trained: NDArray[np.int64]) -> Dimension:
    median, top = _quantiles(trained[trained > 0])
    middle = max(median, 2)
    bands = {"new": 0, "tail": 1, "middle": middle, "head": max(top, middle + 1)}
    note = (
        "Training events of the item that was chosen. The borders are the median and the 90 % quantile of the items"
        " that have any. Each segment is ranked against the whole catalogue"
    )
    return Dimension("Chosen item", note, _banded(trained[cases.target], bands))


def _by_user(histories: Histories, part: NDArray[np.int8], cases: Cases) -> Dimension:
    log = histories.log
    in_training = np.bincount(log.rows.user[part == TRAIN], minlength=len(log.offsets)) > 0
    is_known = in_training[cases.user][cases.case]
    is_first = (cases.history_end == log.offsets[cases.user])[cases.case]
    segments = {
        "known from training": is_known,
        "new, first visit": ~is_known & is_first,
        "new, later visit": ~is_known & ~is_first,
    }
    return Dimension("User", "Known is who has an event in training; a first visit has nothing before it", segments)


def _by_context(
    histories: Histories, part: NDArray[np.int8], cases: Cases, name: str, say: Callable[[int], str]
) -> Dimension:
    column = histories.log.rows.columns[context_column(name)]
    trained = histories.rows[part[histories.rows] == TRAIN]
    in_training = np.bincount(column.values[trained][column.observed[trained]].astype(np.int64))
    frequent = [int(code) for code in np.argsort(-in_training, kind="stable") if in_training[code]][:_CONTEXT_VALUES]
    values, observed = column.values[cases.first_target], column.observed[cases.first_target]
    labels = {code: _shortened(say(code)) for code in frequent}
    if all(label.isdecimal() for label in labels.values()):
        labels = dict(sorted(labels.items(), key=lambda pair: int(pair[1])))  # hours and the like, in their order
    found = [(label, observed & (values == code)) for code, label in labels.items()]
    found += [("(other values)", observed & ~np.isin(values, frequent)), ("(not given)", ~observed)]
    masks: dict[str, NDArray[np.bool_]] = {}
    for label, mask in found:  # values whose names begin alike are one segment
        masks[label] = masks.get(label, np.zeros(len(cases), bool)) | mask
    note = f"The request's context: the {len(frequent)} values that training has most often, and the others together"
    return Dimension(f"Context {name}", note, {label: mask[cases.case] for label, mask in masks.items()})


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _banded(counts: NDArray[np.int64], bands: dict[str, int]) -> dict[str, NDArray[np.bool_]]:
    """Masks of counts between rising starts; the last band has no end."""
    starts = list(bands.values())
    segments = {}
    for (name, start), end in zip(bands.items(), [*starts[1:], None], strict=True):
        if end is None:
            segments[f"{name}: {start:,} or more"] = counts >= start
        else:
            span = f"{start:,}" if end == start + 1 else f"{start:,} to {end - 1:,}"
            segments[f"{name}: {span}"] = (counts >= start) & (counts < end)
    return segments
