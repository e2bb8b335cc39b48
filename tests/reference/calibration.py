"""Calibration by two bisections in plain loops: for each scale the best shift, and the scale whose slope is 0 there."""

import math
from collections.abc import Callable, Sequence


def scale_and_shift(scores: Sequence[float], positive: Sequence[bool]) -> tuple[float, float]:
    """The a in (0, 100) and b with the least log-loss of σ(a s + b)."""

    def wrong(a: float, b: float) -> list[float]:
        return [(1 + math.tanh((a * s + b) / 2)) / 2 - y for s, y in zip(scores, positive, strict=True)]

    def shift(a: float) -> float:
        return zero(lambda b: sum(wrong(a, b)), -1e5, 1e5)

    scale = zero(lambda a: sum(e * s for e, s in zip(wrong(a, shift(a)), scores, strict=True)), 1e-9, 100.0)
    return scale, shift(scale)


def zero(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
