"""What a ranker reads of events as candidates: aggregates of the past, and what is known of item, user and request.

For an event everything is computed as of the start of its request: it sees neither its siblings nor itself.

Shape letters: N events asked about.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import Column, FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.schema import HOUR_OF_DAY, context_column, feature_column, feedback_column
from upnext.events.log import EventLog
from upnext.features.aggregates import (
    NOTHING,
    UNKNOWN_KEY,
    Aggregate,
    Past,
    Questions,
    compute_aggregates,
)

__all__ = ["candidate_features", "check_aggregates", "past_of"]

_DAY_MS = 86_400_000
_CATEGORIES = ("categorical", "multi")

Features = Mapping[str, Column]
"""A table of items or users by dense id, encoded."""


def candidate_features(
    aggregates: Sequence[Aggregate],
    log: EventLog,
    rows: NDArray[np.int64],
    items: Features,
    users: Features,
    known_at: NDArray[np.int64] | None = None,
    item: NDArray[np.int64] | None = None,
) -> dict[str, FlatColumn]:
    """The features of some events, as they were known when their request began.

    Args:     rows: (N,) of the log; items, users: what is known of them. known_at: (N,) aggregates are computed for
              these moments, where they are earlier than the requests. item: (N,) dense ids of other items that could
              have been shown instead; None: those that were.
    Returns:  by name (N,): `context.NAME`, `feature.item.NAME` and `feature.user.NAME` (categories as integers, of
              several values the first), `hour_of_day`, then the aggregates by their names.
    Raises:   BadConfig: an aggregate names what the log does not have.
    """
    past = past_of(aggregates, log, items)
    features = {name: _taken(log, name, rows) for name in map(context_column, log.schema.contexts)}
    shown = log.rows.item[rows] if item is None else item
    for name, kind in log.schema.item_features.items():
        if kind in (*_CATEGORIES, "numeric"):
            features[feature_column("item", name)] = _of_table(items[name], shown)
    for name, kind in log.schema.user_features.items():
        if kind in (*_CATEGORIES, "numeric"):
            features[feature_column("user", name)] = _of_table(users[name], log.rows.user[rows])
    now_ms = log.rows.time_ms[log.request_start[rows]]
    if log.schema.has_times:
        features[HOUR_OF_DAY] = _number((now_ms % _DAY_MS / 3_600_000).astype(np.float32))
    asked_ms = now_ms if known_at is None else np.minimum(now_ms, known_at)
    asked = {name: _key(log, items, name, rows, shown) for name in _names(aggregates)}
    questions = Questions({name: _with(key, NOTHING) for name, key in asked.items()}, asked_ms)
    answers = compute_aggregates(aggregates, past, questions)
    return features | {name: _number(answer) for name, answer in answers.items()}


def past_of(aggregates: Sequence[Aggregate], log: EventLog, items: Features) -> Past:
    """Every event of a log, as aggregates read it.

    Raises:   BadConfig: an aggregate names what the log does not have.
    """
    check_aggregates(aggregates, log)
    everything = np.arange(len(log))
    keys = {name: _key(log, items, name, everything, log.rows.item) for name in _names(aggregates)}
    feedback = {name: log.rows.columns[feedback_column(name)] for name in log.schema.feedback}
    known = {name: _with(key, UNKNOWN_KEY) for name, key in keys.items()}
    return Past(known, log.rows.time_ms, feedback, log.views)


def _names(aggregates: Sequence[Aggregate]) -> list[str]:
    return sorted({name for aggregate in aggregates for name in aggregate.by})


def check_aggregates(aggregates: Sequence[Aggregate], log: EventLog) -> None:
    """Refuse aggregates that name what the log does not have.

    Raises:   BadConfig: a key, a feedback or a view that there is not, or no times.
    """
    if aggregates and not log.schema.has_times:
        raise BadConfig("aggregates need times; this log has only an order: remove them")
    contexts = {name for name, kind in log.schema.contexts.items() if kind == "categorical"}
    features = {name for name, kind in log.schema.item_features.items() if kind in _CATEGORIES}
    for aggregate in aggregates:
        for kind, names, allowed in (
            ("by", aggregate.by, {"user", "item"} | contexts | features),
            ("feedback", [aggregate.feedback] if aggregate.feedback else [], set(log.schema.feedback)),
            ("view", [aggregate.view], set(log.views)),
        ):
            for name in names:
                if name not in allowed:
                    raise BadConfig(f"the aggregate {aggregate.name!r}: no {kind} {name!r}; allowed: {sorted(allowed)}")
        for name in aggregate.by:
            if name in contexts & features or (name in ("user", "item") and name in contexts | features):
                raise BadConfig(
                    f"the aggregate {aggregate.name!r}: {name!r} names two columns; rename one in the source"
                )


def _taken(log: EventLog, name: str, rows: NDArray[np.int64]) -> FlatColumn:
    column = log.rows.columns[name]
    return FlatColumn(column.values[rows], column.observed[rows])


def _of_table(column: Column, dense: NDArray[np.int64]) -> FlatColumn:
    """A feature of the items or users of events; of several values the first."""
    first = column if column.values.dim() == 1 else Column(column.values[:, 0], column.observed[:, 0])
    return FlatColumn(first.values.numpy()[dense], first.observed.numpy()[dense])


def _number(values: NDArray[np.float32]) -> FlatColumn:
    return FlatColumn(values, ~np.isnan(values))


def _key(log: EventLog, items: Features, name: str, rows: NDArray[np.int64], item: NDArray[np.int64]) -> FlatColumn:
    """What events are grouped by: (N,) of some rows of the log, with the item that was, or could have been, shown."""
    if name in ("user", "item"):
        dense = item if name == "item" else log.rows.user[rows]
        return FlatColumn(dense, np.ones(len(dense), bool))
    if name in log.schema.contexts:
        return _taken(log, context_column(name), rows)
    return _of_table(items[name], item)


def _with(key: FlatColumn, missing: int) -> NDArray[np.int64]:
    return np.where(key.observed, key.values, missing).astype(np.int64)
