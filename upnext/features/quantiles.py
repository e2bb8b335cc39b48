"""Quantile normalisation: a number becomes the share of trained values below it, in [0, 1).

It needs no choice of scale, an outlier moves nothing, and a value that was never seen still has a place.
Shape letters: n values, Q boundaries, F features.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn

__all__ = ["NUM_BOUNDS", "quantiles", "quantiles_of", "ranks"]

NUM_BOUNDS = 255
"""Numbers are told apart to a part in 256 of the trained values."""


def quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(Q,) values of the data that split it into equal parts, rising; none of no data.

    Of 1, 2, 3, 4 the boundaries are 64 times 1, 64 times 2, 64 times 3 and 63 times 4; of a constant all are alike.
    """
    if not len(values):
        return np.empty(0, np.float64)
    return np.quantile(values, np.arange(1, NUM_BOUNDS + 1) / (NUM_BOUNDS + 1), method="inverted_cdf")


def ranks(values: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of boundaries below each value, those equal to it counted half: in [0, 1); 0 without boundaries."""
    below, upto = (np.searchsorted(bounds, values, side=side) for side in ("left", "right"))
    return (below + upto) / 2 / (len(bounds) + 1)


def quantiles_of(columns: Mapping[str, FlatColumn]) -> NDArray[np.float64]:
    """(F, Q) the boundaries of several columns of numbers, in their order, from what was observed and is no NaN.

    A column without a value has boundaries that nothing reaches: everything then has the rank 0.
    """
    bounds = np.full((len(columns), NUM_BOUNDS), np.inf)
    for number, column in enumerate(columns.values()):
        values = column.values[column.observed].astype(np.float64)
        known = values[~np.isnan(values)]
        if len(known):
            bounds[number] = quantiles(known)
    return bounds
