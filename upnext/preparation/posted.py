"""Events that were posted to the service, as preparation sees them: the live store of a workspace."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact
from upnext.base.errors import BadConfig
from upnext.base.files import flush
from upnext.base.ids import ExternalId
from upnext.base.schema import (
    INTERACTION_ID,
    ITEM_ID,
    POSITION,
    REQUEST_ID,
    TIME_MS,
    USER_ID,
    FeedbackKind,
    context_column,
    feedback_column,
)
from upnext.events.sources import ORDER, RawLog
from upnext.preparation.forgotten import Forgotten
from upnext.serving.histories import EVENTS, LiveEvent, belongs_to
from upnext.serving.release import POSTED
from upnext.serving.states import is_state
from upnext.store.embedded import LmdbStore

__all__ = ["LATE", "Posted", "erase_posted", "read_posted"]

LATE = 1 << 62
"""The order of rows that are of no file begins here: at one instant they come after those of files."""

_FILE = "data.mdb"


@dataclass(frozen=True)
class Posted:
    """Posted events by their keys in the live store; those that a log holds are known by their keys alone."""

    keys: NDArray[np.bytes_]
    """(n,) sorted."""
    events: Sequence[LiveEvent] = ()
    """In the order of the keys."""

    @classmethod
    def none(cls) -> "Posted":
        """No events."""
        return cls(np.zeros(0, np.bytes_))

    @classmethod
    def read(cls, live: Path, forgotten: Forgotten) -> "Posted":
        """Read a live store, but for what forgotten users posted since."""
        found = [(key, msgspec.msgpack.decode(value, type=LiveEvent)) for key, value in sorted(_scan(live, EVENTS))]
        gone = set(forgotten.among({event.user_id: None for _, event in found}))
        kept = [(key, event) for key, event in found if event.user_id not in gone]
        return cls(np.array([key for key, _ in kept], np.bytes_), [event for _, event in kept])

    @classmethod
    def of(cls, artifact: Artifact) -> "Posted":
        """What a log, or a release, holds of them."""
        path = artifact.folder / POSTED
        return cls(np.load(path)) if path.is_file() else cls.none()

    @property
    def digest(self) -> str:
        """Hash of the keys; empty where there is no event."""
        return (
            hashlib.sha256(b"".join(key.ljust(_KEY, b"\0") for key in self.keys)).hexdigest() if len(self.keys) else ""
        )

    def include(self, other: "Posted") -> bool:
        """Whether all events of another are among these."""
        return bool(np.isin(other.keys, self.keys).all())

    def without(self, users: Sequence[ExternalId]) -> "Posted":
        """Leave out the events of some users."""
        return Posted(self.keys[[not any(belongs_to(key, user) for user in users) for key in self.keys]])

    def save(self, folder: Path) -> None:
        """Write the keys into the folder of a log or a release, if there are any."""
        if len(self.keys):
            np.save(folder / POSTED, self.keys)

    def added_to(self, raw: RawLog, held: "Posted", folder: Path) -> RawLog:
        """Add the events that an earlier log does not hold to the rows of a source, and write down what is in then.

        Args:     held: what the earlier log holds; folder: that of the new log.
        Raises:   BadConfig: the source has no times.
        """
        if not len(self.keys):
            return raw
        if not raw.has_times:
            raise BadConfig("prepare.live: posted events have times, and this source has none; set it to false")
        return replace(raw, source=self._after(raw, held, folder))

    def with_interactions(self, raw: RawLog) -> RawLog:
        """Give a source that has no interactions a column for those that were posted, if any were."""
        if raw.has_interactions or not self.has_interactions:
            return raw
        nothing = pl.lit(None, pl.String).alias(INTERACTION_ID)
        return replace(raw, source=(part.with_columns(nothing) for part in raw.parts()))

    @property
    def has_interactions(self) -> bool:
        """Whether any of them has an interaction."""
        return any(event.interaction_id is not None for event in self.events)

    def _after(self, raw: RawLog, held: "Posted", folder: Path) -> Iterator[pl.DataFrame]:
        """The parts of a source, and one more: posted events take the type that the source's ids have by then."""
        schema: dict[str, pl.DataType] = {}
        for part in raw.parts():
            schema = dict(part.schema) | {name: dtype for name, dtype in schema.items() if dtype == pl.String}
            yield part
        rows = [_row(event, raw, schema) for event in self.events]
        is_in = np.array([row is not None for row in rows], np.bool_)
        Posted(np.union1d(held.keys, self.keys[is_in])).save(folder)
        is_new = is_in & ~np.isin(self.keys, held.keys)
        added = [row for row, new in zip(rows, is_new.tolist(), strict=True) if row is not None and new]
        # Their order depends on nothing but themselves, so that it is the same whenever they are added.
        new = [event for event, is_added in zip(self.events, is_new.tolist(), strict=True) if is_added]
        order = [LATE + event.order for event in new]
        raw.notes += [f"{len(added):,} posted events were added"] if added else []
        if num_out := int((~is_in).sum()):
            raw.notes.append(
                f"{num_out:,} posted events were left out: their ids are not of the type that the source has"
            )
        yield pl.DataFrame(added, schema=schema, orient="row").with_columns(pl.Series(ORDER, order, pl.Int64))


