"""The event log on disk: immutable Arrow segments, memory-mapped, sorted by (user, time, order)."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upnext.base.batches import Events, FlatColumn
from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact, BadData
from upnext.base.files import link_or_copy
from upnext.base.schema import LAST_ITEM, Schema
from upnext.base.views import ALL
from upnext.events.amendments import first_rows, merged
from upnext.events.segments import write_columns
from upnext.events.sequences import SideSequence, open_sequences

__all__ = ["EventLog", "LogRows", "copy_late", "in_order", "num_segments", "user_blocks", "write_late", "write_log"]

_SEGMENTS = "segments.json"
_LATE = "late.npy"
_OBSERVED = ".observed"
_CORE = ("user", "item", "item_hash", "time_ms", "order", "request", "position")
_INTERACTION = "interaction"

Amended = Literal["in_time", "fully", "not"]
"""Which rows tell of an event: those before its part of the split ended, all, or each of its own alone, as logged."""


@dataclass(frozen=True)
class LogRows:
    """Rows to write, as arrays (N,) in the order of their source.

    `request` is -1 for events of no request. `columns` holds every context and feedback of the schema under its
    full name.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    item_hash: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    order: NDArray[np.int64]
    request: NDArray[np.int64]
    position: NDArray[np.int64]
    columns: Mapping[str, FlatColumn]
    interaction: NDArray[np.int64] | None = None
    """(N,) rows of one user with one number tell of one event, -1 for rows that do not; None in a log without any."""

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "LogRows":
        """Select rows by index or mask; a slice copies nothing."""
        return LogRows(
            **{name: getattr(self, name)[rows] for name in _CORE},
            columns={n: FlatColumn(c.values[rows], c.observed[rows]) for n, c in self.columns.items()},
            interaction=None if self.interaction is None else self.interaction[rows],
        )

    def without_users(self, users: Sequence[int]) -> "LogRows":
        """Leave out the rows of some users."""
        return self.take(np.flatnonzero(~np.isin(self.user, users)))

    def sorted(self) -> "LogRows":
        """Sort by (user, time, order): events of one instant keep the order of their source."""
        return self.take(in_order(self.user, self.time_ms, self.order))


