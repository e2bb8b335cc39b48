"""Aggregates: counts, means, recency and age of users, items, creators and their pairs, up to a moment.

An aggregate is declared once, and computed point in time: for a question asked at time t it reads the events of its
key with a time strictly before t, so it sees neither the future, nor siblings of the same instant, nor the event
itself. A question of a request has the time at which the request began.

Shape letters: N events, Q questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.batches import FlatColumn
from upnext.base.configuration import Config, Duration
from upnext.base.errors import BadConfig
from upnext.base.views import ALL

__all__ = [
    "NOTHING",
    "UNKNOWN_KEY",
    "Aggregate",
    "Past",
    "Questions",
    "ReadsColumns",
    "check_names",
    "compute_aggregates",
    "counting_events",
]

UNKNOWN_KEY, NOTHING = -1, -2
"""An unknown part of a key, of an event and of a question: it is like nothing, neither like a known value nor like
another unknown one."""


class Aggregate(Config):
    """One aggregate: of which events, grouped by what, over which time."""

    by: Annotated[list[str], Field(min_length=1)]
    """What an event must share with the question: `user`, `item`, a categorical item feature or context; several for
    their pairs: `["user", "author"]`."""
    what: Literal["count", "mean", "recency", "age"] = "count"
    """Events; the mean of a feedback; milliseconds since the last event; milliseconds since the first."""
    feedback: str | None = None
    """What `mean` is of. Only events where it was observed count."""
    view: str = ALL
    """The events that count."""
    window: Duration | None = None
    """Only events of the last so much time; unset, all of them."""

    @model_validator(mode="after")
    def _a_mean_is_of_something(self) -> "Aggregate":
        if (self.what == "mean") != (self.feedback is not None):
            raise ValueError('what = "mean" and feedback = "…" go together: add or remove one')
        if self.what == "age" and self.window is not None:
            raise ValueError('what = "age" reads all the past; remove the window')
        return self

    @property
    def name(self) -> str:
        """What the feature is called: `user+author.like.mean.7d`."""
        parts = ["+".join(self.by), *([] if self.view == ALL else [self.view])]
        parts += [self.feedback] if self.feedback else []
        days = [] if self.window is None else [f"{self.window / 3_600_000:g}h"]
        return ".".join([*parts, self.what, *days])


@runtime_checkable
class ReadsColumns(Protocol):
    """A ranker that reads columns of its candidates: it names them, and declares the aggregates among them."""

    @property
    def reads(self) -> Sequence[str]:
        """The names of the columns."""
        ...

    @property
    def aggregates(self) -> Sequence[Aggregate]:
        """Those that are aggregates."""
        ...


@dataclass(frozen=True)
class Past:
    """Events, in any order: keys (N,) int64 by name, times, feedback by short name, views."""

    keys: Mapping[str, NDArray[np.int64]]
    time_ms: NDArray[np.int64]
    feedback: Mapping[str, FlatColumn]
    views: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Questions:
    """Moments at which aggregates are asked for: keys (Q,) int64 by name, and times."""

    keys: Mapping[str, NDArray[np.int64]]
    time_ms: NDArray[np.int64]


def compute_aggregates(
    aggregates: Sequence[Aggregate], past: Past, questions: Questions
) -> dict[str, NDArray[np.float32]]:
    """Answer every question for every aggregate.

    Returns:  by name, (Q,) float32; a count is 0 and everything else NaN where no event counts.
    Raises:   BadConfig: an aggregate names a key, feedback or view that there is not.
    """
    answers = {}
    for aggregate in aggregates:
        check_names(aggregate, past)
        counts = counting_events(aggregate, past)
        events = _Sorted.of(past, counts, aggregate, questions)
        answers[aggregate.name] = events.answer(aggregate, questions.time_ms)
    return answers


def check_names(aggregate: Aggregate, past: Past) -> None:
    """Refuse an aggregate that names what events do not have.

    Raises:   BadConfig: a key, a feedback or a view that there is not.
    """
    for kind, names, allowed in (
        ("by", aggregate.by, past.keys),
        ("feedback", [aggregate.feedback] if aggregate.feedback else [], past.feedback),
        ("view", [] if aggregate.view == ALL else [aggregate.view], past.views),
    ):
        for name in names:
            if name not in allowed:
                raise BadConfig(f"the aggregate {aggregate.name!r}: no {kind} {name!r}; allowed: {sorted(allowed)}")


def counting_events(aggregate: Aggregate, past: Past) -> NDArray[np.bool_]:
    """Which events an aggregate reads: (N,) bool."""
    selected = np.ones(len(past.time_ms), bool) if aggregate.view == ALL else past.views[aggregate.view].copy()
    if aggregate.feedback is not None:
        selected &= past.feedback[aggregate.feedback].observed
    return selected


@dataclass(frozen=True)
class _Sorted:
    """An aggregate's events sorted by (key, time), and where each question's key lies among them."""

    code: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    asked: NDArray[np.int64]

    @classmethod
    def of(cls, past: Past, counts: NDArray[np.bool_], aggregate: Aggregate, questions: Questions) -> "_Sorted":
        """Number the keys that events and questions have in common, and sort the events."""
        num_events = int(counts.sum())
        code = np.zeros(num_events + len(questions.time_ms), np.int64)
        for name in aggregate.by:
            both = np.concatenate([past.keys[name][counts], questions.keys[name]])
            _, part = np.unique(both, return_inverse=True)
            _, code = np.unique(code * (part.max(initial=0) + 1) + part, return_inverse=True)
        time_ms = past.time_ms[counts]
        order = np.lexsort((time_ms, code[:num_events]))
        if aggregate.feedback is None:
            values = np.ones(num_events)
        else:
            values = past.feedback[aggregate.feedback].values[counts].astype(np.float64)
        return cls(code[:num_events][order], time_ms[order], values[order], code[num_events:])

    def answer(self, aggregate: Aggregate, now_ms: NDArray[np.int64]) -> NDArray[np.float32]:
        """Answer for the moments just before `now_ms`."""
        end = self._before(now_ms)
        window = aggregate.window
        start = np.searchsorted(self.code, self.asked) if window is None else self._before(now_ms - window)
        count = end - start
        if aggregate.what == "count":
            return count.astype(np.float32)
        answer = np.full(len(now_ms), np.nan)
        some = count > 0
        if aggregate.what == "mean":
            sums = np.concatenate([[0.0], np.cumsum(self.values)])
            answer[some] = (sums[end] - sums[start])[some] / count[some]
        elif aggregate.what == "recency":
            answer[some] = now_ms[some] - self.time_ms[end[some] - 1]
        else:
            answer[some] = now_ms[some] - self.time_ms[start[some]]
        return answer.astype(np.float32)

    def _before(self, moment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the events of a question's key end that are strictly before a moment."""
        # Ranks of times keep (key, time) in one integer, whatever the times are.
        distinct = np.unique(self.time_ms)
        width = len(distinct) + 1
        keys = self.code * width + np.searchsorted(distinct, self.time_ms)
        return np.searchsorted(keys, self.asked * width + np.searchsorted(distinct, moment))
