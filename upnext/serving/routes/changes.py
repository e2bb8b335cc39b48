"""Changes to the catalogue: only for who knows the token."""

import hmac
from typing import Any

import msgspec
from litestar import delete, patch, put

from upnext.base.errors import BadRequest, Forbidden, Unauthorized
from upnext.base.ids import ExternalId
from upnext.serving.changes import Change, check_columns
from upnext.serving.intake import check_user
from upnext.serving.routes.asked import AnyRequest, id_in_path, json_body, service_of
from upnext.serving.routes.bodies import taking
from upnext.serving.running import Running
from upnext.serving.service import Service

__all__ = ["availability", "put_item", "remove_item"]

_MAX_ITEMS = 1000
_EXAMPLE = '{"items": [{"item_id": "i1", "available": false}]}'


class ItemColumns(msgspec.Struct, omit_defaults=True):
    """The body of `PUT /v1/items/{item_id}`: these, and any other column of the catalogue; null clears one."""

    title: str | None = None
    genres: list[str] | None = None
    collection: str | None = None


class Availability(msgspec.Struct, forbid_unknown_fields=True):
    """Whether one item may be shown."""

    item_id: ExternalId
    available: bool


class Availabilities(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PATCH /v1/items`."""

    items: list[Availability]


def _check_token(request: AnyRequest, service: Service) -> None:
    """Raise unless the request may change the catalogue."""
    token = service.settings.admin_token
    if token is None:
        raise Forbidden(
            "changing items over HTTP is off; to switch it on, set the environment variable that serve.admin_token_env"
            " names (UPNEXT_ADMIN_TOKEN) before the start. `upnext items` works without it"
        )
    sent = request.headers.get("authorization", "")
    if not hmac.compare_digest(sent.encode("utf-8", "replace"), f"Bearer {token}".encode()):
        raise Unauthorized("changing items needs the header `Authorization: Bearer TOKEN`; this token is another one")


def _item_id(running: Running, item_id: ExternalId, where: str) -> ExternalId:
    """An item's id as the catalogue writes ids: integers, or text."""
    vocabulary = running.release.catalogue.vocabulary
    checked = check_user(vocabulary.parse(item_id) if isinstance(item_id, str) else item_id, where)
    if isinstance(checked, int) != vocabulary.is_integer:
        kind = "integers" if vocabulary.is_integer else "text"
        raise BadRequest(f"{where} is {checked!r}; the ids of this catalogue are {kind}")
    return checked


@put("/v1/items/{item_id:path}", operation_class=taking(ItemColumns))
async def put_item(request: AnyRequest) -> dict[str, Any]:
    """Add an item, or change columns of one: `{"title": "…", "genres": ["…"], "collection": "…"}`."""
    service = service_of(request)
    _check_token(request, service)
    columns = await json_body(request, dict[str, Any], '{"title": "A title"}')
    running = service.running
    item_id = _item_id(running, id_in_path(request, "/v1/items/"), "item_id")
    checked = check_columns(columns, running.release.catalogue, "the body")
    await service.change([Change(item_id, checked)], running)
    return {"item_id": item_id} | checked


@patch("/v1/items", operation_class=taking(Availabilities))
async def availability(request: AnyRequest) -> dict[str, Any]:
    """Hide items from every row, or show them again."""
    service = service_of(request)
    _check_token(request, service)
    body = await json_body(request, Availabilities, _EXAMPLE)
    if not 1 <= len(body.items) <= _MAX_ITEMS:
        raise BadRequest(f"the body has {len(body.items)} items; send 1 to {_MAX_ITEMS} at a time")
    running = service.running
    changes = [
        Change(_item_id(running, one.item_id, f"items[{number}].item_id"), is_available=one.available)
        for number, one in enumerate(body.items)
    ]
    await service.change(changes, running)
    return {"changed": len(body.items)}


@delete("/v1/items/{item_id:path}", status_code=200)
async def remove_item(request: AnyRequest) -> dict[str, Any]:
    """Take an item out of every row for good; histories keep it."""
    service = service_of(request)
    _check_token(request, service)
    running = service.running
    item_id = _item_id(running, id_in_path(request, "/v1/items/"), "item_id")
    await service.change([Change(item_id, is_removed=True)], running)
    return {"item_id": item_id, "removed": True}
