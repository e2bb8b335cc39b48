"""Losses of what was shown together, as slow loops over plain lists."""

import math
from collections.abc import Sequence


def pairwise(scores: Sequence[float], utility: Sequence[float]) -> tuple[float, float]:
    """The loss of one request, and the weight of its pairs."""
    loss = weight = 0.0
    for a in range(len(scores)):
        for b in range(len(scores)):
            if utility[a] > utility[b]:
                difference = utility[a] - utility[b]
                loss += difference * math.log(1 + math.exp(scores[b] - scores[a]))
                weight += difference
    return loss, weight


def listwise(scores: Sequence[float], utility: Sequence[float]) -> tuple[float, float]:
    """The loss of one request, and 1 if it has something to choose."""
    gains = [value - min(utility) for value in utility]
    if not any(gains):
        return 0.0, 0.0
    normaliser = sum(math.exp(score) for score in scores)
    return -sum(
        gain / sum(gains) * math.log(math.exp(score) / normaliser) for gain, score in zip(gains, scores, strict=True)
    ), 1.0
