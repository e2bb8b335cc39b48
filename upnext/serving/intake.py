"""Intake: events from outside, checked, made durable, then acknowledged."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from upnext.base.errors import BadRequest, NotFound
from upnext.base.ids import FIRST, UNKNOWN, ExternalId
from upnext.base.protocols import Store
from upnext.base.schema import ContextKind, FeedbackKind
from upnext.serving.assortment import Assortment
from upnext.serving.batching import BatchingThread
from upnext.serving.histories import LiveEvent, Told, new_event_id, posted_by

__all__ = [
    "Intake",
    "PostedEvent",
    "PostedEvents",
    "check_context",
    "check_event",
    "check_feedback",
    "check_user",
    "shown",
]

_EARLIEST_MS = 631_152_000_000  # 1990-01-01
_DAY_MS = 86_400_000
_LONGEST_ID = 1000
_LARGEST_INTEGER = 2**63 - 1
_LARGEST_AMOUNT = float(np.finfo(np.float32).max)  # models read float32


def shown(value: object) -> str:
    """Write a value from outside into a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


class PostedEvent(msgspec.Struct, forbid_unknown_fields=True):
    """One event of a request body."""

    user_id: ExternalId
    item_id: ExternalId
    time_ms: int | None = None
    """When it happened; the server's clock if left out."""
    event_id: str | None = None
    """Give one to make a repeated post harmless."""
    interaction_id: ExternalId | None = None
    """Posts of a user that have it in common tell of one event: a later one amends it."""
    request_id: str | None = None
    position: int | None = None
    context: dict[str, str | float] = {}
    feedback: dict[str, float | bool] = {}


