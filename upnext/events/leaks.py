"""Leaks of side tables: columns that look as if they had been counted over the test period.

A play count that was taken with the rest of the table, after the last event, tells which items will be played. Per item
(or user) let a be its events in the training part, b its held-out events, x the column. An honest column may go with
popularity: then it goes with a as well as with b, and given a it says little more of b. A count over the whole period
holds b itself. So the evidence is the *partial rank correlation* of x and b: both are ranked, what the training part
tells is taken out by least squares, and what is left of the two is correlated.

What the training part tells: a (its rank, squared and cubed, and a level of its own for each count from 1 to 8, because
most items have few events), and the ranks, likewise, of the times of its first and last event. The times matter: an
item's date says how much of its life lies ahead, and is honest. Items without a training event are left out.

A column is suspect if its plain rank correlation with b is at least 0.15, the partial one has the same sign and is at
least 0.12, and lies 4 standard errors (1 / sqrt n) from 0. A name such as show_cnt or avg_rating is evidence too: it
lowers the last two to 0.03 and 3. A name alone makes a note. Columns that predict popularity far better than past
events do are suspect as well, however honest: nothing in one log tells them apart. `allow_leaks` lets them pass.

An average, such as a share of completed plays, follows no count. So the same is asked of each feedback: a is then its
mean in the training part, as it is and drawn to the overall mean by 5 events, beside the number of events it was
observed in, and b its mean in the held-out part. An honest column may tell much of these: a video's length tells how
much of it is played. So more is asked: a partial correlation of 0.5, or 0.1 with a name. An average that was taken over
so much more than this log that it hardly depends on it, and says nothing in its name, passes.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.ids import FIRST
from upnext.base.schema import feedback_column
from upnext.events.audit import Finding
from upnext.events.log import EventLog
from upnext.events.split import TRAIN

__all__ = ["Suspect", "audit_side_tables", "find_suspects", "is_counted"]

_COUNTED = frozenset(
    (
        *("cnt", "count", "counts", "counter", "num", "avg", "average", "mean", "total", "sum", "rate", "ratio"),
        *("popularity", "popular", "trending", "rating", "ratings", "score", "rank", "votes", "views", "plays"),
        *("likes", "clicks", "sales", "purchases", "downloads", "progress"),
    )
)
_FEWEST, _MOST = 50, 50_000
"""With fewer items nothing is said; of more, so many are drawn."""
_LEAST_CORRELATION = 0.15
_LEAST_PARTIAL = {False: 0.12, True: 0.03}
_LEAST_OF_MEANS = {False: 0.5, True: 0.1}
_LEAST_ERRORS = {False: 4.0, True: 3.0}
"""By whether the name speaks of counts."""
_DRAWN_BY = 5.0
"""A mean in the training part counts so many events of the overall mean as well."""
_AT_ONCE = 1 << 20
"""So many events are summed together."""
_SHOWN = 3


@dataclass(frozen=True)
class Suspect:
    """A column with its evidence: rank correlations with what was held out, plain and given the training part."""

    column: str
    correlation: float
    partial: float
    num_rows: int
    held_out: str = "events"
    """What it knows of: the number of events, or the mean of a feedback."""

    def __str__(self) -> str:
        return (
            f"{self.column} (rank correlation with held-out {self.held_out} {self.correlation:.2f}, given the training"
            f" part {self.partial:.2f}, {self.num_rows:,} rows)"
        )


@dataclass(frozen=True)
class _Question:
    """What is asked of each column: what was held out (n,), what the training part tells of it, and what is enough."""

    held_out: str
    later: NDArray[Any]
    told: list[NDArray[Any]]
    """The first is a count of events."""
    rows: NDArray[np.int64]
    """Those about which there is something to know."""
    least_partial: Mapping[bool, float]


def audit_side_tables(
    log: EventLog,
    part: NDArray[np.int8],
    tables: Mapping[str, pa.Table],
    declared: Mapping[str, Collection[str]],
    allowed: Sequence[str] = (),
) -> list[Finding]:
    """Look for the future in side tables.

    Args:     tables: by "item" and "user", row i being dense id i + 2; declared: the features of each that are
              refused if they are suspect; allowed: columns that pass all the same.
    Returns:  a finding per table with numbers in it.
    Raises:   BadConfig: a declared feature is suspect, or a column that is allowed does not exist.
    """
    known = sorted({name for table in tables.values() for name in table.column_names})
    for name in allowed:
        if name not in known:
            raise BadConfig(f"prepare.allow_leaks names {name!r}, which no side table has; columns: {', '.join(known)}")
    findings = []
    for owner, table in tables.items():
        columns = {name: values for name in table.column_names if (values := _numbers(table.column(name))) is not None}
        if not columns or table.column_names == ["row"]:  # the table says nothing
            continue
        dense = log.rows.item if owner == "item" else log.rows.user
        feedback = {name: log.rows.columns[feedback_column(name)] for name in log.schema.feedback}
        suspects = find_suspects(columns, dense, log.rows.time_ms if log.schema.has_times else None, part, feedback)
        for suspect in suspects:
            if suspect.column in declared.get(owner, ()) and suspect.column not in allowed:
                raise BadConfig(
                    f"the {owner} feature {suspect.column!r} looks like an aggregate of the future: {suspect}; remove"
                    f" it from prepare.source.{owner}s.features, or, if it holds at any time, set prepare.allow_leaks ="
                    f' ["{suspect.column}"]'
                )
        findings.append(_finding(owner, list(columns), suspects, allowed))
    return findings


def find_suspects(
    columns: Mapping[str, NDArray[np.float64]],
    dense: NDArray[np.int64],
    time_ms: NDArray[np.int64] | None,
    part: NDArray[np.int8],
    feedback: Mapping[str, FlatColumn] | None = None,
) -> list[Suspect]:
    """The columns that know more of the held-out part than the training part tells, the strongest first.

    Args:     columns: by name, (n,), NaN where unknown, row i being dense id i + 2; dense: (N,) of the events;
              time_ms: (N,), or None without times; part: (N,) the split; feedback: by name, (N,).
    """
    num_rows = max(map(len, columns.values()), default=0)
    is_trained = part == TRAIN
    a, b = (np.bincount(dense[chosen], minlength=num_rows + FIRST)[FIRST:] for chosen in (is_trained, ~is_trained))
    moments = []
    if time_ms is not None:
        first, last = np.full(len(a), np.iinfo(np.int64).max), np.full(len(a), np.iinfo(np.int64).min)
        is_known = is_trained & (dense >= FIRST)
        np.minimum.at(first, dense[is_known] - FIRST, time_ms[is_known])
        np.maximum.at(last, dense[is_known] - FIRST, time_ms[is_known])
        moments = [first, last]
    questions = [_Question("events", b, [a, *moments], _some(a > 0), _LEAST_PARTIAL)]
    for name, column in (feedback or {}).items():
        questions.append(_question(name, column, dense, is_trained, num_rows, moments))
    suspects = [
        max(found, key=lambda suspect: abs(suspect.partial))
        for name, values in columns.items()
        if (found := [one for question in questions if (one := _look(name, values, question)) is not None])
    ]
    return sorted(suspects, key=lambda suspect: -abs(suspect.partial))


def _some(is_one: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows = np.flatnonzero(is_one)
    return rows if len(rows) <= _MOST else np.sort(np.random.default_rng(0).choice(rows, _MOST, replace=False))


def _question(
    name: str,
    column: FlatColumn,
    dense: NDArray[np.int64],
    is_trained: NDArray[np.bool_],
    num_rows: int,
    moments: list[NDArray[np.int64]],
) -> _Question:
    """Ask for the mean of a feedback in the held-out part, given that of the training part."""
    counts, sums = np.zeros((2, num_rows + FIRST)), np.zeros((2, num_rows + FIRST))
    for begin in range(0, len(dense), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        for number, chosen in enumerate((is_trained[some], ~is_trained[some])):
            seen = chosen & column.observed[some]
            rows = dense[some][seen]
            counts[number] += np.bincount(rows, minlength=num_rows + FIRST)
            sums[number] += np.bincount(rows, column.values[some][seen], minlength=num_rows + FIRST)
    (a, b), (sum_a, sum_b) = counts[:, FIRST:], sums[:, FIRST:]
    mean = sum_a.sum() / max(a.sum(), 1)
    before = [(sum_a + drawn_by * mean) / np.maximum(a + drawn_by, 1) for drawn_by in (0.0, _DRAWN_BY)]
    later = sum_b / np.maximum(b, 1)
    return _Question(f"mean {name}", later, [a, *before, *moments], _some((a > 0) & (b > 0)), _LEAST_OF_MEANS)


def _look(name: str, values: NDArray[Any], question: _Question) -> Suspect | None:
    x, b = values[question.rows], question.later[question.rows]
    told = [part[question.rows] for part in question.told]
    is_known = ~np.isnan(x)
    count = int(is_known.sum())
    if count < _FEWEST:
        return None
    x, b = _ranks(x[is_known]), _ranks(b[is_known])
    told = [values[is_known] for values in told]
    plain = _correlation(x - x.mean(), b - b.mean(), x, b)
    design = _design(told)
    left_x, left_b = (values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in (x, b))
    partial = _correlation(left_x, left_b, x, b)
    counted = is_counted(name)
    is_suspect = (
        abs(plain) >= _LEAST_CORRELATION
        and partial * np.sign(plain) >= question.least_partial[counted]
        and abs(partial) * np.sqrt(count) >= _LEAST_ERRORS[counted]
    )
    return Suspect(name, plain, partial, count, question.held_out) if is_suspect else None


def _design(told: list[NDArray[Any]]) -> NDArray[np.float64]:
    """What the training part tells, as columns of a regression; the first of `told` is the count of events."""
    columns = [np.ones(len(told[0]))]
    columns += [_ranks(values) ** power for values in told for power in (1, 2, 3)]
    columns += [(told[0] == level).astype(np.float64) for level in range(1, 9)]
    return np.stack(columns, axis=1)


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks in (0, 1), equal values sharing the middle of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    middles: NDArray[np.float64] = (np.cumsum(counts) - counts / 2) / len(values)
    return middles[index]


def _correlation(
    left: NDArray[np.float64], right: NDArray[np.float64], x: NDArray[np.float64], b: NDArray[np.float64]
) -> float:
    """Correlate what is left of x and of b; 0 where less than a thousandth of either's variance is."""
    if (left**2).mean() <= 1e-3 * x.var() or (right**2).mean() <= 1e-3 * b.var():
        return 0.0
    return float((left * right).mean() / np.sqrt((left**2).mean() * (right**2).mean()))