def in_order(user: NDArray[np.int64], time_ms: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows in the order of (user, time, order): (N,) int64."""
    if len(user) == 0:
        return np.empty(0, np.int64)
    first_user, first_ms = int(user.min()), int(time_ms.min())
    span = int(time_ms.max()) - first_ms + 1
    is_short = (int(user.max()) - first_user + 1) * span <= np.iinfo(np.int64).max
    if is_short and (np.diff(order) > 0).all():  # the sort is stable: what is in order needs no third key
        return np.argsort((user - first_user) * span + (time_ms - first_ms), kind="stable")  # one key is sorted fastest
    return np.lexsort((order, time_ms, user))


def sibling_groups(rows: LogRows, schema: Schema) -> NDArray[np.int64]:
    """Number the groups of events that must not see each other, rising along the sorted rows.

    Siblings are events of one user at one time, or of one request; where a request spans other events they join
    its group, which hides more than needed and never less. Without `request_safe` every event is alone.
    """
    count = len(rows.user)
    if not schema.request_safe or count == 0:
        return np.arange(count)
    joins_previous = np.zeros(count, bool)
    if schema.has_times:
        joins_previous[1:] = rows.time_ms[1:] == rows.time_ms[:-1]
    of_request = np.flatnonzero(rows.request >= 0)
    if len(of_request):
        user, request = rows.user[of_request], rows.request[of_request]
        by_request = np.lexsort((request, user))  # stable: within a request the rows ascend
        starts = np.ones(len(of_request), bool)
        starts[1:] = (np.diff(user[by_request]) != 0) | (np.diff(request[by_request]) != 0)
        first, last = of_request[by_request[starts]], of_request[by_request[np.append(starts[1:], True)]]
        inside = np.bincount(first + 1, minlength=count + 1) - np.bincount(last + 1, minlength=count + 1)
        joins_previous |= np.cumsum(inside)[:count] > 0
    same_user = np.zeros(count, bool)
    same_user[1:] = rows.user[1:] == rows.user[:-1]
    return np.cumsum(~(joins_previous & same_user)) - 1


def write_log(
    folder: Path, blocks: Iterable[LogRows], schema: Schema, offsets: NDArray[np.int64], earlier: Path | None = None
) -> None:
    """Write a log into an empty folder: one segment, after those of an earlier log if there is one.

    Args:     blocks: the rows, sorted by (user, time, order), in one or more blocks.
              offsets: (U+1,) where each user's events begin; dense users, padding and unknown included.
              earlier: the folder of a log whose segments go on; they are linked, where the disk can link, not copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = link_segments(earlier, folder) if earlier is not None else []
    if offsets[-1] or not names:
        names.append(f"segment-{len(names):06}.arrow")
        write_columns(folder / names[-1], (_arrays(rows) for rows in blocks), int(offsets[-1]))
        np.save(folder / _offsets_of(names[-1]), offsets)
    (folder / _SEGMENTS).write_text(
        json.dumps({"schema": schema.model_dump(), "num_users": len(offsets) - 1, "segments": names}, indent=1)
    )


def write_late(folder: Path, late: NDArray[np.bool_]) -> None:
    """Write down which rows of a log, in its order, are left out of the events that they amend."""
    np.save(folder / _LATE, late)


def copy_late(source: Path, target: Path) -> None:
    """Put what `write_late` wrote into a log of the same rows, if the log has interactions."""
    if (source / _LATE).is_file():
        link_or_copy(source / _LATE, target / _LATE)


def link_segments(source: Path, target: Path) -> list[str]:
    """Put the segments of one log's folder into another's, under names that count from 0.

    Returns:  their new names.
    """
    names = []
    for number, name in enumerate(_listing(source)["segments"]):
        names.append(f"segment-{number:06}.arrow")
        for old, new in ((name, names[-1]), (_offsets_of(name), _offsets_of(names[-1]))):
            link_or_copy(source / old, target / new)
    return names


def num_segments(folder: Path) -> int:
    """How many segments a log has: the reading of more than one begins with merging them."""
    return len(_listing(folder)["segments"])


def _arrays(rows: LogRows) -> dict[str, NDArray[Any]]:
    """The rows as columns of a segment."""
    arrays = {name: getattr(rows, name) for name in _CORE}
    if rows.interaction is not None:
        arrays[_INTERACTION] = rows.interaction
    for name, column in rows.columns.items():
        arrays[name] = column.values
        arrays[name + _OBSERVED] = column.observed.view(np.uint8)
    return arrays


def _offsets_of(segment: str) -> str:
    return segment.replace(".arrow", ".offsets.npy")


def _listing(folder: Path) -> dict[str, Any]:
    listing = json.loads((folder / _SEGMENTS).read_text())
    if not isinstance(listing, dict):
        raise TypeError(f"{_SEGMENTS} is no table")
    return listing


def user_blocks(offsets: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Cut users into blocks of neighbours, with at most so many events, or a single user.

    Args:     offsets: (U+1,) where each user's events begin.
    Returns:  (blocks + 1,) the first user of each block, then U.
    """
    borders = [0]
    while borders[-1] < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[borders[-1]] + most, "right")) - 1
        borders.append(max(borders[-1] + 1, last))
    return np.array(borders)


class EventLog:
    """A log opened for reading: flat events, sorted by (user, time, order), and where each user begins.

    `events.request` numbers sibling groups; `rows.request` keeps the requests as logged (-1 for none). It reads the
    folder `log` of an artifact; the public `upnext.EventLog` stands for the whole of that artifact.
    """

    def __init__(self, schema: Schema, rows: LogRows, offsets: NDArray[np.int64], folder: Path | None = None) -> None:
        self.schema = schema
        self.folder = folder
        self.rows = rows
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.rows.user)

    @classmethod
    def open(cls, folder: Path, amended: Amended = "in_time") -> "EventLog":
        """Open a log. One segment is memory-mapped; several are merged in memory, and so are amendments.

        Args:     amended: how; it changes nothing in a log without interactions. Between "in_time" and "fully" only
                  feedback differs. "not" gives rows, not events.
        Raises:   BadArtifact: a file is missing or damaged.
        """
        try:
            listing = _listing(folder)
            schema = parse_config(Schema, listing["schema"], str(folder / _SEGMENTS))
            parts = [_read_segment(folder / name) for name in listing["segments"]]
            rows = parts[0] if len(parts) == 1 else _concatenate(parts).sorted()
            if schema.merge is not None and amended != "not":
                rows = _amend(rows, schema, ~np.load(folder / _LATE) if amended == "in_time" else None)
            elif len(parts) == 1:
                return cls(schema, rows, np.load(folder / _offsets_of(listing["segments"][0])), folder)
            return cls(schema, rows, np.searchsorted(rows.user, np.arange(listing["num_users"] + 1)), folder)
        except (OSError, EOFError, LookupError, TypeError, ValueError) as error:
            raise BadArtifact(f"{folder} holds no whole event log ({error}); run prepare again") from None

    def blocks(self, most: int) -> Iterator[tuple[slice, "EventLog"]]:
        """The log of some users after the other, and the rows where it lies: what is made of it stays small.

        Args:     most: how many events a block has at most; a user with more has one of their own.
        """
        borders = user_blocks(self.offsets, most)
        for first, last in pairwise(borders.tolist()):
            rows = slice(int(self.offsets[first]), int(self.offsets[last]))
            yield rows, EventLog(self.schema, self.rows.take(rows), self.offsets[first : last + 1] - rows.start)

    @cached_property
    def sequences(self) -> dict[str, SideSequence]:
        """The side sequences beside the log, such as searches, by name."""
        return {} if self.folder is None else open_sequences(self.folder)

    @cached_property
    def events(self) -> Events:
        """All events with their columns and views."""
        rows = self.rows
        return Events(
            rows.item,
            rows.item_hash,
            rows.time_ms,
            rows.order,
            self.groups,
            columns=rows.columns,
            views=self.views,
        )

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """(N,) which events must not see each other, rising: `events.request`, without the rest."""
        return sibling_groups(self.rows, self.schema)

    @cached_property
    def views(self) -> dict[str, NDArray[np.bool_]]:
        """Each view of the schema, and `all`, as (N,) bool."""
        return {ALL: np.ones(len(self), bool)} | self.schema.select_views(self.rows.columns)

    @cached_property
    def request_start(self) -> NDArray[np.int64]:
        """(N,) the row where each event's sibling group begins: its history is what lies before that row."""
        group = self.events.request
        first = np.ones(len(group), bool)
        first[1:] = group[1:] != group[:-1]
        starts: NDArray[np.int64] = np.flatnonzero(first)[np.cumsum(first) - 1]
        return starts

    def mask(self, view: str) -> NDArray[np.bool_]:
        """Which events a view holds: (N,) bool.

        Raises:   BadData: the log has no such view.
        """
        if view not in self.views:
            raise BadData(f"the log has no view {view!r}; it has {sorted(self.views)}. Add it to [prepare.views]")
        return self.views[view]

    def in_view(self, view: str) -> tuple[NDArray[np.int64], Events]:
        """The rows of a view, ascending, and their events.

        Raises:   BadData: the log has no such view.
        """
        rows = np.flatnonzero(self.mask(view))
        events = self.events
        return rows, (events if len(rows) == len(events) else events.take(rows))

    def with_last_items(self, view: str) -> tuple[NDArray[np.int64], Events]:
        """The same with a column LAST_ITEM: the item of the last event of the view, by the same user, before each
        event's request; unobserved, and 0, where there is none."""
        rows, events = self.in_view(view)
        before = np.searchsorted(rows, self.request_start[rows]) - 1
        earlier = rows[np.maximum(before, 0)]
        has_one = (before >= 0) & (self.rows.user[earlier] == self.rows.user[rows])
        last = FlatColumn(np.where(has_one, self.rows.item[earlier], 0), has_one)
        return rows, replace(events, columns={**events.columns, LAST_ITEM: last})


def _read_segment(path: Path) -> LogRows:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def read(name: str) -> NDArray[Any]:
        column = table.column(name)  # one chunk stays where it is mapped
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        array: NDArray[Any] = chunk.to_numpy(zero_copy_only=True)
        return array

    columns = {
        name: FlatColumn(read(name), read(name + _OBSERVED).view(np.bool_))
        for name in table.column_names
        if name not in (*_CORE, _INTERACTION) and not name.endswith(_OBSERVED)
    }
    interaction = read(_INTERACTION) if _INTERACTION in table.column_names else None
    return LogRows(**{name: read(name) for name in _CORE}, columns=columns, interaction=interaction)


def _amend(rows: LogRows, schema: Schema, is_known: NDArray[np.bool_] | None) -> LogRows:
    """From rows, sorted, to the events that they tell of, by those that are known."""
    rows = rows if is_known is None else rows.take(is_known)
    if rows.interaction is None:
        raise ValueError("a segment has no interactions")
    first = first_rows(rows.user, rows.interaction)
    events = rows.take(np.flatnonzero(first == np.arange(len(first))))
    return replace(events, columns=merged(rows.columns, first, schema.merge_rules))


def _concatenate(parts: list[LogRows]) -> LogRows:
    given = [part.interaction for part in parts if part.interaction is not None]
    return LogRows(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _CORE},
        columns={
            name: FlatColumn(
                np.concatenate([part.columns[name].values for part in parts]),
                np.concatenate([part.columns[name].observed for part in parts]),
            )
            for name in parts[0].columns
        },
        interaction=np.concatenate(given) if given else None,
    )
