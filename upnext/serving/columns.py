"""Columns: what a ranker reads of candidates when somebody asks. `preparation` gives the same of logged events.

Shape letters: B requests, b some of them, C candidates.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Candidates, Column, Request
from upnext.base.schema import HOUR_OF_DAY, feature_column
from upnext.serving.assortment import Assortment
from upnext.serving.counted import CountedUsers
from upnext.serving.histories import Histories
from upnext.serving.pasts import Pasts

__all__ = ["Columns", "columns_of"]

_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000


@dataclass(frozen=True)
class Columns:
    """Gives the candidates of B requests the columns that a ranker reads."""

    reads: frozenset[str]
    counted: CountedUsers
    request: Request
    user: NDArray[np.int64]
    """(B,) whose request it is, among the users of the batch."""
    lag_ms: int
    """Aggregates count only what happened longer ago than this."""

    def given_to(self, candidates: Candidates, some: slice, items: NDArray[np.int64] | None = None) -> Candidates:
        """Add the columns to candidates (b, C).

        Args:     some: whose they are, of the requests. items: (b, C) dense ids of the assortment, where the candidates
                  have others.
        """
        request, shape = self.request.take(torch.arange(len(self.request))[some]), candidates.item.shape
        dense = candidates.item.numpy() if items is None else items
        found = {name: _column_of(column) for name, column in request.context.items()}
        for name, column in request.features.items():
            found[feature_column("user", name)] = _column_of(column)
        for name, column in self.counted.items.columns.items():
            found[feature_column("item", name)] = column.take(torch.from_numpy(dense))
        hour = (request.time_ms.numpy() % _DAY_MS / _HOUR_MS).astype(np.float32)
        found[HOUR_OF_DAY] = _number(hour[:, None])
        time_ms = request.time_ms.numpy() - self.lag_ms
        answers = self.counted.answer(self.user[some], time_ms, request.context, dense)
        found |= {name: _number(answer) for name, answer in answers.items()}
        features = {name: _wide(column, shape) for name, column in found.items() if name in self.reads}
        return replace(candidates, features={**candidates.features, **features})


def columns_of(
    histories: Histories, assortment: Assortment, pasts: Pasts, request: Request, user: NDArray[np.int64] | None = None
) -> Columns | None:
    """What gives the candidates of a batch their columns; None where the ranker reads none.

    Args:     pasts: everything that the users of the batch did, known items or not, also after the requests.
              user: (B,) whose request each is, by the number of the past; None: the pasts are in their order.
    """
    counted, release = histories.counted, histories.release
    if counted is None:
        return None
    who = np.arange(len(request)) if user is None else user
    return Columns(counted.reads, counted.of_users(pasts, assortment), request, who, release.settings.lag)


def _column_of(column: Column) -> Column:
    """A column of requests (b,), or (b, M) of several values, whose first one counts, as (b, 1)."""
    if column.values.dim() > 1:
        return Column(column.values[:, :1], column.observed[:, :1])
    return Column(column.values[:, None], column.observed[:, None])


def _number(values: NDArray[np.float32]) -> Column:
    return Column(torch.from_numpy(values), torch.from_numpy(~np.isnan(values)))


def _wide(column: Column, shape: torch.Size) -> Column:
    return Column(column.values.expand(shape), column.observed.expand(shape))
