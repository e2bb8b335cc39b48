"""Trees: growing them with LightGBM, and the table that they read.

Shape letters: N examples, F features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from upnext.base.batches import FlatColumn
from upnext.base.configuration import Config
from upnext.base.errors import BadBatch, BadConfig

if TYPE_CHECKING:  # it is loaded where trees are grown, and not by who only imports this
    from lightgbm import Booster

__all__ = [
    "BoostingConfig",
    "Part",
    "Told",
    "columns_of",
    "gains_of",
    "grow",
    "grow_down",
    "levels_of",
    "matrix",
    "observed",
    "read_as",
    "sizes_of",
    "told_apart",
]

_LEVELS = 30
"""LambdaRank tells at most so many utilities apart."""


class BoostingConfig(Config):
    """How trees are grown."""

    seed: int = 0
    """Draws the rows and columns of each tree."""
    trees: Annotated[int, Field(ge=1)] = 1000
    """The most trees of one model."""
    patience: Annotated[int, Field(ge=1)] = 50
    """Stop when the validation part has not been better for so many trees; the best number of trees is kept."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """What a tree adds of its answer."""
    leaves: Annotated[int, Field(ge=2, le=10_000)] = 31
    """The most leaves of a tree."""
    least_in_leaf: Annotated[int, Field(ge=1)] = 100
    """The fewest examples of a leaf."""
    row_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of examples that each tree sees."""
    column_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of features that each tree sees."""
    most_categories: Annotated[int, Field(ge=1, le=10_000)] = 255
    """Of each category the most frequent values are told apart; the others count as missing."""


@dataclass(frozen=True)
class Part:
    """What trees are grown on, or held against: features, targets, and the sizes of groups that compete."""

    X: NDArray[np.float32]
    y: NDArray[np.float64]
    sizes: NDArray[np.int64] | None = None


Told = NDArray[np.int64] | int | None
"""How a feature is read: a category by its values told apart, rising; a vector by its width; a number by None."""


def read_as(column: FlatColumn, most: int) -> Told:
    """How a feature is read; of a category so many of the most frequent values are told apart."""
    return int(column.values.shape[1]) if column.values.ndim == 2 else told_apart(column, most)


def told_apart(column: FlatColumn, most: int) -> NDArray[np.int64] | None:
    """The values of a category that are told apart, rising: so many of the most frequent ones. None for a number."""
    if not np.issubdtype(column.values.dtype, np.integer):
        return None
    values, counts = np.unique(column.values[column.observed], return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:most]
    return np.sort(values[kept]).astype(np.int64)


def columns_of(features: Mapping[str, Told]) -> NDArray[np.int64]:
    """The number of the feature that each column of the matrix belongs to."""
    return np.repeat(np.arange(len(features)), [told if isinstance(told, int) else 1 for told in features.values()])


def matrix(columns: Mapping[str, FlatColumn], features: Mapping[str, Told]) -> NDArray[np.float32]:
    """(N, columns): numbers, places of categories among those told apart, and vectors.

    NaN stands for what is missing or not among them.

    Raises:   BadBatch: the candidates lack a feature.
    """
    for name in features:
        if name not in columns:
            raise BadBatch(f"the boosted ranker reads the feature {name!r}; the candidates have {sorted(columns)}")
    count, owner = max((len(columns[name].values) for name in features), default=0), columns_of(features)
    X = np.full((count, len(owner)), np.nan, np.float32)
    for number, (name, told) in enumerate(features.items()):
        column, place = columns[name], int(np.searchsorted(owner, number))
        if isinstance(told, int):
            X[column.observed, place : place + told] = column.values[column.observed]
        elif told is None:
            X[column.observed, place] = column.values[column.observed]
        else:
            X[:, place] = _places(column, told)
    return X


def _places(column: FlatColumn, told: NDArray[np.int64]) -> NDArray[np.float32]:
    """Where the values of a category stand among those told apart; NaN where they do not."""
    place = np.searchsorted(told, column.values)
    is_known = column.observed & (place < len(told))
    is_known[is_known] = told[place[is_known]] == column.values[is_known]
    return np.where(is_known, place, np.nan).astype(np.float32)


def observed(column: FlatColumn, name: str, where: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The examples where a feedback was observed, and its values there."""
    rows = np.flatnonzero(column.observed)
    if not len(rows):
        raise BadConfig(f"{name!r} was nowhere observed in the {where} part; leave it out of `feedback`")
    return rows, column.values[rows].astype(np.float64)


