"""From checked rows to compact numbers on disk, and from there to sorted rows: a part of the source at a time.

The final number of an id follows from the time of its first event, which is known at the end. So rows lie on disk in
the order of the source with passing numbers; then they are gathered by user; then the users are sorted, some at a time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn
from upnext.base.errors import BadData
from upnext.base.ids import FIRST, hash_texts
from upnext.base.schema import (
    INTERACTION_ID,
    ITEM_ID,
    POSITION,
    REQUEST_ID,
    TIME_MS,
    USER_ID,
    context_column,
    feedback_column,
)
from upnext.events.log import LogRows, in_order, user_blocks
from upnext.events.numbering import Numbering
from upnext.events.sources.raw import ORDER, RawLog

__all__ = ["Encoded", "encode"]

_CORE = (ORDER, USER_ID, ITEM_ID, TIME_MS, REQUEST_ID, POSITION, INTERACTION_ID)


@dataclass(frozen=True)
class Encoded:
    """The rows of a source on disk, in its order, and what their numbers stand for."""

    path: Path
    row: np.dtype[Any]
    """What a row is on disk: passing numbers, -1 for null, and floats, NaN where they were not observed."""
    new: dict[str, pl.Series]
    """Users, items and the values of each categorical context, by their columns: what an earlier log does not know, in
    the order of their dense ids; items that only the side table knows come last."""
    dense: dict[str, NDArray[np.int64]]
    """Per field of passing numbers, their dense ids. -1 reads the last entry: 0."""
    offsets: NDArray[np.int64]
    """(U+1,) by dense user: where the events of each begin once they are sorted."""

    def sorted_blocks(self, item_hash: NDArray[np.int64], most: int) -> Iterator[LogRows]:
        """The rows sorted by (user, time, order), a block of users after the other.

        Args:     item_hash: (V,) by dense id.
                  most: how many rows a block has at most; a user with more has one of their own.
        """
        borders = user_blocks(self.offsets, most)
        starts = self.offsets[borders]
        path = self.path if len(borders) <= 2 else self._gather(borders, starts, most)
        with path.open("rb") as file:
            for count in np.diff(starts):
                yield self._sorted(np.frombuffer(file.read(int(count) * self.row.itemsize), self.row), item_hash)

    def _gather(self, borders: NDArray[np.int64], starts: NDArray[np.int64], most: int) -> Path:
        """Write the rows once more, those of each block together and in the order of the source."""
        gathered, size = self.path.with_suffix(".gathered"), self.row.itemsize
        ends = starts.copy()  # of what is written of each block
        number = np.min_scalar_type(len(borders))  # integers of 8 and 16 bits are sorted fast
        with self.path.open("rb") as source, gathered.open("wb") as target:
            while content := source.read(most * size):
                rows = np.frombuffer(content, self.row)
                block = np.searchsorted(borders, self.dense[USER_ID][rows[USER_ID]], "right") - 1
                rows = _take(rows, np.argsort(block.astype(number), kind="stable"))
                counts = np.bincount(block, minlength=len(starts))
                for index, piece in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
                    target.seek(int(ends[index]) * size)
                    target.write(piece.tobytes())
                ends += counts
        return gathered

    def _sorted(self, rows: NDArray[Any], item_hash: NDArray[np.int64]) -> LogRows:
        names = self.row.names or ()
        user = self.dense[USER_ID][rows[USER_ID]]
        time_ms = rows[TIME_MS] if TIME_MS in names else np.zeros(len(rows), np.int64)
        by_user = in_order(user, time_ms, rows[ORDER])
        rows, user = _take(rows, by_user), user[by_user]
        item = self.dense[ITEM_ID][rows[ITEM_ID]]

        def read(name: str, absent: int) -> NDArray[np.int64]:
            return rows[name].astype(np.int64) if name in names else np.full(len(rows), absent)

        return LogRows(
            user=user,
            item=item,
            item_hash=item_hash[item],
            time_ms=read(TIME_MS, 0),
            order=read(ORDER, 0),
            request=read(REQUEST_ID, -1),
            position=read(POSITION, -1),
            interaction=rows[INTERACTION_ID].copy() if INTERACTION_ID in names else None,
            columns={name: self._column(name, rows[name]) for name in names if name not in _CORE},
        )

    def _column(self, name: str, values: NDArray[Any]) -> FlatColumn:
        if name in self.dense:
            return FlatColumn(self.dense[name][values], values >= 0)
        observed = ~np.isnan(values)
        return FlatColumn(np.where(observed, values, np.float32(0)), observed)


def encode(raw: RawLog, path: Path, known: Mapping[str, pl.Series], first: int) -> Encoded:
    """Read a source part by part and write its rows to a file, compactly, numbering ids on the way.

    In memory are one part, and every id with its first event.

    Args:     known: per column the ids of an earlier log in the order of their dense ids, null where one is gone; they
              keep their numbers. first: the order of the first row.
    Returns:  new users and items numbered by their first event in time, then by row; new categories by their value.
    Raises:   BadData: the source has no row and no earlier log goes on, or it is refused as it is read.
    """
    coded = [context_column(name) for name, kind in raw.contexts.items() if kind == "categorical"]
    numberings = {name: Numbering(known.get(name)) for name in (USER_ID, ITEM_ID, *coded)}
    row = _row(raw)
    num_rows = 0
    with path.open("wb") as file:
        for part in raw.parts():
            rows = np.empty(len(part), row)
            along = np.arange(num_rows, num_rows + len(part))
            rows[ORDER] = part[ORDER].to_numpy() if ORDER in part.columns else along + first
            moment = part[TIME_MS].to_numpy() if raw.has_times else along
            by_moment = np.argsort(moment, kind="stable")
            for name in (USER_ID, ITEM_ID):
                rows[name] = numberings[name].add(part[name], moment, by_moment, num_rows)
            if raw.has_times:
                rows[TIME_MS] = moment
            if raw.has_requests:  # a request keeps its number when later files go on with it
                rows[REQUEST_ID] = hash_texts(part[REQUEST_ID].to_arrow())
            if raw.has_positions:
                rows[POSITION] = part[POSITION].fill_null(-1).to_numpy()
            if raw.has_interactions:
                rows[INTERACTION_ID] = hash_texts(part[INTERACTION_ID].to_arrow())
            for name in map(context_column, raw.contexts):
                rows[name] = numberings[name].number(part[name]) if name in coded else _floats(part[name])
            for name in map(feedback_column, raw.feedback):
                rows[name] = _floats(part[name])
            file.write(rows.tobytes())
            num_rows += len(part)
    if num_rows == 0 and not known:
        raise BadData("the source holds no event; give a file with at least one row")
    return _numbered(raw, path, row, numberings)


def _numbered(raw: RawLog, path: Path, row: np.dtype[Any], numberings: dict[str, Numbering]) -> Encoded:
    users, items = numberings.pop(USER_ID), numberings.pop(ITEM_ID)
    new: dict[str, pl.Series] = {}
    dense: dict[str, NDArray[np.int64]] = {}
    new[USER_ID], dense[USER_ID] = users.by_first()
    new[ITEM_ID], dense[ITEM_ID] = items.by_first(None if raw.items is None else raw.items[ITEM_ID])
    for name, numbering in numberings.items():
        new[name], dense[name] = numbering.by_value()
    counts = np.zeros(len(users.counts) + FIRST, np.int64)
    counts[dense[USER_ID][:-1]] = users.counts
    return Encoded(path, row, new, dense, np.append(0, np.cumsum(counts)))


def _row(raw: RawLog) -> np.dtype[Any]:
    fields: list[tuple[str, Any]] = [(ORDER, np.int64), (USER_ID, np.int32), (ITEM_ID, np.int32)]
    fields += [(TIME_MS, np.int64)] if raw.has_times else []
    fields += [(REQUEST_ID, np.int64)] if raw.has_requests else []
    fields += [(POSITION, np.int32)] if raw.has_positions else []
    fields += [(INTERACTION_ID, np.int64)] if raw.has_interactions else []
    for name, kind in raw.contexts.items():
        fields.append((context_column(name), np.int32 if kind == "categorical" else np.float32))
    fields += [(feedback_column(name), np.float32) for name in raw.feedback]
    return np.dtype(fields)


def _take(rows: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """Select records by index: as pieces of memory, for NumPy would copy them field by field."""
    return rows.view(f"V{rows.itemsize}")[order].view(rows.dtype)


def _floats(values: pl.Series) -> NDArray[np.float32]:
    return values.fill_null(float("nan")).to_numpy()
