"""Two stages together: what a retriever finds, and what a ranker makes of it. The answers a service would give.

Shape letters: K cases, T targets, C candidates of a case, B cases of a block.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import Column, FlatColumn, ItemTable
from upnext.base.protocols import Ranker
from upnext.evaluation.asking import ask_about_cases
from upnext.evaluation.cases import Cases
from upnext.evaluation.feedback import expectations
from upnext.evaluation.ranking import Ranking
from upnext.events.log import EventLog
from upnext.metrics.intervals import Interval, bootstrap_over_users, paired_difference
from upnext.metrics.ranking import ndcg, rank_of_targets, recall

__all__ = ["CEILINGS", "drawn_cases", "pair_figures", "predict_candidates"]

CEILINGS = (100, 500)
"""Where the recall of a retriever is said: no ranker can find what is not there."""


def drawn_cases(cases: Cases, most: int) -> Cases:
    """At most so many cases, drawn once with a fixed seed."""
    drawn = np.random.default_rng(0).permutation(len(cases))[:most]
    return cases.take(np.sort(drawn))


def predict_candidates(
    model: Ranker,
    log: EventLog,
    cases: Cases,
    items: NDArray[np.int64],
    catalogue: ItemTable,
    features: Mapping[str, FlatColumn] | None = None,
    user_features: Mapping[str, Column] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Predict what would come of items at each case, as the server would.

    Args:     as for `ask_about_cases`.
    Returns:  per component (K, C): the expectation; what stands at -1 means nothing.
    """
    blocks = ask_about_cases(model, log, cases, items, catalogue, features, user_features)
    return {name: of.reshape(items.shape) for name, of in expectations(model, blocks, items.size).items()}


def pair_figures(
    items: NDArray[np.int64],
    scores: NDArray[np.float64],
    retrieved: Ranking,
    cases: Cases,
    k: int,
    num_samples: int,
) -> list[dict[str, Any]]:
    """What each stage does for the targets, with 95 % intervals over users.

        recall            the ceiling, at 100, at 500 and at C: the share of targets among the retriever's first so many
        retrieved_ndcg    NDCG at k in the retriever's own order
        ndcg              NDCG at k in the ranker's order of the C candidates: end to end
        lift              ndcg - retrieved_ndcg, on the same cases
        possible_ndcg     NDCG at k if every target among the candidates came first: what a perfect ranker would reach

    Args:     items, scores: (K, C) the candidates, -1 where there were fewer, and the ranker's scores of them.
              retrieved: of the same cases, in the whole catalogue.
    Returns:  tidy rows: metric, k, value, low, high, cases, users.
    """
    C = items.shape[1]
    ranks = _ranks_among(items, scores, cases)
    found = np.isfinite(ranks)
    perfect = np.full(len(ranks), np.inf)
    # The targets that are there, one behind the other.
    before = np.cumsum(found) - found
    first = np.searchsorted(cases.case, cases.case)
    perfect[found] = (before - before[first] + 1)[found]
    own, end, best = (ndcg(one, cases.case, len(cases), k) for one in (retrieved.ranks, ranks, perfect))
    intervals: list[tuple[str, int, Interval]] = [
        ("recall", at, _mean(recall(retrieved.ranks, cases.case, len(cases), at), cases, num_samples))
        for at in sorted({*(at for at in CEILINGS if at <= C), C})
    ]
    intervals += [
        ("retrieved_ndcg", k, _mean(own, cases, num_samples)),
        ("ndcg", k, _mean(end, cases, num_samples)),
        ("lift", k, paired_difference(end, own, cases.user, num_samples=num_samples)),
        ("possible_ndcg", k, _mean(best, cases, num_samples)),
    ]
    counts = {"cases": len(cases), "users": len(np.unique(cases.user))}
    return [
        {"metric": metric, "k": at, "value": one.value, "low": one.low, "high": one.high} | counts
        for metric, at, one in intervals
    ]


def _mean(values: NDArray[np.float64], cases: Cases, num_samples: int) -> Interval:
    return bootstrap_over_users(values, cases.user, num_samples=num_samples)


def _ranks_among(items: NDArray[np.int64], scores: NDArray[np.float64], cases: Cases) -> NDArray[np.float64]:
    """The rank of each target (T,) among its case's candidates by the ranker's scores, ties half; inf if not there."""
    is_target = items[cases.case] == cases.target[:, None]
    is_there = is_target.any(axis=1)
    ranks = np.full(len(cases.target), np.inf)
    known = np.where(items >= 0, scores, -np.inf)
    ranks[is_there] = rank_of_targets(known, cases.case[is_there], is_target.argmax(axis=1)[is_there])
    return ranks
