"""Events that clients post."""

from typing import Any

import msgspec
from litestar import post

from upnext.base.errors import BadRequest
from upnext.serving.intake import PostedEvents, check_event
from upnext.serving.routes.asked import AnyRequest, service_of

__all__ = ["events"]

_MAX_EVENTS = 1000
_EXAMPLE = '{"events": [{"user_id": "u1", "item_id": "i1", "feedback": {}}]}'


@post("/v1/events")
async def events(request: AnyRequest) -> dict[str, Any]:
    """Take events. They are on disk before the answer, and change the next recommendation."""
    service = service_of(request)
    if request.content_type[0] != "application/json":  # a form on any website could post any other type
        raise BadRequest(f"the content type is {request.content_type[0]!r}; send application/json: {_EXAMPLE}")
    try:
        body = msgspec.json.decode(await request.body(), type=PostedEvents)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body does not fit: {error}; post {_EXAMPLE}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}; post {_EXAMPLE}") from None
    if not 1 <= len(body.events) <= _MAX_EVENTS:
        raise BadRequest(f"the body has {len(body.events)} events; post 1 to {_MAX_EVENTS} at a time")
    checked = [
        check_event(event, service.histories.assortment, f"events[{number}]")
        for number, event in enumerate(body.events)
    ]
    await service.accept(checked)
    return {"accepted": len(checked), "event_ids": [event.event_id for event in checked]}
