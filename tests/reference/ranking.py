"""Ranking metrics as slow loops over plain lists, to be read beside `upnext.metrics.ranking`."""

import math
from collections.abc import Sequence


def can_score(score: float) -> bool:
    return not math.isnan(score) and score != -math.inf


def rank(scores: Sequence[float], target: int, excluded: Sequence[bool]) -> float:
    """Sort the items that compete, and average the places of those that tie with the target."""
    if not can_score(scores[target]):
        return math.inf
    competing = [j for j in range(len(scores)) if j == target or (can_score(scores[j]) and not excluded[j])]
    competing.sort(key=lambda j: -scores[j])
    places = [place for place, j in enumerate(competing, start=1) if scores[j] == scores[target]]
    return sum(places) / len(places)


def top_k(scores: Sequence[float], k: int, excluded: Sequence[bool]) -> list[int]:
    listed = [j for j in range(len(scores)) if can_score(scores[j]) and not excluded[j]]
    listed.sort(key=lambda j: (-scores[j], j))
    return [*listed, *[-1] * k][:k]


def hit_rate(ranks: Sequence[float], k: int) -> float:
    """Metrics take the ranks of one case's targets."""
    if not ranks:
        return math.nan
    return 1.0 if min(ranks) <= k else 0.0


def recall(ranks: Sequence[float], k: int) -> float:
    if not ranks:
        return math.nan
    return sum(1 for r in ranks if r <= k) / len(ranks)


def ndcg(ranks: Sequence[float], k: int) -> float:
    if not ranks:
        return math.nan
    dcg = sum(1 / math.log2(1 + r) for r in ranks if r <= k)
    ideal = sum(1 / math.log2(1 + place) for place in range(1, min(len(ranks), k) + 1))
    return min(1.0, dcg / ideal)


def reciprocal_rank(ranks: Sequence[float], k: int | None) -> float:
    if not ranks:
        return math.nan
    best = min(ranks)
    return 0.0 if k is not None and best > k else 1 / best
