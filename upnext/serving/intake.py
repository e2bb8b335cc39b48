"""Intake: events from outside, checked, made durable, then acknowledged."""

import time
from typing import Any

import msgspec

from upnext.base.errors import BadRequest, NotFound
from upnext.base.ids import FIRST, UNKNOWN, ExternalId
from upnext.base.protocols import Store
from upnext.serving.batching import BatchingThread
from upnext.serving.histories import LiveEvent, new_event_id
from upnext.serving.release import Release

__all__ = ["Intake", "PostedEvent", "PostedEvents", "check_event", "check_user"]

_EARLIEST_MS = 631_152_000_000  # 1990-01-01
_DAY_MS = 86_400_000
_LONGEST_ID = 1000


class PostedEvent(msgspec.Struct, forbid_unknown_fields=True):
    """One event of a request body."""

    user_id: ExternalId
    item_id: ExternalId
    time_ms: int | None = None
    """When it happened; the server's clock if left out."""
    event_id: str | None = None
    """Give one to make a repeated post harmless."""
    request_id: str | None = None
    position: int | None = None
    context: dict[str, str | float] = {}
    feedback: dict[str, float | bool] = {}


class PostedEvents(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/events`."""

    events: list[PostedEvent]


def check_user(user_id: ExternalId) -> ExternalId:
    """Check an id from outside.

    Raises:   BadRequest: it is empty or too long.
    """
    if user_id == "" or len(str(user_id)) > _LONGEST_ID:
        raise BadRequest(f"user_id has {len(str(user_id))} characters; give 1 to {_LONGEST_ID}")
    return user_id


def check_event(posted: PostedEvent, release: Release, where: str) -> LiveEvent:
    """Check one event against the release's catalogue and schema.

    Args:     where: its place in the body, such as `events[0]`.
    Raises:   NotFound: an unknown item. BadRequest: anything else, naming the field, its value, what is allowed.
    """
    check_user(posted.user_id)
    item = release.catalogue.vocabulary.dense(posted.item_id)
    if item == UNKNOWN:
        kind = "integers" if release.catalogue.vocabulary.is_integer else "strings"
        raise NotFound(
            f"{where}.item_id {posted.item_id!r} is not in the catalogue of {len(release.catalogue) - FIRST:,} items;"
            f" its ids are {kind}, and GET /v1/items/{{item_id}} tells which exist"
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
        item_id=posted.item_id,
        time_ms=time_ms,
        event_id=posted.event_id or new_event_id(),
        request_id=posted.request_id,
        position=posted.position,
        context=check_context(posted.context, release, f"{where}.context"),
        feedback={name: _check_feedback(name, v, release, where) for name, v in posted.feedback.items()},
    )


def check_context(context: dict[str, Any], release: Release, where: str) -> dict[str, str | float]:
    """Check contexts by name and kind; text that spells a number is taken as one.

    Raises:   BadRequest: an unknown name, or a numeric context that is no number.
    """
    kinds = release.schema.contexts
    checked: dict[str, str | float] = {}
    for name, value in context.items():
        if name not in kinds:
            raise BadRequest(f"{where} has the unknown name {name!r}; this log knows {sorted(kinds) or 'none'}")
        if kinds[name] == "categorical":
            checked[name] = str(value)
            continue
        try:
            checked[name] = float(value)
        except ValueError:
            raise BadRequest(f"{where}.{name} is {value!r}; it must be a number") from None
    return checked


def _check_feedback(name: str, value: float, release: Release, where: str) -> float:
    kinds = release.schema.feedback
    if name not in kinds:
        raise BadRequest(f"{where}.feedback has the unknown name {name!r}; this log knows {sorted(kinds) or 'none'}")
    value = float(value)
    allowed = {
        "binary": (value in (0.0, 1.0), "0 or 1"),
        "fraction": (0.0 <= value <= 1.0, "a number from 0 to 1"),
        "amount": (0.0 <= value < float("inf"), "a number from 0"),
    }
    is_right, words = allowed[kinds[name]]
    if not is_right:
        raise BadRequest(f"{where}.feedback.{name} is {value:g}; allowed is {words}")
    return value


class Intake:
    """Writes events to the live store. What `accept` returned from is on disk.

    Events that wait together are written, and flushed, together.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writer: BatchingThread[list[LiveEvent], None] = BatchingThread("intake", self._write, max_batch=256)

    async def accept(self, events: list[LiveEvent]) -> None:
        """Return once all of them are on disk."""
        await self._writer.submit(events)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._writer.close()

    def _write(self, posts: list[list[LiveEvent]]) -> list[None]:
        self._store.put({event.key(): msgspec.msgpack.encode(event) for post in posts for event in post})
        return [None] * len(posts)
