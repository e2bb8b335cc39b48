"""Events that clients post."""

from typing import Any

from litestar import post

from upnext.base.errors import BadRequest
from upnext.serving.intake import PostedEvents, check_event
from upnext.serving.routes.asked import AnyRequest, json_body, service_of
from upnext.serving.routes.bodies import taking

__all__ = ["events"]

_MAX_EVENTS = 1000
_EXAMPLE = '{"events": [{"user_id": "u1", "item_id": "i1", "feedback": {}}]}'


@post("/v1/events", operation_class=taking(PostedEvents))
async def events(request: AnyRequest) -> dict[str, Any]:
    """Take events. They are on disk before the answer, and change the next recommendation."""
    service = service_of(request)
    body = await json_body(request, PostedEvents, _EXAMPLE)
    if not 1 <= len(body.events) <= _MAX_EVENTS:
        raise BadRequest(f"the body has {len(body.events)} events; post 1 to {_MAX_EVENTS} at a time")
    assortment = service.histories.assortment
    checked = [check_event(event, assortment, f"events[{number}]") for number, event in enumerate(body.events)]
    await service.accept(checked)
    return {"accepted": len(checked), "event_ids": [event.event_id for event in checked]}
