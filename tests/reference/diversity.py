"""Maximal marginal relevance, one candidate after the other."""

import numpy as np
from numpy.typing import NDArray


def slow_order(scores: NDArray[np.float32], vectors: NDArray[np.float32], share: float, steps: int) -> list[int]:
    """The places of a row's candidates (C,); those whose score is -inf come last."""
    there = [place for place in range(len(scores)) if scores[place] > -np.inf]
    low, high = (limit((scores[place] for place in there), default=0.0) for limit in (min, max))
    chosen: list[int] = []
    while len(chosen) < min(steps, len(there)):

        def value(place: int) -> float:
            relevance = (scores[place] - low) / (high - low) if high > low else 0.0
            if not chosen:
                return float(relevance)
            lengths = np.linalg.norm(vectors[place]) * np.linalg.norm(vectors[chosen], axis=1)
            likeness = max(vectors[chosen] @ vectors[place] / np.maximum(lengths, 1e-12))
            return float((1 - share) * relevance - share * likeness)

        chosen.append(max((place for place in there if place not in chosen), key=value))
    return chosen + [place for place in range(len(scores)) if place not in chosen]