_KEY = 18
"""Bytes of an event's key."""


def _row(event: LiveEvent, raw: RawLog, schema: Mapping[str, pl.DataType]) -> list[Any] | None:
    """A posted event as a row of a source's table; None where its ids are of another type."""
    ids = [_id(value, schema[name] == pl.Int64) for name, value in ((USER_ID, event.user_id), (ITEM_ID, event.item_id))]
    if None in ids:
        return None
    values: dict[str, Any] = {USER_ID: ids[0], ITEM_ID: ids[1], TIME_MS: event.time_ms, POSITION: event.position}
    # Posted events amend posted events: an interaction of a file that is called the same is another one.
    interaction = None if event.interaction_id is None else f"posted {event.interaction_id}"
    values |= {REQUEST_ID: event.request_id or None, INTERACTION_ID: interaction}
    for name, kind in raw.contexts.items():
        value = event.context.get(name)
        is_right = value is None or isinstance(value, str) == (kind == "categorical")
        values[context_column(name)] = value if is_right else None
    for name, allowed in raw.feedback.items():
        values[feedback_column(name)] = _feedback(event.feedback.get(name), allowed)
    return [values[name] for name in schema]


def _id(value: ExternalId, is_integer: bool) -> ExternalId | None:
    if not is_integer:
        return str(value)
    if isinstance(value, int):
        return value
    return int(value) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value) else None


def _feedback(value: float | None, kind: FeedbackKind) -> float | None:
    """A feedback as the source understands it; what another kind of feedback had as its value was not observed."""
    allowed = {"binary": value in (0.0, 1.0), "fraction": 0.0 <= (value or 0.0) <= 1.0, "amount": True}
    return value if allowed[kind] else None


def read_posted(live: Path) -> list[LiveEvent]:
    """Every event of a live store, by user; none where there is no store."""
    return [msgspec.msgpack.decode(value, type=LiveEvent) for _, value in _scan(live, EVENTS)]


def _scan(live: Path, prefix: bytes) -> list[tuple[bytes, bytes]]:
    if not (live / _FILE).is_file():
        return []
    store = LmdbStore(live)
    try:
        return list(store.scan(prefix))
    finally:
        store.close()


def erase_posted(live: Path, forgotten: Forgotten) -> int:
    """Erase what forgotten users posted, while no server has the store open; returns how many events that were.

    The file is written anew and replaced: a deletion alone would leave the bytes in its free pages. Refreshed states go
    with it, all of them: those of the releases remain, and `upnext refresh` makes newer ones.
    """
    values = _scan(live, EVENTS)
    users = [msgspec.msgpack.decode(value, type=LiveEvent).user_id for _, value in values]
    gone = set(forgotten.among(dict.fromkeys(users)))
    kept = {key: value for (key, value), user in zip(values, users, strict=True) if user not in gone}
    beside = live / "rewritten"
    shutil.rmtree(beside, ignore_errors=True)
    others = {key: value for key, value in _scan(live, b"") if not key.startswith(EVENTS)}
    if gone or any(map(is_state, others)):
        store = LmdbStore(beside)
        store.put(kept | {key: value for key, value in others.items() if not is_state(key)})
        store.close()
        os.replace(beside / _FILE, live / _FILE)
        flush(live)
        shutil.rmtree(beside)
    return len(values) - len(kept)