class PostedEvents(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/events`."""

    events: list[PostedEvent]


def check_user(user_id: ExternalId, where: str = "user_id") -> ExternalId:
    """Check an id from outside.

    Raises:   BadRequest: it is empty, too long, or an integer of more than 64 bits.
    """
    if isinstance(user_id, int):
        _check_integer(user_id, where)
    else:
        _check_text(user_id, where, shortest=1)
    return user_id


def _check_text(text: str, where: str, shortest: int = 0) -> None:
    if not shortest <= len(text) <= _LONGEST_ID:
        raise BadRequest(f"{where} has {len(text)} characters; give {shortest} to {_LONGEST_ID}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{where} is {text!a}, which is no Unicode text; send it as UTF-8") from None


def _check_integer(value: int, where: str) -> None:
    if not -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        raise BadRequest(f"{where} is {shown(value)}; integers have at most 64 bits: give a smaller one")


def check_event(posted: PostedEvent, assortment: Assortment, where: str) -> LiveEvent:
    """Check one event against the items there are and the release's schema.

    Args:     where: its place in the body, such as `events[0]`.
    Raises:   NotFound: an unknown item. BadRequest: anything else, naming the field, its value, what is allowed.
    """
    check_user(posted.user_id, f"{where}.user_id")
    _check_integer(posted.position or 0, f"{where}.position")
    if posted.position is not None and posted.position < 0:
        raise BadRequest(f"{where}.position is {posted.position}; the first place is 0")
    interaction = None if posted.interaction_id is None else str(posted.interaction_id)
    ids = {"event_id": posted.event_id, "request_id": posted.request_id, "interaction_id": interaction}
    for name, text in ids.items():
        _check_text(text or "", f"{where}.{name}")
    # An integer may come as its digits: JSON numbers of 64 bits do not survive every client.
    release = assortment.release
    items = release.catalogue.vocabulary
    item_id = items.parse(posted.item_id) if isinstance(posted.item_id, str) else posted.item_id
    if assortment.dense(item_id) == UNKNOWN:
        kind = "integers" if items.is_integer else "strings"
        raise NotFound(
            f"{where}.item_id {shown(posted.item_id)} is not in the catalogue of {len(assortment) - FIRST:,}"
            f" items; its ids are {kind}, and GET /v1/items/{{item_id}} tells which exist"
        )
    now = time.time_ns() // 1_000_000
    time_ms = now if posted.time_ms is None else posted.time_ms
    if not _EARLIEST_MS <= time_ms <= now + _DAY_MS:
        raise BadRequest(
            f"{where}.time_ms is {time_ms}; allowed are milliseconds since 1970, between {_EARLIEST_MS} (1990) and"
            f" tomorrow; leave it out to use the server's clock"
        )
    return LiveEvent(
        user_id=posted.user_id,
        item_id=item_id,
        time_ms=time_ms,
        event_id=posted.event_id or new_event_id(),
        request_id=posted.request_id,
        position=posted.position,
        context=check_context(posted.context, release.schema.contexts, f"{where}.context"),
        feedback={
            name: check_feedback(name, value, release.schema.feedback, f"{where}.feedback")
            for name, value in posted.feedback.items()
        },
        interaction_id=interaction or None,
    )


def check_context(context: Mapping[str, Any], kinds: Mapping[str, ContextKind], where: str) -> dict[str, str | float]:
    """Check contexts by name and kind; text that spells a number is taken as one.

    Raises:   BadRequest: an unknown name, text that is too long, or a numeric context that is no finite number.
    """
    checked: dict[str, str | float] = {}
    for name, value in context.items():
        if name not in kinds:
            raise BadRequest(f"{where} has the unknown name {shown(name)}; this log knows {sorted(kinds) or 'none'}")
        _check_text(str(value), f"{where}.{name}")
        if kinds[name] == "categorical":
            checked[name] = str(value)
            continue
        try:
            checked[name] = float(value)
        except ValueError:
            checked[name] = math.nan
        if not abs(float(checked[name])) <= _LARGEST_AMOUNT:
            raise BadRequest(f"{where}.{name} is {shown(value)}; it must be a finite number")
    return checked


def check_feedback(name: str, value: float, kinds: Mapping[str, FeedbackKind], where: str) -> float:
    """Check one feedback by its name and kind.

    Raises:   BadRequest: an unknown name, or a value that its kind does not have.
    """
    if name not in kinds:
        raise BadRequest(f"{where} has the unknown name {shown(name)}; this log knows {sorted(kinds) or 'none'}")
    value = float(value)
    allowed = {
        "binary": (value in (0.0, 1.0), "0 or 1"),
        "fraction": (0.0 <= value <= 1.0, "a number from 0 to 1"),
        "amount": (0.0 <= value <= _LARGEST_AMOUNT, "a finite number from 0"),
    }
    is_right, words = allowed[kinds[name]]
    if not is_right:
        raise BadRequest(f"{where}.{name} is {value:g}; allowed is {words}")
    return value


class Intake:
    """Writes events to the live store. What `accept` returned from is on disk.

    Events that wait together are written, and flushed, together. An event whose id the user's events already have
    is a repeated post: it changes nothing. What amends an earlier event is a row of its own.

    Args:     tell: called, in the writing thread, with the rows that are new, once they are on disk, each with those
              that told of its event before.
    """

    def __init__(self, store: Store, tell: Callable[[list[Told]], None]) -> None:
        self._store = store
        self._tell = tell
        self._writer: BatchingThread[list[LiveEvent], None] = BatchingThread("intake", self._write, max_batch=256)

    async def accept(self, events: list[LiveEvent]) -> None:
        """Return once all of them are on disk.

        Raises:   BadRequest: one amends an event of another item; then none is written.
        """
        await self._writer.submit(events)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._writer.close()

    def _write(self, posts: list[list[LiveEvent]]) -> list[None]:
        events = {event.key(): event for post in reversed(posts) for event in reversed(post)}  # the first one stays
        found = self._store.get(list(events))
        new = {key: event for (key, event), old in zip(events.items(), found, strict=True) if old is None}
        told = self._with_earlier(list(reversed(new.values())))
        self._store.put({key: msgspec.msgpack.encode(event) for key, event in new.items()})
        self._tell(told)
        return [None] * len(posts)

    def _with_earlier(self, new: list[LiveEvent]) -> list[Told]:
        """Each row with those that told of its event before, in the store or here."""
        told: list[Told] = []
        known: dict[ExternalId, list[LiveEvent]] = {}
        for row in new:
            if row.interaction_id is None:
                told.append(([], row))
                continue
            if row.user_id not in known:
                found = self._store.scan(posted_by(row.user_id))
                known[row.user_id] = [msgspec.msgpack.decode(value, type=LiveEvent) for _, value in found]
            earlier = [one for one in known[row.user_id] if one.told_of == row.told_of]
            if earlier and earlier[0].item_id != row.item_id:
                raise BadRequest(
                    f"the interaction {shown(row.interaction_id)} of user {shown(row.user_id)} is of the item"
                    f" {shown(earlier[0].item_id)}, and this event of {shown(row.item_id)}; an interaction is one item,"
                    " met once: give another interaction_id"
                )
            known[row.user_id].append(row)
            told.append((earlier, row))
        return told
