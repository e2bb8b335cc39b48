"""How sure a mean is: bootstrap over users, paired differences of two models, and spread over seeds.

n cases, U users, S bootstrap samples, M metrics, G groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from upnext.base.errors import BadBatch, BadConfig

__all__ = [
    "Interval",
    "bootstrap_groups",
    "bootstrap_over_users",
    "bootstrap_ratio",
    "bootstrap_together",
    "over_seeds",
    "paired_difference",
    "relative_rise",
]

_BLOCK = 1 << 20
"""Users drawn at once: 8 MB of draws and as much of counts."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval; all NaN where there is nothing to estimate."""

    value: float
    low: float
    high: float


def bootstrap_over_users(
    values: Float[np.ndarray, " n"],
    users: Int[np.ndarray, " n"],
    *,
    num_samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimate the mean over cases, with a percentile bootstrap interval that resamples whole users.

    Cases of one user are alike, so they are drawn together: each sample draws U users with replacement and
    divides the sum of their values by the number of their cases. A user with three cases 0 and another with
    one case 1 have mean 1/4; the samples are 0 (the first twice), 1/4 (both) or 1 (the second twice).

    Args:     values: (n,) float64, a metric per case; NaN (a case without targets) is left out.
              users: (n,) int64, the user of each case, any numbering.
              level: the share of samples between low and high, in (0, 1).
    Returns:  the mean and the interval, the same for the same arguments; all NaN without cases. With one user
              the interval has no width: it then says nothing.
    Raises:   BadConfig: no samples, or a level outside (0, 1).  BadBatch: values and users of unequal length.
    Source:   Efron and Tibshirani (1993), the percentile interval; the cluster bootstrap of a ratio.
    """
    return bootstrap_together(values[None], users, num_samples=num_samples, level=level, seed=seed)[0]


def bootstrap_together(
    values: Float[np.ndarray, "M n"],
    users: Int[np.ndarray, " n"],
    *,
    num_samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Estimate several means over the same cases from the same draws: `bootstrap_over_users` of each row.

    Drawing users takes nearly all of the time, so many metrics cost little more than one.

    Args:     values: (M, n) float64, a row per metric; a case with a NaN in any row is left out of all of them.
              users, num_samples, level, seed: as for `bootstrap_over_users`.
    Returns:  M intervals, each what `bootstrap_over_users` gives for that row.
    Raises:   BadConfig, BadBatch: as `bootstrap_over_users`.
    """
    _check_samples(num_samples, level)
    if values.shape[1:] != users.shape:
        raise BadBatch(f"values have shape {values.shape[1:]} and users {users.shape}; give one user per value")
    is_known = ~np.isnan(values).any(axis=0)
    if not is_known.any():
        return [Interval(math.nan, math.nan, math.nan) for _ in values]
    _, user = np.unique(users[is_known], return_inverse=True)
    sums = np.stack([np.bincount(user, weights=row[is_known]) for row in values], axis=1)
    lengths = np.bincount(user).astype(np.float64)
    means = _resampled_means(sums, lengths, num_samples, np.random.default_rng(seed))
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    centres = sums.sum(axis=0) / lengths.sum()
    return [Interval(float(c), float(low), float(high)) for c, (low, high) in zip(centres, ends.T, strict=True)]


def bootstrap_ratio(
    values: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    users: Int[np.ndarray, " n"],
    *,
    num_samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimate a weighted mean, sum of w v / sum of w, with an interval that resamples whole users.

    Values 1 and 0 with weights 3 and 1 of two users have 3/4; the samples are 1, 3/4 or 0.

    Args:     weights: (n,) float64, above 0; the rest as for `bootstrap_over_users`.
    Returns:  the estimate and the interval; all NaN without values.
    Raises:   BadConfig: no samples, or a level outside (0, 1).
    """
    _check_samples(num_samples, level)
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    _, user = np.unique(users, return_inverse=True)
    sums, totals = np.bincount(user, weights=values * weights), np.bincount(user, weights=weights)
    means = _resampled_means(sums[:, None], totals, num_samples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / totals.sum()), float(low), float(high))


def bootstrap_groups(
    values: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    users: Int[np.ndarray, " n"],
    *,
    num_samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Estimate the mean of each group of cases, all from the same draws of users.

    Values 0, 1 of one user and 1 of another, in the groups 0, 1, 1, have the means 0 and 1. A sample in which nobody
    of a group is drawn says nothing of it.

    Args:     groups: (n,) int64 from 0 up, each number used; the rest as for `bootstrap_over_users`.
    Returns:  an interval per group, its ends NaN where no sample has the group; none without cases.
    Raises:   BadConfig: no samples, or a level outside (0, 1).
    """
    _check_samples(num_samples, level)
    if not len(values):
        return []
    _, user = np.unique(users, return_inverse=True)
    num_users, num_groups = int(user.max()) + 1, int(groups.max()) + 1
    cell = user * num_groups + groups
    size = num_users * num_groups
    sums, counts = (np.bincount(cell, part, size).reshape(num_users, num_groups) for part in (values, None))
    columns = np.concatenate([sums, counts], axis=1)
    totals = _resampled_totals(columns, num_samples, np.random.default_rng(seed))
    with np.errstate(invalid="ignore"):  # 0 / 0: nobody of the group was drawn
        means = totals[:, :num_groups] / totals[:, num_groups:]
    found = []
    for group, centre in enumerate(sums.sum(axis=0) / counts.sum(axis=0)):
        drawn = means[~np.isnan(means[:, group]), group]
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if len(drawn) else (math.nan, math.nan)
        found.append(Interval(float(centre), float(ends[0]), float(ends[1])))
    return found


def paired_difference(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    users: Int[np.ndarray, " n"],
    *,
    num_samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimate mean(a) - mean(b) of two models on the same cases, with a bootstrap interval over users.

    Both means are taken over the same resampled users, so what makes a user hard for both cancels. An
    interval without 0 shows a difference at this level.

    Args:     a, b: (n,) float64, the metric of either model per case; a case where either is NaN is left out.
              users, num_samples, level: as for `bootstrap_over_users`.
    Returns:  the difference and its interval; all NaN without cases.
    Raises:   BadConfig: no samples, or a level outside (0, 1).  BadBatch: arrays of unequal length.
    """
    if a.shape != b.shape:
        raise BadBatch(f"a has shape {a.shape} and b {b.shape}; give both for the same cases")
    return bootstrap_over_users(a - b, users, num_samples=num_samples, level=level, seed=seed)


def relative_rise(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    users: Int[np.ndarray, " n"],
    *,
    num_samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimate by how much one weighted mean is above another on the same cases: sum of w a / sum of w b, less 1.

    For a = 1, 1 and b = 1, 0 of two users, with weights 1 and 3, the means are 1 and 1/4: a rise of 3. Users are drawn
    once for both, so that what makes a user hard for both cancels.

    Args:     a, b: (n,) float64, of either model per case; the rest as for `bootstrap_ratio`.
    Returns:  the rise and the interval; all NaN without cases, or where every b is 0.
    Raises:   BadConfig: no samples, or a level outside (0, 1).  BadBatch: arrays of unequal length.
    """
    if a.shape != b.shape:
        raise BadBatch(f"a has shape {a.shape} and b {b.shape}; give both for the same cases")
    _check_samples(num_samples, level)
    _, user = np.unique(users, return_inverse=True)
    sums, totals = (np.bincount(user, weights=values * weights) for values in (a, b))
    if not totals.sum():
        return Interval(math.nan, math.nan, math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):  # a sample in which every b is 0 says nothing
        ratios = _resampled_means(sums[:, None], totals, num_samples, np.random.default_rng(seed))
    low, high = np.quantile(ratios[np.isfinite(ratios)], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / totals.sum()) - 1, float(low) - 1, float(high) - 1)


def over_seeds(values: Float[np.ndarray, " seeds"], *, level: float = 0.95) -> Interval:
    """Estimate the mean over training seeds, with Student's t interval: mean ± t · s / sqrt(number of seeds).

    For 1, 2, 3 the deviation s is 1 and t with 2 degrees of freedom is 4.303: 2 ± 4.303/sqrt(3) = 2 ± 2.484.

    Args:     values: (seeds,) float64, one figure per seed; a NaN makes the estimate NaN.
    Returns:  the mean and the interval; low = high = value for one seed, all NaN for none.
    Raises:   BadConfig: a level outside (0, 1).
    """
    _check_level(level)
    num_seeds = len(values)
    if num_seeds == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(np.mean(values))
    if num_seeds == 1:
        return Interval(mean, mean, mean)
    reach = _t_quantile(num_seeds - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(num_seeds)
    return Interval(mean, mean - reach, mean + reach)


def _resampled_means(
    sums: Float[np.ndarray, "U M"],
    lengths: Float[np.ndarray, " U"],
    num_samples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "S M"]:
    """The ratios of sums of users drawn with replacement."""
    totals = _resampled_totals(np.column_stack([sums, lengths]), num_samples, rng)
    means: Float[np.ndarray, "S M"] = totals[:, :-1] / totals[:, -1:]
    return means


def _resampled_totals(
    columns: Float[np.ndarray, "U M"], num_samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "S M"]:
    """Draw users with replacement, count how often each was drawn, and add up what they have."""
    num_users = len(columns)
    totals = np.empty((num_samples, columns.shape[1]))
    step = max(1, _BLOCK // num_users)
    for start in range(0, num_samples, step):
        size = min(step, num_samples - start)
        drawn = rng.integers(num_users, size=(size, num_users))
        drawn += num_users * np.arange(size)[:, None]  # each sample counts in cells of its own
        times = np.bincount(drawn.ravel(), minlength=size * num_users).reshape(size, num_users)
        totals[start : start + size] = times @ columns
    return totals


def _t_quantile(freedom: int, level: float) -> float:
    """Find t with P(-t < T < t) = level by bisection of the angle atan(t / sqrt(freedom))."""
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        angle = (low + high) / 2
        low, high = (angle, high) if _t_inside(freedom, angle) < level else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _t_inside(freedom: int, angle: float) -> float:
    """Student's P(-t < T < t) at t = sqrt(freedom) · tan(angle): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    is_odd = freedom % 2 == 1
    term = math.cos(angle) if is_odd else 1.0
    total = 0.0
    for power in range(int(is_odd), freedom - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total


def _check_samples(num_samples: int, level: float) -> None:
    _check_level(level)
    if num_samples < 1:
        raise BadConfig(f"num_samples is {num_samples}; give 1 or more")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise BadConfig(f"the confidence level is {level}; give a share between 0 and 1, such as 0.95")
