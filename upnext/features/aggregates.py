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
    groups: dict[tuple[tuple[str, ...], str, str | None], list[Aggregate]] = {}
    for aggregate in aggregates:
        check_names(aggregate, past)
        groups.setdefault(_read_by(aggregate, past), []).append(aggregate)
    numbers = _Numbers(past, questions)
    answers: dict[str, NDArray[np.float32]] = {}
    for some in groups.values():  # what is sorted serves all that read the same events by the same keys
        events = _Sorted.of(numbers, past, some[0])
        answers |= {aggregate.name: events.answer(aggregate, numbers, past) for aggregate in some}
    return {aggregate.name: answers[aggregate.name] for aggregate in aggregates}


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


def _read_by(aggregate: Aggregate, past: Past) -> tuple[tuple[str, ...], str, str | None]:
    """What tells apart which events aggregates read, and by which keys."""
    is_partly = aggregate.feedback is not None and not past.feedback[aggregate.feedback].observed.all()
    return tuple(aggregate.by), aggregate.view, aggregate.feedback if is_partly else None


class _Numbers:
    """Keys and moments of events and questions as small integers, each worked out once."""

    def __init__(self, past: Past, questions: Questions) -> None:
        self._past, self._questions = past, questions
        self._keys: dict[str, tuple[NDArray[np.int64], int]] = {}
        self.now_ms = questions.time_ms
        self.times = np.unique(past.time_ms)
        self.width = len(self.times) + 1
        self.time = np.searchsorted(self.times, past.time_ms)
        self._before: dict[int, NDArray[np.int64]] = {}

    def of_keys(self, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What keys have in common, times the number of moments: of events (N,), and of questions (Q,)."""
        code, size = self._key(names[0])
        for name in names[1:]:
            part, parts = self._key(name)
            code, size = _small(code * parts + part, size * parts)
        if size * self.width >= 2**63:
            code, size = _distinct(code)
        code = code * self.width
        return code[: len(self.time)], code[len(self.time) :]

    def before(self, window: int | None) -> NDArray[np.int64]:
        """How many moments lie strictly before those of the questions (Q,), or before their windows."""
        back = window or 0
        if back not in self._before:
            self._before[back] = np.searchsorted(self.times, self.now_ms - back)
        return self._before[back]

    def _key(self, name: str) -> tuple[NDArray[np.int64], int]:
        if name not in self._keys:
            both = np.concatenate([self._past.keys[name], self._questions.keys[name]])
            low, high = (int(both.min()), int(both.max())) if len(both) else (0, 0)
            dense = high - low < 4 * len(both)
            self._keys[name] = (both - low, high - low + 1) if dense else _distinct(both)
        return self._keys[name]


def _small(code: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], int]:
    """Codes below a size, told apart by smaller ones where another key could make them too large."""
    return (code, size) if size < 2**31 else _distinct(code)


def _distinct(code: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Codes from 0 on, in the same order, and how many there are."""
    values, places = np.unique(code, return_inverse=True)
    return places.astype(np.int64), max(len(values), 1)


@dataclass(frozen=True)
class _Sorted:
    """Events that aggregates read, sorted by (key, time), each as one integer; and the keys of the questions.

    `rows` (n,) are their places in the past.
    """

    keys: NDArray[np.int64]
    rows: NDArray[np.int64]
    asked: NDArray[np.int64]

    @classmethod
    def of(cls, numbers: _Numbers, past: Past, aggregate: Aggregate) -> "_Sorted":
        """Sort the events that an aggregate reads by what it groups them by."""
        rows = np.flatnonzero(counting_events(aggregate, past))
        code, asked = numbers.of_keys(aggregate.by)
        keys = code[rows] + numbers.time[rows]
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], rows[order], asked)

    def answer(self, aggregate: Aggregate, numbers: _Numbers, past: Past) -> NDArray[np.float32]:
        """Answer for the moments just before those of the questions."""
        end = np.searchsorted(self.keys, self.asked + numbers.before(None))
        since = 0 if aggregate.window is None else numbers.before(aggregate.window)
        start = np.searchsorted(self.keys, self.asked + since)
        count = end - start
        if aggregate.what == "count":
            return count.astype(np.float32)
        answer = np.full(len(count), np.nan)
        some = count > 0
        if aggregate.feedback is not None:
            values = past.feedback[aggregate.feedback].values[self.rows]
            sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
            answer[some] = (sums[end] - sums[start])[some] / count[some]
        else:
            at = end[some] - 1 if aggregate.what == "recency" else start[some]
            answer[some] = numbers.now_ms[some] - past.time_ms[self.rows[at]]
        return answer.astype(np.float32)
