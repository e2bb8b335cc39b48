"""Calibration after training: two numbers that put the level of scores right and leave their order as it is.

Shape letters: I candidates.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["scale_and_shift"]

Floats = NDArray[np.float64]
_ROUNDS, _HALVINGS, _ENOUGH = 50, 30, 1e-12


def scale_and_shift(scores: Floats, is_positive: NDArray[np.bool_]) -> tuple[float, float]:
    """The a > 0 and b with the least mean log-loss of σ(a · s + b): logistic regression on one number.

    Newton's steps from a = 0, where the curvature is large, each halved until the loss is smaller. Where scores tell
    the labels apart without error there is no least loss; the steps end when little is gained.

    Args:     scores: (I,) raw; is_positive: (I,) what came.
    Returns:  1 and 0 where nothing is better: scores or labels that are all equal, or ordered the wrong way.
    Source:   Platt 1999, with the labels themselves as targets.
    """
    if not is_positive.any() or is_positive.all():
        return 1.0, 0.0
    # Of scores with mean 0 and variance 1 the two numbers hardly depend on each other.
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    x, y = np.stack([(scores - middle) / spread, np.ones_like(scores)]), is_positive.astype(np.float64)
    sign = 1 - 2 * y

    def loss(at: Floats) -> float:
        return float(np.logaddexp(0, sign * (at @ x)).mean())

    rate = y.mean()
    at = np.array([0.0, np.log(rate / (1 - rate))])
    found = loss(at)
    for _ in range(_ROUNDS):
        p = np.exp(-np.logaddexp(0, -(at @ x)))
        slope, bend = x @ (p - y), (x * (p * (1 - p))) @ x.T
        step = np.linalg.lstsq(bend, slope, rcond=None)[0]
        tried = (at - step / 2**halvings for halvings in range(_HALVINGS))
        better = next((one for one in tried if loss(one) < found), at)
        before, at, found = found, better, loss(better)
        if before - found < _ENOUGH:
            break
    scale = float(at[0]) / spread
    if scale <= 0 or found >= loss(np.array([spread, middle])):
        return 1.0, 0.0
    return scale, float(at[1]) - scale * middle
