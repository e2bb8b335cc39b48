"""The figures of models: every metric at every cut-off with intervals, and how models differ on the same cases."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.ids import FIRST
from upnext.evaluation.cases import Cases
from upnext.evaluation.ranking import Ranking
from upnext.metrics.beyond_accuracy import coverage, popularity_bias
from upnext.metrics.intervals import bootstrap_together, paired_difference
from upnext.metrics.ranking import hit_rate, ndcg, recall, reciprocal_rank

__all__ = ["best_first", "differences", "figures"]

_PER_CASE = {"hr": hit_rate, "recall": recall, "ndcg": ndcg, "mrr": reciprocal_rank}


def figures(
    ranking: Ranking, cases: Cases, trained: NDArray[np.int64], cutoffs: Sequence[int], num_samples: int
) -> list[dict[str, Any]]:
    """Compute tidy rows: metric, k, value, low, high, cases, users; no interval for what describes all lists at once.

    Args:     trained: (V,) training events per dense id; num_samples: of the bootstrap over users.
    """
    keys = [(metric, k) for k in dict.fromkeys(cutoffs) for metric in _PER_CASE]
    values = np.stack([_PER_CASE[metric](ranking.ranks, cases.case, len(cases), k) for metric, k in keys])
    found = dict(zip(keys, bootstrap_together(values, cases.user, num_samples=num_samples), strict=True))
    rows: list[dict[str, Any]] = []
    for k in dict.fromkeys(cutoffs):
        for metric in _PER_CASE:
            interval = found[metric, k]
            rows.append({"metric": metric, "k": k, "value": interval.value, "low": interval.low, "high": interval.high})
        top = ranking.top[:, :k]
        described = {"coverage": coverage(top, len(trained) - FIRST), "popularity_bias": popularity_bias(top, trained)}
        rows += [
            {"metric": name, "k": k, "value": value, "low": None, "high": None} for name, value in described.items()
        ]
    counts = {"cases": len(cases), "users": len(np.unique(cases.user))}
    return [row | counts for row in rows]


def best_first(rows: Sequence[Mapping[str, Any]], k: int, among: Collection[str]) -> list[str]:
    """Order models by NDCG at k, the best first; those whose NDCG is unknown are left out.

    Args:     rows: of one treatment of the history; among: the models that are asked for.
    """
    found = {row["model"]: row["value"] for row in rows if (row["metric"], row["k"]) == ("ndcg", k)}
    known = [name for name, value in found.items() if name in among and not np.isnan(value)]
    return sorted(known, key=lambda name: -found[name])


def differences(
    rankings: Mapping[str, Ranking], baseline: str, cases: Cases, k: int, num_samples: int
) -> list[dict[str, Any]]:
    """Compare each other model with a baseline, case by case: tidy rows with the difference and its interval."""
    rows = []
    for metric in ("ndcg", "hr", "recall", "mrr"):
        values = {
            name: _PER_CASE[metric](ranking.ranks, cases.case, len(cases), k) for name, ranking in rankings.items()
        }
        for name in rankings:
            if name != baseline:
                found = paired_difference(values[name], values[baseline], cases.user, num_samples=num_samples)
                key = {"model": name, "baseline": baseline, "metric": metric, "k": k}
                rows.append(key | {"value": found.value, "low": found.low, "high": found.high})
    return rows
