"""Histories: what a user did, as the release knows it and as it was posted since.

A release holds its users' events by dense id, as arrays. What is posted later lies in the live store by external id,
so that it outlives the release and means the same to the next one.
"""

import operator
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import CORE, Events, FlatColumn
from upnext.base.ids import ExternalId, stable_hash
from upnext.base.protocols import Store
from upnext.base.schema import MergeRule, Schema, context_column, feedback_column
from upnext.features.aggregates import ReadsColumns
from upnext.features.vocabulary import Vocabulary
from upnext.serving.assortment import Assortment
from upnext.serving.counted import Counted
from upnext.serving.pasts import Pasts
from upnext.serving.records import load_records
from upnext.serving.release import Release

__all__ = [
    "EVENTS",
    "Histories",
    "LiveEvent",
    "Told",
    "belongs_to",
    "history_key",
    "merged",
    "pack_history",
    "posted_by",
]

_HISTORY = b"h/"
EVENTS = b"e/"
"""What the keys of posted events begin with; the live store holds changes of items, too."""
_INT64 = 8
"""Bytes of an integer, and of a user's part of a key."""
_ORDERS = (1 << 62) - 1


class LiveEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event as a client posted it, or one row of those that tell of it."""

    user_id: ExternalId
    item_id: ExternalId
    time_ms: int
    event_id: str
    request_id: str | None = None
    position: int | None = None
    context: dict[str, str | float] = {}
    feedback: dict[str, float] = {}
    interaction_id: str | None = None
    """Rows of one user that have it in common tell of one event."""

    @property
    def told_of(self) -> tuple[ExternalId, str, bool]:
        """Equal for the rows that tell of one event."""
        return self.user_id, self.interaction_id or self.event_id, self.interaction_id is not None

    @property
    def order(self) -> int:
        """Decides between events of one instant, here as in a log that holds them; it depends on nothing but the id."""
        return stable_hash(self.event_id) & _ORDERS

    def key(self) -> bytes:
        """Its place in the live store: by user, then by event id, so that a repeated post changes nothing."""
        return EVENTS + _user_key(self.user_id) + stable_hash(self.event_id).to_bytes(8, "big", signed=True)


def new_event_id() -> str:
    """An id for an event whose client gave none."""
    return secrets.token_hex(12)


def _user_key(user_id: ExternalId) -> bytes:
    return stable_hash(user_id).to_bytes(8, "big", signed=True)


def posted_by(user_id: ExternalId) -> bytes:
    """What the keys of a user's posted events begin with."""
    return EVENTS + _user_key(user_id)


def belongs_to(key: bytes, user_id: ExternalId) -> bool:
    """Whether a key of the live store is that of an event of a user."""
    return key.startswith(posted_by(user_id))


Told = tuple[Sequence[LiveEvent], LiveEvent]
"""A posted row, and what rows told of its event before it came."""

_MERGE: dict[MergeRule, Callable[[float, float], float]] = {
    "last": lambda _, new: new,
    "first": lambda old, _: old,
    "max": max,
    "sum": operator.add,
}


def _by_event(rows: Iterable[LiveEvent]) -> list[list[LiveEvent]]:
    """The rows of each event in the order of time, events in the order of their first rows."""
    found: dict[tuple[ExternalId, str, bool], list[LiveEvent]] = {}
    for row in sorted(rows, key=_moment):
        found.setdefault(row.told_of, []).append(row)
    return list(found.values())


def _one_event(rows: Sequence[LiveEvent], rules: Mapping[str, MergeRule]) -> LiveEvent:
    """What rows of one event tell together: it stands where the first of them stands, as in a log."""
    if len(rows) == 1:
        return rows[0]
    feedback: dict[str, float] = {}
    for row in sorted(rows, key=_moment):
        for name, value in row.feedback.items():
            feedback[name] = _MERGE[rules.get(name, "last")](feedback[name], value) if name in feedback else value
    return msgspec.structs.replace(min(rows, key=_moment), feedback=feedback)


def history_key(user_id: ExternalId) -> bytes:
    """Where a release's store keeps a user's events."""
    return _HISTORY + _user_key(user_id)


def pack_history(user_id: ExternalId, events: Events) -> tuple[bytes, bytes]:
    """Turn one user's events into a key and a value of a release's store."""
    packed: dict[str, Any] = {name: np.ascontiguousarray(getattr(events, name)).tobytes() for name in CORE}
    for name, column in events.columns.items():
        packed[name] = [column.values.dtype.str, column.values.tobytes(), column.observed.tobytes()]
    return history_key(user_id), msgspec.msgpack.encode(packed)


def _unpack(value: bytes, schema: Schema) -> Events:
    packed = msgspec.msgpack.decode(value)
    columns = {
        name: FlatColumn(np.frombuffer(part[1], part[0]), np.frombuffer(part[2], np.bool_))
        for name, part in packed.items()
        if name not in CORE
    }
    core = {name: np.frombuffer(packed[name], np.int64) for name in CORE}
    return Events(**core, columns=columns, views=schema.select_views(columns))


