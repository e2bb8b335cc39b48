"""The figures of one model: every metric at every cut-off, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.ids import FIRST
from upnext.evaluation.cases import Cases
from upnext.evaluation.ranking import Ranking
from upnext.metrics.beyond_accuracy import coverage, popularity_bias
from upnext.metrics.intervals import bootstrap_over_users
from upnext.metrics.ranking import hit_rate, ndcg, recall, reciprocal_rank

__all__ = ["figures"]

_PER_CASE = {"hr": hit_rate, "recall": recall, "ndcg": ndcg, "mrr": reciprocal_rank}


def figures(
    ranking: Ranking, cases: Cases, trained: NDArray[np.int64], cutoffs: Sequence[int], num_samples: int
) -> list[dict[str, Any]]:
    """Compute tidy rows: metric, k, value, low, high, cases, users; no interval for what describes all lists at once.

    Args:     trained: (V,) training events per dense id; num_samples: of the bootstrap over users.
    """
    rows: list[dict[str, Any]] = []
    for k in dict.fromkeys(cutoffs):
        for metric, compute in _PER_CASE.items():
            values = compute(ranking.ranks, cases.case, len(cases), k)
            interval = bootstrap_over_users(values, cases.user, num_samples=num_samples)
            rows.append({"metric": metric, "k": k, "value": interval.value, "low": interval.low, "high": interval.high})
        top = ranking.top[:, :k]
        described = {"coverage": coverage(top, len(trained) - FIRST), "popularity_bias": popularity_bias(top, trained)}
        rows += [
            {"metric": name, "k": k, "value": value, "low": None, "high": None} for name, value in described.items()
        ]
    counts = {"cases": len(cases), "users": len(np.unique(cases.user))}
    return [row | counts for row in rows]
