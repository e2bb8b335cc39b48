"""Preparing a log as slow loops, whole and in memory, to be read beside `upnext.events.encoding`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from upnext.base.batches import FlatColumn
from upnext.base.ids import FIRST, hash_texts, stable_hash
from upnext.events.log import LogRows

Id = int | str


class Read(NamedTuple):
    """One row of a source, as its reader understands it."""

    user: Id
    item: Id
    time: int
    request: str | None
    device: str | None
    played: float | None


def by_first_event(ids: Sequence[Id], times: Sequence[int]) -> list[Id]:
    """Each id once, by the time of its first event; at one time by the row."""
    rows = sorted(range(len(ids)), key=lambda row: times[row])
    return list(dict.fromkeys(ids[row] for row in rows))


def log_rows(events: Sequence[Read]) -> LogRows:
    """The rows of a log, sorted by user, time and order."""
    times = [event.time for event in events]
    users = by_first_event([event.user for event in events], times)
    items = by_first_event([event.item for event in events], times)
    devices = sorted({event.device for event in events if event.device is not None})
    order = sorted(range(len(events)), key=lambda row: (users.index(events[row].user), times[row]))
    chosen = [events[row] for row in order]
    return LogRows(
        user=np.array([users.index(event.user) + FIRST for event in chosen]),
        item=np.array([items.index(event.item) + FIRST for event in chosen]),
        item_hash=np.array([stable_hash(event.item) for event in chosen]),
        time_ms=np.array([event.time for event in chosen]),
        order=np.array(order),
        request=np.array([-1 if e.request is None else int(hash_texts(pa.array([e.request]))[0]) for e in chosen]),
        position=np.full(len(chosen), -1),
        columns={
            "context.device": FlatColumn(
                np.array([0 if e.device is None else devices.index(e.device) + FIRST for e in chosen]),
                np.array([e.device is not None for e in chosen]),
            ),
            "feedback.played": FlatColumn(
                np.array([e.played or 0 for e in chosen], np.float32),
                np.array([e.played is not None for e in chosen]),
            ),
        },
    )


def write(path: Path, rows: LogRows) -> None:
    """Write a segment at once, by Arrow itself."""
    names = ("user", "item", "item_hash", "time_ms", "order", "request", "position")
    arrays = {name: getattr(rows, name) for name in names}
    for name, column in rows.columns.items():
        arrays |= {name: column.values, name + ".observed": column.observed.view(np.uint8)}
    table = pa.table(arrays)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
