"""Example sets of a log: what was shown together, with the features of each candidate and what came of it.

Shape letters: I candidates, S sets.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.batches import Column, FlatColumn
from upnext.base.configuration import Config, Duration, Weight
from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets
from upnext.base.schema import HOUR_OF_DAY, context_column, feature_column, feedback_column
from upnext.base.views import ALL
from upnext.events.impressions import shown_together, utility_of, window_start
from upnext.events.log import EventLog
from upnext.events.split import UNUSED
from upnext.features.aggregates import Aggregate
from upnext.preparation.candidate_features import candidate_features, check_aggregates

__all__ = ["LogExamples", "check_examples", "examples_of", "known_at"]

UTILITY = "utility"


class LogExamples(Config):
    """Example sets of the log: what was shown together, as a ranker would have seen it."""

    kind: Literal["log"] = "log"
    view: str = ALL
    """The events that are examples."""
    label: str | None = None
    """The binary feedback that is the label. What was not observed is no example."""
    utility: dict[str, Weight] = {}
    """Instead of one feedback, the weights of several: the label is graded."""
    relevant: float | None = None
    """With a utility: from where on a candidate counts as positive."""
    window: Annotated[Duration, Field(gt=0)] | None = None
    """What counts as shown together: a user's events within so much time, cut on the clock, with what was known when
    it began. Unset: those of a request, with what was known before it."""
    most_candidates: Annotated[int, Field(ge=2, le=10_000)] = 256
    """Candidates of a set, at most: longer ones are cut."""
    aggregates: list[Aggregate] = []
    """Counts, means, recency and age up to the moment of the request. Beside them candidates have the contexts, the
    hour of the day (UTC), and the categorical, multi-valued (the first value) and numeric features of item and user."""
    ignore: list[str] = []
    """Of what candidates would have, what they have not: `"feature.user.age"`."""

    @model_validator(mode="after")
    def _there_is_one_label(self) -> Self:
        if (self.label is None) != bool(self.utility):
            raise ValueError("give 'label', a binary feedback, or 'utility', weights of several")
        if bool(self.utility) != (self.relevant is not None):
            raise ValueError("'utility' and 'relevant' go together: say from which utility on a candidate is positive")
        return self

    @property
    def target(self) -> str:
        """What the label is of."""
        return self.label or UTILITY


def check_examples(config: LogExamples, log: EventLog) -> None:
    """Check that the log has what the examples are to be made of.

    Raises:   BadConfig, BadData: it has not.
    """
    log.in_view(config.view)  # raises for an unknown view
    check_aggregates(config.aggregates, log)
    if config.label is not None and log.schema.feedback.get(config.label) != "binary":
        binary = sorted(name for name, kind in log.schema.feedback.items() if kind == "binary")
        raise BadConfig(f"label is {config.label!r}; the log has the binary feedback {binary}")
    utility_of(log, np.zeros(0, np.int64), config.utility)
    shown_together(log, np.zeros(0, np.int64), config.window)


def known_at(config: LogExamples, log: EventLog, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """As of when what came of candidates is foreseen: the beginning of their window, or, None, their request."""
    return None if config.window is None else window_start(log, rows, config.window)


def examples_of(
    config: LogExamples,
    log: EventLog,
    part: NDArray[np.int8],
    items: Mapping[str, Column],
    users: Mapping[str, Column],
) -> ExampleSets:
    """Make the example sets of a log; a set lies in one part of the split.

    Args:     items, users: what is known of them, by dense id.
    Raises:   BadConfig, BadData: the log does not have what is asked for.
    """
    check_examples(config, log)
    chosen = log.mask(config.view) & (part != UNUSED)
    if config.label is not None:
        chosen &= log.rows.columns[feedback_column(config.label)].observed
    rows = np.flatnonzero(chosen)
    if not len(rows):
        raise BadConfig(f"the log holds no event of the view {config.view!r} with an observed {config.target!r}")
    weights = {config.label: 1.0} if config.label is not None else config.utility
    features = candidate_features(config.aggregates, log, rows, items, users, known_at(config, log, rows))
    for name in config.ignore:
        if features.pop(name, None) is None:
            raise BadConfig(f"ignore names {name!r}; the candidates have the features {sorted(features)}")
    starts = _starts(shown_together(log, rows, config.window), part[rows], config.most_candidates)
    request = log.request_start[rows[starts]]
    asked_ms = known_at(config, log, rows[starts])
    time_ms = log.rows.time_ms[request] if asked_ms is None else asked_ms
    return ExampleSets(
        features,
        np.append(starts, len(rows)),
        utility_of(log, rows, weights),
        [str(number) for number in range(len(starts))],
        log.rows.user[rows[starts]],
        part[rows[starts]],
        rows,
        time_ms if log.schema.has_times else None,
        relevant=0.5 if config.relevant is None else config.relevant,
        target=config.target,
        of_request=_of_request(config, log, features, starts),
    )


def _starts(number: NDArray[np.int64], part: NDArray[np.int8], most: int) -> NDArray[np.int64]:
    """Where sets begin: at another number or part, and after so many candidates."""
    is_new = (np.diff(number, prepend=-1) != 0) | (np.diff(part, prepend=-1) != 0)
    within = np.arange(len(number)) - np.flatnonzero(is_new)[np.cumsum(is_new) - 1]
    return np.flatnonzero(is_new | (within % most == 0))


def _of_request(
    config: LogExamples, log: EventLog, features: Mapping[str, FlatColumn], starts: NDArray[np.int64]
) -> list[str]:
    """The features that say something of who asks, when and where, and that no set has two values of."""
    asked = {HOUR_OF_DAY, *map(context_column, log.schema.contexts)}
    asked |= {feature_column("user", name) for name in log.schema.user_features}
    whose = {"user", *log.schema.contexts}
    asked |= {aggregate.name for aggregate in config.aggregates if set(aggregate.by) <= whose}
    sizes = np.diff(np.append(starts, len(next(iter(features.values())).values)))

    def is_one(column: FlatColumn) -> bool:
        first = np.repeat(starts, sizes)
        same = (column.values == column.values[first]) | ~column.observed
        return bool((same & (column.observed == column.observed[first])).all())

    return [name for name in features if name in asked and is_one(features[name])]
