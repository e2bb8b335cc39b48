"""Amendments: rows that tell more of an event that was logged before, as a like tells more of a play.

Rows of one user with one interaction are one event. It stands where its first row stands; its feedback is merged from
all of its rows by the rules of the schema. Shape letter: N rows.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn
from upnext.base.schema import MergeRule, feedback_column

__all__ = ["first_rows", "merged"]


def first_rows(user: NDArray[np.int64], interaction: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row where the event of each row begins: (N,) int64; a row that amends nothing is its own.

    Args:     user: (N,) rising; interaction: (N,), -1 for a row of none.
    """
    first = np.arange(len(user))
    of_some = np.flatnonzero(interaction >= 0)
    by_event = of_some[np.lexsort((interaction[of_some], user[of_some]))]  # stable: within an event the rows ascend
    starts = np.ones(len(by_event), bool)
    starts[1:] = (np.diff(user[by_event]) != 0) | (np.diff(interaction[by_event]) != 0)
    first[by_event] = by_event[np.maximum.accumulate(np.where(starts, np.arange(len(by_event)), 0))]
    return first


def merged(
    columns: Mapping[str, FlatColumn], first: NDArray[np.int64], feedback: Mapping[str, MergeRule]
) -> dict[str, FlatColumn]:
    """The columns of the events: feedback merged over the values that were observed, the rest from the first row.

    Args:     columns: of all rows (N,), sorted by (user, time, order); first: (N,) as of `first_rows`.
              feedback: each feedback and its rule.
    Returns:  the columns of the rows that are their own first, in their order.
    """
    events = np.flatnonzero(first == np.arange(len(first)))
    num_rows = np.bincount(first, minlength=len(first))
    is_amended = num_rows[first] > 1
    result = {n: FlatColumn(c.values[events], c.observed[events]) for n, c in columns.items()}
    for name, rule in feedback.items():
        column, target = columns[feedback_column(name)], result[feedback_column(name)]
        rows = np.flatnonzero(is_amended & column.observed)
        rows = rows[np.argsort(first[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(first[rows], prepend=-1))
        if len(starts):
            place = np.searchsorted(events, first[rows[starts]])
            target.values[place] = _merge(rule, column.values[rows], starts)
            target.observed[place] = True
    return result


def _merge(rule: MergeRule, values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Merge runs of values, each of at least one, that begin at `starts`."""
    by_rule: dict[MergeRule, Callable[[], NDArray[Any]]] = {
        "first": lambda: values[starts],
        "last": lambda: values[np.append(starts[1:], len(values)) - 1],
        "max": lambda: np.maximum.reduceat(values, starts),
        "sum": lambda: np.add.reduceat(values, starts, dtype=np.float64),
    }
    return by_rule[rule]()
