"""Folds: what a teacher says of examples is said by one that was trained without them.

Shape letters: I candidates, S sets.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from upnext.base.batches import FlatColumn
from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets

__all__ = ["FoldsConfig", "folds_of", "mean_scores", "out_of_fold"]

Ints = NDArray[np.int64]
_Model = TypeVar("_Model")


class FoldsConfig(Config):
    """How the training part is cut so that no teacher speaks of what it was trained on."""

    count: Annotated[int, Field(ge=2, le=100)] = 5
    """How many folds: so many teachers are trained besides the one of the whole training part."""
    by: Literal["owner", "set", "time"] = "owner"
    """What stays together: all that is shown to one user (in learning-to-rank files, each query is its own owner), or
    one set. `time`: blocks of time, each scored by a teacher that was trained on all blocks before it; nothing is said
    of the first block."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws what belongs to which fold."""


def folds_of(config: FoldsConfig, sets: ExampleSets) -> Ints:
    """(S,) the fold of each set of the training part, -1 for others.

    Raises:   BadConfig: there are fewer owners, sets or moments than folds, or no times.
    """
    trained = np.flatnonzero(sets.part == 0)
    if config.by == "time":
        if sets.time_ms is None:
            raise BadConfig('folds.by = "time" needs times, and these examples have none; choose "owner" or "set"')
        # Every moment lies in one block: the blocks are cut between moments.
        moments, number, count = np.unique(sets.time_ms[trained], return_inverse=True, return_counts=True)
        before = np.cumsum(count) - count
        fold, kinds = (before * config.count // max(len(trained), 1))[number], len(moments)
    else:
        whose = sets.owner[trained] if config.by == "owner" else trained
        owners, number = np.unique(whose, return_inverse=True)
        drawn = np.random.default_rng(config.seed).permutation(len(owners))
        fold, kinds = (drawn * config.count // max(len(owners), 1))[number], len(owners)
    if kinds < config.count:
        raise BadConfig(f"folds.count is {config.count}, and the training part has {kinds} to draw from; choose fewer")
    found = np.full(len(sets), -1)
    found[trained] = fold
    return found


def out_of_fold(
    config: FoldsConfig,
    sets: ExampleSets,
    fit: Callable[[Ints, int | None], _Model],
    predict: Callable[[_Model, Ints], NDArray[np.float64]],
) -> FlatColumn:
    """What teachers say of all candidates, (I,): those of the training part are scored by one that never saw them.

    Args:     fit: a teacher of these sets of the training part, and the number of the fold that they leave out, None
              for none. predict: what it says of the candidates of some sets, set by set.
    Returns:  scores, observed but for what nothing is said of. Validation and test are scored by the teacher of the
              whole training part.
    """
    fold = folds_of(config, sets)
    values, observed = np.zeros(len(sets.label)), np.zeros(len(sets.label), bool)

    def score(model: _Model, asked: Ints) -> None:
        places = sets.candidates_of(asked)
        values[places], observed[places] = predict(model, asked), True

    for number in range(config.count):
        asked = np.flatnonzero(fold == number)
        known = np.flatnonzero((fold >= 0) & (fold < number if config.by == "time" else fold != number))
        if len(asked) and len(known):
            score(fit(known, number), asked)
    score(fit(np.flatnonzero(fold >= 0), None), np.flatnonzero(sets.part > 0))
    return FlatColumn(values, observed)


def mean_scores(columns: Sequence[FlatColumn]) -> FlatColumn:
    """An ensemble: the mean of several teachers' logits, where all of them say something."""
    observed = np.all([column.observed for column in columns], axis=0)
    return FlatColumn(np.where(observed, np.mean([column.values for column in columns], axis=0), 0.0), observed)