def is_counted(name: str) -> bool:
    """Whether a name speaks of counts or averages: show_cnt, avgRating."""
    return not _COUNTED.isdisjoint(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name))


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """A column as numbers, NaN where unknown; text counts if all of it is numbers, and other types do not."""
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    column = column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
    try:
        values: NDArray[np.float64] = column.cast(pa.float64(), safe=is_text).fill_null(np.nan).to_numpy()
    except pa.ArrowInvalid:
        return None
    return None if np.isnan(values).all() else values


def _finding(owner: str, columns: list[str], suspects: list[Suspect], allowed: Sequence[str]) -> Finding:
    check = f"columns of {owner}s"
    named = [name for name in columns if is_counted(name) and name not in {suspect.column for suspect in suspects}]
    if not suspects:
        message = f"none of {len(columns)} columns of numbers knows more of the held-out part than the training part"
        message += f"; by their names these may be counts: {', '.join(named)}" if named else ""
        return Finding(check, "note" if named else "ok", len(named), message)
    shown = ", ".join(map(str, suspects[:_SHOWN]))
    rest = ", ".join(suspect.column for suspect in suspects[_SHOWN:])
    message = f"{len(suspects)} of {len(columns)} look like aggregates of the future: {shown}"
    message += f"; and {rest}" if rest else ""
    passed = [suspect.column for suspect in suspects if suspect.column in allowed]
    message += f"; allowed by prepare.allow_leaks: {', '.join(passed)}" if passed else ""
    return Finding(check, "note" if len(passed) == len(suspects) else "warning", len(suspects), message)