def _joined(name: str, packed: list[dict[str, Any]]) -> FlatColumn:
    """One column of many users; posted numbers may be wider than those of the log."""
    observed = np.frombuffer(b"".join([one[name][2] for one in packed]), np.bool_)
    if len(kinds := {one[name][0] for one in packed}) == 1:
        return FlatColumn(np.frombuffer(b"".join([one[name][1] for one in packed]), kinds.pop()), observed)
    return FlatColumn(np.concatenate([np.frombuffer(one[name][1], one[name][0]) for one in packed]), observed)


class Histories:
    """Reads users' events: those of a release, then those posted since, in the order of time.

    Args:     live: the live store, or None to see the release alone.
    """

    def __init__(self, release: Release, live: Store | None) -> None:
        self.release = release
        self.live = live
        self.assortment = Assortment(release, {} if live is None else load_records(live))
        """The items there are. A service replaces it; items keep their numbers then."""
        self.counted: Counted | None = None
        """What aggregates are counted from; None where nobody who has a say reads columns of candidates."""
        readers = [model for model in release.ordering.values() if isinstance(model, ReadsColumns)]
        if readers:
            self.counted = Counted(readers, release.aggregates, self.assortment)

    def read(self, user_ids: Sequence[ExternalId]) -> list[tuple[Events, NDArray[np.bool_]]]:
        """Each user's events in time order, and (N,) bool: which of them were posted since the release."""
        stored = self.release.histories.get([history_key(user) for user in user_ids])
        return [self._join(value, *self._told(user)) for user, value in zip(user_ids, stored, strict=True)]

    def read_many(self, user_ids: Sequence[ExternalId]) -> Pasts:
        """What `read` gives, for many users in one go: only bytes are touched user by user, arrays once for all.

        Returns:  the users' events one after the other; there has to be a user.
        """
        keys = [_user_key(user) for user in user_ids]
        values = self.release.histories.get([_HISTORY + key for key in keys])
        for number in [number for number, key in enumerate(keys) if key in self._users_with_posts]:
            ((events, _),) = self.read([user_ids[number]])
            values[number] = pack_history(user_ids[number], events)[1]
        packed = [msgspec.msgpack.decode(value) if value is not None else {} for value in values]
        counts = np.array([len(one["item"]) if one else 0 for one in packed], np.int64) // _INT64
        stored = [one for one in packed if one]
        if not stored:
            return Pasts(self.as_events([]), np.zeros(len(user_ids) + 1, np.int64))
        core = {name: np.frombuffer(b"".join([one[name] for one in stored]), np.int64) for name in CORE}
        columns = {name: _joined(name, stored) for name in stored[0] if name not in CORE}
        views = self.release.schema.select_views(columns)
        return Pasts(Events(**core, columns=columns, views=views), np.concatenate([[0], np.cumsum(counts)]))

    @cached_property
    def _users_with_posts(self) -> set[bytes]:
        """The keys of users who posted before the first call: for one pass over all users, not for a service."""
        return {key[len(EVENTS) : len(EVENTS) + _INT64] for key, _ in self._new(EVENTS)}

    def posted(self) -> list[LiveEvent]:
        """Every row of the live store that the release's log does not hold, in the order of time."""
        return sorted((_decode(value) for _, value in self._new(EVENTS)), key=_moment)

    def new_events(self) -> list[LiveEvent]:
        """Every posted event of which the release's log holds nothing, in the order of time."""
        return self.events_of(self.posted())

    def events_of(self, rows: list[LiveEvent]) -> list[LiveEvent]:
        """What rows since the release tell of, but for the events of which its log holds other rows."""
        return self._events_of(rows, EVENTS)[0]

    def changed(self, told: Iterable[Told]) -> tuple[list[LiveEvent], list[LiveEvent]]:
        """What rows make of the events they tell of: the events now, and those of them that were there, as they were.

        What amends an event that the release's log holds is left out: that was counted with the log.
        """
        now, before, rules = [], [], self.release.schema.merge_rules
        for earlier, row in told:
            if earlier and any(self.release.holds(one.key()) for one in earlier):
                continue
            now.append(_one_event([*earlier, row], rules))
            before += [_one_event(earlier, rules)] if earlier else []
        return now, before

    def _new(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What was posted and is not in the release's log: that is in its histories already."""
        found = self.live.scan(prefix) if self.live is not None else iter(())
        return ((key, value) for key, value in found if not self.release.holds(key))

    def _events_of(
        self, rows: list[LiveEvent], prefix: bytes
    ) -> tuple[list[LiveEvent], list[tuple[LiveEvent, LiveEvent]]]:
        """What rows since the release tell: new events, and those of its log that were amended: the first row that the
        log holds, and the event as it is now."""
        amending = {row.told_of for row in rows if row.interaction_id is not None}
        if not amending or self.live is None:
            return sorted(rows, key=_moment), []
        rules = self.release.schema.merge_rules
        rest = (_decode(value) for key, value in self.live.scan(prefix) if self.release.holds(key))
        held = {of_one[0].told_of: of_one for of_one in _by_event(row for row in rest if row.told_of in amending)}
        new, amended = [], []
        for of_one in _by_event(rows):
            known = held.get(of_one[0].told_of, [])
            event = _one_event([*known, *of_one], rules)
            if known:
                amended.append((known[0], event))
            else:
                new.append(event)
        return new, amended

    def _told(self, user_id: ExternalId) -> tuple[list[LiveEvent], list[tuple[LiveEvent, LiveEvent]]]:
        prefix = posted_by(user_id)
        return self._events_of([_decode(value) for _, value in self._new(prefix)], prefix)

    def _join(
        self, stored: bytes | None, posted: list[LiveEvent], amended: list[tuple[LiveEvent, LiveEvent]]
    ) -> tuple[Events, NDArray[np.bool_]]:
        if stored is None:
            live = self.as_events(posted)
            return live, np.ones(len(live), np.bool_)
        released = _unpack(stored, self.release.schema)
        if amended:
            released = self._amended(released, amended)
            posted = sorted([*posted, *(event for known, event in amended if _is_moved(known, event))], key=_moment)
        live = self.as_events(posted)
        if not posted:
            return released, np.zeros(len(released), np.bool_)
        both, order = merged(released, live)
        return both, order >= len(released)

    def _amended(self, released: Events, amended: list[tuple[LiveEvent, LiveEvent]]) -> Events:
        """A user's events of the release with what was posted of them since, but for those that are moved."""
        schema = self.release.schema
        columns = {name: FlatColumn(c.values.copy(), c.observed.copy()) for name, c in released.columns.items()}
        stays = np.ones(len(released), np.bool_)
        for known, event in amended:
            item = self.assortment.dense(known.item_id)
            row = np.flatnonzero((released.time_ms == known.time_ms) & (released.item == item) & stays)[:1]
            stays[row] = not _is_moved(known, event)
            for name in schema.feedback.keys() & event.feedback.keys():
                column = columns[feedback_column(name)]
                column.values[row], column.observed[row] = event.feedback[name], True
        return replace(released, columns=columns, views=schema.select_views(columns)).take(stays)

    def as_events(self, posted: list[LiveEvent]) -> Events:
        """Posted events as arrays, with the views of the schema."""
        schema, assortment = self.release.schema, self.assortment
        columns = {feedback_column(name): _column([e.feedback.get(name) for e in posted]) for name in schema.feedback}
        for name in schema.contexts:
            values = [event.context.get(name) for event in posted]
            vocabulary = self.release.contexts.get(name)
            codes = [_code(value, vocabulary) for value in values]
            columns[context_column(name)] = _column(codes, np.float32 if vocabulary is None else np.int64)
        steps = np.arange(len(posted))
        return Events(
            item=np.array([assortment.dense(event.item_id) for event in posted], np.int64),
            item_hash=np.array([stable_hash(event.item_id) for event in posted], np.int64),
            time_ms=np.array([event.time_ms for event in posted], np.int64),
            order=steps,
            request=steps,
            columns=columns,
            views=schema.select_views(columns),
        )


def merged(released: Events, live: Events) -> tuple[Events, NDArray[np.int64]]:
    """A user's events and later ones in the order of time, and (N,) where each was among those and these in a row."""
    # Each posted event is a request of its own: its number must be none of the released ones.
    live = replace(live, request=live.request + released.request.max(initial=-1) + 1)
    both = Events.concatenate([released, live])
    order = np.argsort(both.time_ms, kind="stable")
    both = both.take(order)
    group = np.cumsum(np.diff(both.request, prepend=both.request[:1]) != 0)
    return replace(both, request=group), order


def _is_moved(known: LiveEvent, event: LiveEvent) -> bool:
    """Whether an event begins with a row that came after the rows that were known: it stands where that one does."""
    return event.event_id != known.event_id


def _decode(value: bytes) -> LiveEvent:
    return msgspec.msgpack.decode(value, type=LiveEvent)


def _moment(event: LiveEvent) -> tuple[int, int]:
    return event.time_ms, event.order


def _code(value: str | float | None, vocabulary: Vocabulary | None) -> float | None:
    """A context as models read it; None where it was posted to a release that knew it as another kind."""
    if vocabulary is None:
        return None if isinstance(value, str) else value
    return vocabulary.dense(value) if isinstance(value, str) else None


def _column(values: Sequence[float | None], dtype: type[np.generic] = np.float32) -> FlatColumn:
    observed = np.array([value is not None for value in values], np.bool_)
    return FlatColumn(np.array([0 if value is None else value for value in values], dtype), observed)
