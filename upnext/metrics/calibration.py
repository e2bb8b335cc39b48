"""Whether expectations are right on average, at every level of them: reliability curves and calibration error.

Shape letters: N predictions, M bins.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from upnext.metrics.intervals import bootstrap_groups

__all__ = ["NUM_BINS", "Reliability", "calibration_error", "equal_mass_bins", "reliability"]

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Per bin (M,), from the lowest predictions up: the mean prediction, the mean of what came, and its interval.

    `share` (M,) is the part of all predictions that a bin holds.
    """

    predicted: Float[np.ndarray, " M"]
    observed: Float[np.ndarray, " M"]
    low: Float[np.ndarray, " M"]
    high: Float[np.ndarray, " M"]
    share: Float[np.ndarray, " M"]


def equal_mass_bins(predictions: Float[np.ndarray, " N"], num_bins: int = NUM_BINS) -> Int[np.ndarray, " N"]:
    """Number bins of nearly equal size, rising with the prediction; equal predictions are never parted.

    Predictions .1, .1, .4, .4 in two bins: 0, 0, 1, 1; .1, .1, .1, .4: 0, 0, 0, 1. A constant has one bin. Of bins of
    equal width most would be empty where nearly all probabilities are small.

    Returns:  (N,) from 0 up, without gaps; none for no predictions.
    """
    _, place, counts = np.unique(predictions, return_inverse=True, return_counts=True)
    # The middle of the places that equal predictions take among all.
    middle = (np.cumsum(counts) - counts / 2) / max(1, len(predictions))
    bins = np.minimum((middle * num_bins).astype(np.int64), num_bins - 1)
    numbers: Int[np.ndarray, " N"] = np.unique(bins, return_inverse=True)[1][place]
    return numbers


def calibration_error(
    predictions: Float[np.ndarray, " N"], targets: Float[np.ndarray, " N"], num_bins: int = NUM_BINS
) -> float:
    """The expected calibration error: Σ over bins of n_b / N · |mean prediction - mean target|.

    Worked: predictions .1, .1, .4, .4, targets 0, 0, 1, 0, two bins: means .1 against 0 and .4 against .5, so
    1/2 · .1 + 1/2 · .1 = .1. It has the unit of the targets: of an amount in seconds it is seconds. Chance alone makes
    it larger than 0: by about sqrt(2/π · p (1 - p) · num_bins / N) for probabilities around p.

    Returns:  NaN for no predictions.
    Source:   Naeini et al. 2015, with bins of equal mass (Nixon et al. 2019).
    """
    if not len(predictions):
        return float("nan")
    bins = equal_mass_bins(predictions, num_bins)
    differences = np.bincount(bins, predictions.astype(np.float64) - targets)
    return float(np.abs(differences).sum() / len(predictions))


def reliability(
    predictions: Float[np.ndarray, " N"],
    targets: Float[np.ndarray, " N"],
    users: Int[np.ndarray, " N"],
    *,
    num_bins: int = NUM_BINS,
    num_samples: int = 1000,
) -> Reliability:
    """Hold what came against what was predicted, bin by bin; 95 % intervals resample whole users.

    Returns:  one entry per bin of `equal_mass_bins`; none for no predictions.
    """
    bins = equal_mass_bins(predictions, num_bins)
    observed = bootstrap_groups(targets, bins, users, num_samples=num_samples)
    sizes = np.bincount(bins)
    return Reliability(
        predicted=np.bincount(bins, predictions) / sizes,
        observed=np.array([one.value for one in observed]),
        low=np.array([one.low for one in observed]),
        high=np.array([one.high for one in observed]),
        share=sizes / max(1, len(predictions)),
    )
