"""How a person responds to what is shown: examine, click, play, like. The laws are known, so they can be integrated.

Shape letters: L list length; a utility may have any shape.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["click_rate", "examination", "expected_response", "log_watch_rate", "play_shape", "respond"]

_CLICK_LEVEL = 4.0  # the utility at which an examined title is clicked every second time
_PLAY_LEVEL = 7.0


def examination(length: int) -> NDArray[np.float32]:
    """Return theta: (L,), the probability that a person looks at each place of a list, 1 at the top."""
    place = np.arange(1, length + 1)
    return np.asarray(np.exp(-0.6 * np.log(place)), dtype=np.float32)


def click_rate(utility: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute P(click | examined) = sigmoid(utility - level)."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(np.float32(_CLICK_LEVEL) - utility)), dtype=np.float32)


def play_shape(utility: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute a of the played fraction's law Beta(a, 1), whose distribution function is x^a."""
    shape = np.exp(np.clip(0.8 + 0.3 * (utility - np.float32(_PLAY_LEVEL)), -1.0, 2.5))
    return np.asarray(shape, dtype=np.float32)


def log_watch_rate(utility: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute log P(played >= 1/2 | clicked) = log(1 - 2^-a)."""
    return np.log1p(-np.exp2(-play_shape(utility)))


def respond(
    utility: NDArray[np.float32], clicked: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw what follows a click: the played fraction, a like, a dislike.

    Args:     utility: any shape; clicked: the same shape.
    Returns:  (played, like, dislike) of that shape: 0 and False where nothing was clicked.
    """
    played = rng.random(utility.shape, dtype=np.float32) ** (1 / play_shape(utility))
    like_rate, dislike_rate = _opinion_rates(utility)
    draw = rng.random(utility.shape, dtype=np.float32)
    watched = played >= 0.5
    like = clicked & watched & (draw < like_rate)
    dislike = clicked & ~watched & (draw < dislike_rate)
    return np.where(clicked, played, np.float32(0)), like, dislike


def expected_response(utility: NDArray[np.float32], click: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Integrate what `respond` draws: the expected played fraction, and the probabilities of click, like and dislike.

    Args:     utility, click: (N,), the true utility and the probability of a click.
    """
    shape, like_rate, dislike_rate = play_shape(utility), *_opinion_rates(utility)
    watched = 1 - np.exp2(-shape)
    expected = {
        "click": click,
        "played": click * shape / (1 + shape),
        "like": click * watched * like_rate,
        "dislike": click * (1 - watched) * dislike_rate,
    }
    return {name: values.astype(np.float64) for name, values in expected.items()}


def _opinion_rates(utility: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """P(like | watched) and P(dislike | clicked, not watched)."""
    excess = np.clip(utility - np.float32(_PLAY_LEVEL), -6, 6)
    return 1 / (1 + np.exp(2.5 - 0.6 * excess)), 1 / (1 + np.exp(2.5 + 0.4 * excess))
