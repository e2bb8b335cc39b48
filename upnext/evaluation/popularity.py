"""Popularity bias: which part of the catalogue models recommend, and which part people chose."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.ids import FIRST
from upnext.evaluation.cases import Cases
from upnext.evaluation.ranking import Ranking
from upnext.metrics.beyond_accuracy import coverage, gini, popularity_rank, shares_by_popularity

__all__ = ["popularity_rows"]


def popularity_rows(
    rankings: Mapping[str, Ranking], cases: Cases, trained: NDArray[np.int64], k: int
) -> list[dict[str, Any]]:
    """Describe what people chose (the first row, its model None) and what each model's first k items are.

    Args:     trained: (V,) training events per dense id; k: the length of the lists.
    Returns:  rows of model, k, shares (by tenths of the catalogue, the most popular first), gini, coverage,
              popularity_rank; what nothing was recommended for is None.
    """
    popularity = trained[FIRST:]
    lists: list[tuple[str | None, NDArray[np.int64]]] = [(None, cases.target[:, None])]
    lists += [(name, ranking.top[:, :k]) for name, ranking in rankings.items()]
    rows = []
    for name, dense in lists:
        top = np.maximum(dense - FIRST, -1)  # columns of the catalogue: no padding, no unknown
        figures = {
            "gini": gini(top, len(popularity)),
            "coverage": coverage(top, len(popularity)),
            "popularity_rank": popularity_rank(top, popularity),
        }
        known = {name: None if np.isnan(value) else value for name, value in figures.items()}
        shares = [None if np.isnan(share) else share for share in shares_by_popularity(top, popularity).tolist()]
        rows.append({"model": name, "k": k, "shares": shares} | known)
    return rows
