"""What a log's columns are called and what they mean. Every column name is written down here, once."""

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from upnext.base.batches import FlatColumn
from upnext.base.configuration import Config, digest
from upnext.base.errors import BadConfig
from upnext.base.views import ALL, Condition

__all__ = [
    "COLLECTION",
    "GENRES",
    "HOUR_OF_DAY",
    "INTERACTION_ID",
    "ITEM_ID",
    "ITEM_VECTOR",
    "LAST_ITEM",
    "POSITION",
    "REQUEST_ID",
    "TIME_MS",
    "TITLE",
    "USER_ID",
    "USER_VECTOR",
    "ContextKind",
    "FeatureKind",
    "FeedbackKind",
    "MergeRule",
    "Schema",
    "context_column",
    "feature_column",
    "feedback_column",
    "vector_columns",
]

USER_ID = "user_id"
ITEM_ID = "item_id"
TIME_MS = "time_ms"
REQUEST_ID = "request_id"
INTERACTION_ID = "interaction_id"
POSITION = "position"

LAST_ITEM = "last_item"
"""What an event's user chose last before its request: a column that is worked out where a model reads it."""

TITLE = "title"
GENRES = "genres"
COLLECTION = "collection"

HOUR_OF_DAY = "hour_of_day"
"""When a request was made, in hours UTC: what rankers read of its time."""

USER_VECTOR, ITEM_VECTOR = "user_vector", "item_vector"
"""What a model's vectors are called, after its name."""

ContextKind = Literal["categorical", "numeric"]
"""Context is known before the item is chosen: a surface, a device, an hour."""

FeedbackKind = Literal["binary", "fraction", "amount"]
"""Feedback is known only after it: 0 or 1; a share in [0, 1]; a non-negative amount."""


MergeRule = Literal["last", "first", "max", "sum"]
"""What the feedback of an event is whose rows say different things of it: the last value that was observed, the first,
the largest, or all added up."""

FeatureKind = Literal["categorical", "multi", "numeric", "text", "vector"]
"""What a side table says of an item or a user, and holds at any time: one category, several, a number, a text, or a
vector made elsewhere."""


def context_column(name: str) -> str:
    """Name the column that holds a context: `surface` -> `context.surface`."""
    return f"context.{name}"


def feature_column(owner: Literal["item", "user"], name: str) -> str:
    """Name what a ranker reads of a side table: `author` of the items -> `feature.item.author`."""
    return f"feature.{owner}.{name}"


def feedback_column(name: str) -> str:
    """Name the column that holds a feedback: `played` -> `feedback.played`."""
    return f"feedback.{name}"


def vector_columns(model: str) -> tuple[str, str]:
    """What the user vector and the item vector of a model are called, as columns of candidates."""
    return f"{model}.{USER_VECTOR}", f"{model}.{ITEM_VECTOR}"


class Schema(Config):
    """The shape of one log: which times, requests, contexts, feedback and views its rows have, and what is known of
    items and users beside them."""

    has_times: bool
    """False for data that has an order but no clock; a split by time then refuses."""
    has_requests: bool
    request_safe: bool
    """Rows of one request (or one instant) never see each other."""
    contexts: dict[str, ContextKind] = {}
    feedback: dict[str, FeedbackKind] = {}
    item_features: dict[str, FeatureKind] = {}
    user_features: dict[str, FeatureKind] = {}
    merge: dict[str, MergeRule] | None = None
    """How the feedback of an event is merged from its rows, by name ("last" where a name is missing); None where every
    row is an event of its own."""
    views: dict[str, str] = {}
    """Named selections of events, such as `watched = "played >= 0.5"`. `all` always exists."""

    @model_validator(mode="after")
    def _views_read_known_columns(self) -> Self:
        for view, condition in self.views.items():
            if view == ALL:
                raise ValueError("the view 'all' always exists and holds every event; name yours otherwise")
            for name in Condition.parse(condition).names - self._numeric.keys():
                raise ValueError(
                    f"the view {view!r} reads {name!r}; the log has the numeric columns {sorted(self._numeric)}"
                )
        return self

    @property
    def merge_rules(self) -> dict[str, MergeRule]:
        """Every feedback and the rule by which it is merged."""
        given = self.merge or {}
        return {name: given.get(name, "last") for name in self.feedback}

    @property
    def _numeric(self) -> dict[str, str]:
        """What a view may compare: its short name and its full name."""
        contexts = {name: context_column(name) for name, kind in self.contexts.items() if kind == "numeric"}
        return contexts | {name: feedback_column(name) for name in self.feedback}

    def select(self, condition: str, columns: Mapping[str, FlatColumn]) -> NDArray[np.bool_]:
        """Say for each event whether a condition holds: (N,) bool, from columns stored under full names."""
        parsed = Condition.parse(condition)
        for name in parsed.names - self._numeric.keys():
            raise BadConfig(f"the condition {condition!r} reads {name!r}; the log has {sorted(self._numeric)}")
        read = {name: columns[self._numeric[name]] for name in parsed.names}
        return parsed.select(
            {name: column.values for name, column in read.items()},
            {name: column.observed for name, column in read.items()},
        )

    def select_views(self, columns: Mapping[str, FlatColumn]) -> dict[str, NDArray[np.bool_]]:
        """Evaluate every view: name -> (N,) bool."""
        return {name: self.select(condition, columns) for name, condition in self.views.items()}

    def digest(self) -> str:
        """Hash the schema: artifacts record it, so that a model never reads a log it was not made for."""
        return digest(self.model_dump())
