"""The logging policy: which lists the simulated service shows, and with what probability.

Shape letters: B requests, V titles, L list length.
"""

import numpy as np
from numpy.typing import NDArray

from upnext.simulation.response import examination
from upnext.simulation.truth import World, affinity, appeal_at

__all__ = ["expected_examination", "inclusion", "policy_probabilities", "sample_lists", "sample_softmax"]

_BROWSE_EXPLORATION = 0.3
_STRIDE = 64


def policy_probabilities(
    world: World,
    users: NDArray[np.int64],
    effect: NDArray[np.float32],
    time_ms: NDArray[np.int64],
    surface: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Compute the probability that each title takes the first place of the list.

    Args:     users, time_ms, surface: (B,); effect: (B, V) from `sequence_effect`. Surface 1 is home, 2 browse.
    Returns:  (B, V) float32, rows sum to 1; 0 for titles not yet released.
    """
    home = (surface == 1).astype(np.float32)[:, None]
    appeal = appeal_at(world, time_ms)
    logits = affinity(world, world.guess[users])
    logits *= np.float32(0.9 * world.config.taste_strength) * home
    logits += 0.7 * appeal
    logits += (0.15 + 0.25 * home) * effect
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    released = np.isfinite(appeal)
    explore = np.where(surface == 1, world.config.exploration, _BROWSE_EXPLORATION)[:, None]
    uniform = released / released.sum(axis=1, keepdims=True)
    return np.asarray((1 - explore) * weights + explore * uniform, dtype=np.float32)


def sample_lists(probabilities: NDArray[np.float32], length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sample lists without replacement by the Gumbel top-k trick (as exponential clocks: first to ring, first).

    Args:     probabilities: (B, V).
    Returns:  (B, L) int64, the first place first. Same law as drawing places one by one (Plackett-Luce).
    """
    ring = rng.standard_exponential(probabilities.shape, dtype=np.float32)
    ring /= np.maximum(probabilities, np.float32(1e-30))  # what is not released never rings in time
    first = np.argpartition(ring, length - 1, axis=1)[:, :length]
    order = np.argsort(np.take_along_axis(ring, first, axis=1), axis=1)
    return np.asarray(np.take_along_axis(first, order, axis=1), dtype=np.int64)


def sample_softmax(utility: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw one title per row from softmax(utility), by inverting the distribution function in two steps.

    Args:     utility: (B, V), -inf where a title cannot be drawn.
    Returns:  (B,) int64.
    """
    V = utility.shape[1]
    weight = np.exp(utility - utility.max(axis=1, keepdims=True))
    starts = np.arange(0, V, _STRIDE)
    stretch = _invert(np.add.reduceat(weight, starts, axis=1), rng)
    columns = starts[stretch][:, None] + np.arange(_STRIDE)
    inside = np.where(columns < V, np.take_along_axis(weight, np.minimum(columns, V - 1), axis=1), 0)
    return np.asarray(starts[stretch] + _invert(inside, rng), dtype=np.int64)


def _invert(weight: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Find the first column whose cumulative weight exceeds a uniform share of its row's total."""
    reached = np.cumsum(weight, axis=1, dtype=np.float64)
    threshold = rng.random((len(weight), 1)) * reached[:, -1:]
    return np.asarray(np.argmax(reached > threshold, axis=1), dtype=np.int64)


def expected_examination(probabilities: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Compute the probability that each title is shown and examined, by a mean-field approximation.

    With clocks of rate w_i, about N(t) = sum_i (1 - exp(-w_i t)) have rung by t; let N(t_p) = p. Then title i
    lands at place p with probability exp(-w_i t_p) - exp(-w_i t_{p+1}), and is examined there with theta_p.

    Args:     probabilities: (B, V), w.
    Returns:  (B, V) float32. Without the theta_p it would be the inclusion probability; rows of that sum to L.
    """
    theta = examination(length)
    times = _ring_times(probabilities, length)
    total = np.zeros_like(probabilities)
    before = np.ones_like(probabilities)
    for p in range(length):
        after = np.exp(-probabilities * times[:, p : p + 1])
        total += theta[p] * (before - after)
        before = after
    return total


def inclusion(probabilities: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Compute the probability that each title is shown at all, by the approximation of `expected_examination`.

    Args:     probabilities: (B, V).
    Returns:  (B, V) float32.
    """
    return np.asarray(-np.expm1(-probabilities * _ring_times(probabilities, length)[:, -1:]), dtype=np.float32)


def _ring_times(w: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Solve N(t) = 1 ... L on a grid, by linear interpolation: (B, L)."""
    released = (w > 0).sum(axis=1)
    grid = np.concatenate([[0.0], np.geomspace(0.3, 60.0 * length, 28)]).astype(np.float32)
    rung = np.stack([(-np.expm1(-w * t)).sum(axis=1) for t in grid], axis=1)
    places = np.arange(1, length + 1)
    return np.stack(
        [np.interp(np.minimum(places, 0.999 * total), row, grid) for row, total in zip(rung, released, strict=True)]
    ).astype(np.float32)
