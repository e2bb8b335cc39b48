"""HTTP: routes, their answers, and every error as JSON with a sentence that helps.

GET  /                        the page
GET  /v1/recommendations      rows for a user
POST /v1/events               what people did
GET  /v1/items/{item_id}      one item, /v1/items/{item_id}/similar those nearest to it
GET  /v1/users                users by name, /v1/users/{user_id}/history what one of them did
GET  /v1/service, /health     what runs here, and whether it is well
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
import numpy as np
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import MutableScopeHeaders, State
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import File
from litestar.types import Message, Scope

from upnext.base.errors import BadRequest, NotFound, UserError
from upnext.base.ids import FIRST, ExternalId
from upnext.base.schema import feedback_column
from upnext.base.views import ALL
from upnext.serving.intake import PostedEvents, check_context, check_event, check_user, shown
from upnext.serving.recommend import Query
from upnext.serving.release import Release
from upnext.serving.service import Service
from upnext.serving.similar import find_item, similar_items
from upnext.version import __version__

__all__ = ["create_app"]

_PAGE = Path(__file__).parent / "page"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MAX_K = 200
_SIMILAR = "/similar"
_MAX_EVENTS = 1000
_MAX_BODY = 1_000_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_LOG = logging.getLogger("upnext.serving")

AnyRequest = Request[Any, Any, State]


def _service(request: AnyRequest) -> Service:
    service: Service = request.app.state.service
    return service


def _path(request: AnyRequest) -> str:
    """The path before it was decoded."""
    return request.scope["raw_path"].decode("latin-1").partition("?")[0]  # some servers leave the query there


def _id_in_path(request: AnyRequest, before: str, after: str = "") -> str:
    """The id between two parts of the path, read before it was decoded: an id may hold an encoded slash."""
    path = _path(request)
    rest = path.partition(before)[2].removesuffix("/")
    encoded = rest.removesuffix(after)
    if "/" in encoded or not rest.endswith(after):
        raise NotFound(f"nothing is served at {shown(unquote(path))}; write / in an id as %2F, or see /schema")
    return unquote(encoded)


@get("/", include_in_schema=False)
async def home() -> File:
    """The page."""
    return File(path=_PAGE / "index.html", media_type="text/html", content_disposition_type="inline")


@get("/page/{name:str}", include_in_schema=False)
async def page_file(name: FromPath[str]) -> File:
    """A file of the page, and no other."""
    path = next((path for path in _PAGE.iterdir() if path.name == name and path.suffix in _TYPES), None)
    if path is None:
        raise NotFound(f"the page has no file {shown(name)}")
    return File(path=path, media_type=_TYPES[path.suffix], content_disposition_type="inline")


@get("/health")
async def health(request: AnyRequest) -> dict[str, Any]:
    """Whether the service is well, and which release it runs."""
    service = _service(request)
    return {"status": "ok", "release": service.release.name, "version": __version__}


@get("/v1/service")
async def describe(request: AnyRequest) -> dict[str, Any]:
    """What the page needs to know: title, actions, sizes."""
    release = _service(request).release
    return {
        "title": release.settings.title,
        "release": release.name,
        "actions": [
            {"name": name, "label": name.replace("_", " ").capitalize(), "feedback": feedback}
            for name, feedback in release.settings.actions.items()
        ],
        "num_items": len(release.catalogue) - FIRST,
        "num_users": len(release.users) - FIRST,
        "contexts": release.schema.contexts,
        "feedback": release.schema.feedback,
    }


@get("/v1/recommendations")
async def recommendations(
    request: AnyRequest,
    user_id: Annotated[str, QueryParameter(description="any id; an unknown one is a new visitor")],
    k: Annotated[int, QueryParameter(ge=1, le=_MAX_K, description="items per row")] = 20,
) -> dict[str, Any]:
    """Rows for a user. Any other parameter is a context of the request: `surface=home`."""
    service = _service(request)
    release = service.release
    contexts = {name: value for name, value in request.query_params.items() if name not in ("user_id", "k")}
    query = Query(
        user_id=_user(release, user_id),
        time_ms=time.time_ns() // 1_000_000 + 1,  # what was posted in this very millisecond counts
        k=k,
        context=check_context(contexts, release, "the query"),
    )
    page, latency_ms = await service.recommend(query)
    request_id = secrets.token_hex(8)
    return {
        "user_id": page.user_id,
        "is_known": page.is_known,
        "release": release.name,
        "latency_ms": round(latency_ms, 3),
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "reason": row.reason,
                "request_id": f"{request_id}-{number}",
                "items": [
                    release.catalogue.describe(item) | {"score": score, "position": position}
                    for position, (item, score) in enumerate(zip(row.items, row.scores, strict=True))
                ],
            }
            for number, row in enumerate(page.rows)
        ],
    }


@post("/v1/events")
async def events(request: AnyRequest) -> dict[str, Any]:
    """Take events. They are on disk before the answer, and change the next recommendation."""
    service = _service(request)
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
    checked = [check_event(event, service.release, f"events[{number}]") for number, event in enumerate(body.events)]
    await service.accept(checked)
    return {"accepted": len(checked), "event_ids": [event.event_id for event in checked]}


def _user(release: Release, text: str) -> ExternalId:
    check_user(text)
    return check_user(release.users.parse(text))


_EXAMPLE = '{"events": [{"user_id": "u1", "item_id": "i1", "feedback": {}}]}'


@get("/v1/items/{item_id:path}")
async def item(
    request: AnyRequest,
    k: Annotated[int, QueryParameter(ge=1, le=_MAX_K, description="with /similar: how many items")] = 20,
) -> dict[str, Any]:
    """One item of the catalogue; where the path goes on with /similar, the items whose vectors are nearest to its."""
    release = _service(request).release
    asks_for_similar = _path(request).removesuffix("/").endswith(_SIMILAR)
    dense = find_item(release, _id_in_path(request, "/v1/items/", _SIMILAR if asks_for_similar else ""))
    described = release.catalogue.describe(dense)
    if not asks_for_similar:
        return described
    # The first call makes unit vectors of the whole catalogue; other requests need not wait for it.
    items, scores = await asyncio.to_thread(similar_items, release, dense, k)
    near = [release.catalogue.describe(one) | {"score": score} for one, score in zip(items, scores, strict=True)]
    return {"item": described, "release": release.name, "similar": near}


@get("/v1/users")
async def users(
    request: AnyRequest, search: FromQuery[str] = "", limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50
) -> dict[str, Any]:
    """Users of the log whose id contains the text, in the order of their first event."""
    service = _service(request)
    wanted = search.casefold()
    found = [user for user in service.release.users.ids if wanted in str(user).casefold()][:limit]
    counts = [len(past) for past, _ in service.histories.read(found)]
    return {"users": [{"user_id": user, "num_events": count} for user, count in zip(found, counts, strict=True)]}


@get("/v1/users/{user_id:path}")
async def history(request: AnyRequest, limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50) -> dict[str, Any]:
    """What a user chose, the latest first; an unknown user has an empty history. The path ends in /history."""
    service = _service(request)
    release = service.release
    user = _user(release, _id_in_path(request, "/v1/users/", "/history"))
    ((past, is_live),) = service.histories.read([user])
    # What was shown but not chosen is no history to a person; what was posted here always is. Items that were posted
    # under an earlier release may have left the catalogue since.
    is_chosen = np.ones(len(past), np.bool_) if release.view == ALL else past.views[release.view]
    rows = np.flatnonzero((is_chosen | is_live) & (past.item >= FIRST))
    return {
        "user_id": user,
        "num_events": len(rows),
        "events": [
            {
                "item": release.catalogue.describe(int(past.item[row])),
                "time_ms": int(past.time_ms[row]),
                "feedback": {
                    name: round(float(past.columns[feedback_column(name)].values[row]), 4)
                    for name in release.schema.feedback
                    if past.columns[feedback_column(name)].observed[row]
                },
                "is_live": bool(is_live[row]),
            }
            for row in rows[::-1][:limit]
        ],
    }


def _error(kind: str, message: str, status: int, headers: dict[str, str] | None = None) -> Response[Any]:
    content = {"error": {"kind": kind, "message": message}}
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _on_user_error(request: AnyRequest, error: UserError) -> Response[Any]:
    return _error(type(error).__name__, str(error), 404 if isinstance(error, NotFound) else 400)


def _on_http_error(request: AnyRequest, error: HTTPException) -> Response[Any]:
    path = shown(request.scope["path"])
    match error.status_code:
        case 404:
            return _error("NotFound", f"nothing is served at {path}; see /schema for what is", 404)
        case 405:
            allowed = (error.headers or {}).get("allow", "another method")
            message = f"{request.method} is not served at {path}, but {allowed} is; see /schema"
        case 413:
            message = f"the body has more than {_MAX_BODY:,} bytes; post fewer events at a time"
        case _:
            parts = [part for part in error.extra or [] if isinstance(part, dict)]
            details = [f"{part.get('key', 'the query')}: {part.get('message', 'is wrong')}" for part in parts]
            message = f"{'; '.join(details) or error.detail}; see /schema for what is allowed"
    return _error("BadRequest", message, error.status_code, error.headers)


def _on_our_bug(request: AnyRequest, error: Exception) -> Response[Any]:
    _LOG.error("%s %s failed, and this is our bug", request.method, request.scope["path"], exc_info=error)
    return _error("InternalError", "the service failed, and this is our bug; its log says where", 500)


async def _add_headers(message: Message, scope: Scope) -> None:
    """Every answer has them, errors and files too. Answers about people stay in no cache."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in _HEADERS.items():
            headers[name] = value
        is_file = scope["path"] == "/" or scope["path"].startswith("/page/")
        headers["Cache-Control"] = "no-cache" if is_file else "no-store"


def create_app(service: Service) -> Litestar:
    """Build the application around a service; the service is closed with it."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.close()

    return Litestar(
        route_handlers=[
            home,
            health,
            describe,
            recommendations,
            events,
            item,
            users,
            history,
            page_file,
        ],
        exception_handlers={UserError: _on_user_error, HTTPException: _on_http_error, Exception: _on_our_bug},
        before_send=[_add_headers],
        # As JSON: the pages that draw a schema load their scripts from elsewhere, which our policy forbids.
        openapi_config=OpenAPIConfig(
            title=service.release.settings.title, version=__version__, render_plugins=[JsonRenderPlugin()]
        ),
        logging_config=None,
        state=State({"service": service}),
        lifespan=[lifespan],
        request_max_body_size=_MAX_BODY,
    )
