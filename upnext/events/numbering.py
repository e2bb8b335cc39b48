"""Numbering ids as they come: of each only its first event is kept, however long the log is."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.base.errors import BadData
from upnext.base.ids import FIRST

__all__ = ["Numbering"]

_NEVER = np.iinfo(np.int64).max
_MOST_IDS = np.iinfo(np.int32).max


class Numbering:
    """Numbers ids from 0 on as they come, and keeps of each new id only when it was first met.

    Where some parts hold integers and others text, all ids are text: integers have one spelling.

    Args:     known: ids that keep their numbers, which are their places; null where one is taken by nobody.
    """

    def __init__(self, known: pl.Series | None = None) -> None:
        known = pl.Series(dtype=pl.Null) if known is None else known
        numbers = pl.int_range(len(known), dtype=pl.Int32, eager=True).alias("number")
        self._known = pl.DataFrame([known.alias("id"), numbers]).drop_nulls("id")
        self._num_kept, self._num_found = len(known), len(self._known)
        self._first_moment = np.full(len(known), _NEVER)
        self._first_row = np.full(len(known), _NEVER)
        self.counts = np.zeros(len(known), np.int64)
        """How often each id was met, by its passing number."""

    def add(
        self, ids: pl.Series, moment: NDArray[np.int64], by_moment: NDArray[np.int64], num_before: int
    ) -> NDArray[np.int32]:
        """Number the ids of a part.

        Args:     ids: (n,) Int64 or String, none null; moment: (n,) when each was met; by_moment: (n,) the rows in the
                  order of their moments; num_before: how many rows came before the part.
        Returns:  (n,) passing numbers.
        """
        numbers = self.number(ids)
        first = np.full(len(self.counts), -1)
        last_to_first = by_moment[::-1]
        first[numbers[last_to_first]] = last_to_first  # what is written last stays
        met = np.flatnonzero(first >= 0)
        earlier = moment[first[met]] < self._first_moment[met]  # at the same moment the earlier part came first
        met = met[earlier]
        self._first_moment[met] = moment[first[met]]
        self._first_row[met] = first[met] + num_before
        self.counts += np.bincount(numbers, minlength=len(self.counts))
        return numbers

    def number(self, ids: pl.Series) -> NDArray[np.int32]:
        """Number values whose first event matters to nobody; a null has the number -1."""
        if ids.dtype != self._known.schema["id"]:
            self._known = self._known.cast({"id": ids.dtype if self._known.is_empty() else pl.String})
            ids = ids.cast(self._known.schema["id"])
        numbers = _look_up(ids, self._known)
        rows = np.flatnonzero(numbers < 0)
        unknown = ids.gather(rows)
        new = unknown.drop_nulls().unique(maintain_order=True)
        if len(new):
            start, end = len(self.counts), len(self.counts) + len(new)
            if end > _MOST_IDS:
                raise BadData(f"the source holds more than {_MOST_IDS:,} ids of one kind; prepare a part of it")
            fresh = pl.DataFrame({"id": new, "number": np.arange(start, end, dtype=np.int32)})
            numbers[rows] = _look_up(unknown, fresh)
            self._known = pl.concat([self._known, fresh], rechunk=True)
            self._first_moment = np.append(self._first_moment, np.full(len(new), _NEVER))
            self._first_row = np.append(self._first_row, np.full(len(new), _NEVER))
            self.counts = np.append(self.counts, np.zeros(len(new), np.int64))
        return numbers

    def by_first(self, others: pl.Series | None = None) -> tuple[pl.Series, NDArray[np.int64]]:
        """The new ids by the time of their first event (then by its row), and the dense id of each passing number.

        Args:     others: ids that come last, where they are new and were not met.
        """
        kept = self._num_kept
        ids, dense = self._after_known(np.lexsort((self._first_row[kept:], self._first_moment[kept:])))
        if others is not None:
            asked = others.cast(ids.dtype).alias("id").to_frame()
            unmet = asked.join(self._known, on="id", how="anti", maintain_order="left")["id"]
            ids = pl.concat([ids, unmet.unique(maintain_order=True)])
        return ids, dense

    def by_value(self) -> tuple[pl.Series, NDArray[np.int64]]:
        """The new ids in the order of their values, and the dense id of each passing number."""
        return self._after_known(self._new.arg_sort().to_numpy())

    @property
    def _new(self) -> pl.Series:
        """By their passing numbers."""
        return self._known["id"].slice(self._num_found)

    def _after_known(self, order: NDArray[np.int64]) -> tuple[pl.Series, NDArray[np.int64]]:
        dense = np.zeros(len(self.counts) + 1, np.int64)  # padding at the end, for null
        dense[: self._num_kept] = np.arange(self._num_kept) + FIRST
        dense[self._num_kept + order] = np.arange(len(order)) + (self._num_kept + FIRST)
        return self._new.gather(order), dense


def _look_up(ids: pl.Series, known: pl.DataFrame) -> NDArray[np.int32]:
    asked = ids.alias("id").to_frame()
    found = asked.join(known, on="id", how="left", maintain_order="left")["number"]
    numbers: NDArray[np.int32] = found.fill_null(-1).to_numpy(writable=True)
    return numbers