def gains_of(utility: NDArray[np.float64]) -> NDArray[np.float64]:
    """The levels of utility that LambdaRank tells apart, rising: its values, or quantiles where there are many."""
    values = np.unique(utility)
    return values if len(values) <= _LEVELS else np.unique(np.quantile(utility, np.linspace(0, 1, _LEVELS)))


def levels_of(utility: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """The level nearest to each utility, by number."""
    middle = (gains[1:] + gains[:-1]) / 2
    return np.searchsorted(middle, utility).astype(np.float64)


def sizes_of(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sizes of rising groups, in their order."""
    return np.unique(group, return_counts=True)[1]


def grow(
    objective: str,
    data: Sequence[Part],
    features: Mapping[str, Told],
    config: BoostingConfig,
    extra: dict[str, Any],
) -> "Booster":
    """Grow the trees of one output on the first of two parts; the second says when to stop."""
    parameters = extra | {"objective": objective, "eval_at": [10]}
    return _grown(parameters, data, features, config, None)


Slopes = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Of raw scores (N,) the first derivatives of a loss, and what stands for the second ones."""


def grow_down(
    slopes: Slopes,
    loss: Callable[[NDArray[np.float64]], float],
    data: Sequence[Part],
    features: Mapping[str, Told],
    config: BoostingConfig,
    base: float,
) -> "Booster":
    """Grow trees down the slopes of any loss of the raw scores, which begin at `base` and are not part of the trees.

    Args:     slopes: of the first part's scores; loss: of the second part's, which says when to stop.
    """

    def judge(scores: NDArray[np.float64], _: Any) -> tuple[str, float, bool]:
        return "loss", loss(scores), False

    parameters: dict[str, Any] = {"objective": lambda scores, _: slopes(scores), "metric": "none"}
    return _grown(parameters, data, features, config, judge, base)


def _grown(
    parameters: dict[str, Any],
    data: Sequence[Part],
    features: Mapping[str, Told],
    config: BoostingConfig,
    judge: Callable[[NDArray[np.float64], Any], tuple[str, float, bool]] | None,
    base: float = 0.0,
) -> "Booster":
    import lightgbm

    parameters = parameters | {
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.least_in_leaf,
        "bagging_fraction": config.row_share,
        "bagging_freq": 1,
        "feature_fraction": config.column_share,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
        "verbosity": -1,
    }
    told, owner = list(features.values()), columns_of(features).tolist()
    categories = [number for number, feature in enumerate(owner) if isinstance(told[feature], np.ndarray)]
    # Names may hold what LightGBM does not allow: columns go by their numbers.
    names = [f"f{number}" for number in range(len(owner))]
    train, held = data
    begin = [np.full(len(part.y), base) if judge else None for part in data]
    grown_on = lightgbm.Dataset(
        train.X,
        train.y,
        group=train.sizes,
        init_score=begin[0],
        categorical_feature=categories,
        feature_name=names,
        params=parameters,
    )
    held_out = lightgbm.Dataset(
        held.X, held.y, group=held.sizes, init_score=begin[1], reference=grown_on, params=parameters
    )
    stop = lightgbm.early_stopping(config.patience, verbose=False)
    settings: dict[str, Any] = {"valid_sets": [held_out], "feval": judge, "callbacks": [stop]}
    try:
        grown = lightgbm.train(parameters, grown_on, config.trees, **settings)
    except lightgbm.basic.LightGBMError as error:
        raise BadConfig(
            f"LightGBM grows no trees of {len(train.y):,} examples ({str(error).partition(' at ')[0]}); give more of"
            f" them, with features that differ, or a smaller least_in_leaf than {config.least_in_leaf}"
        ) from None
    # Only the best number of trees stays.
    return lightgbm.Booster(model_str=grown.model_to_string(num_iteration=grown.best_iteration))
