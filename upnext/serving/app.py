"""HTTP: the application, its routes and the headers of every answer.

GET  /                        the page
GET  /v1/recommendations      rows for a user
POST /v1/rank                 candidates in order
POST /v1/events               what people did
GET  /v1/items/{item_id}      one item, /v1/items/{item_id}/similar those nearest to it
GET  /v1/search               items by title
PUT, DELETE /v1/items/{item_id}, PATCH /v1/items: change the catalogue
GET  /v1/users                users by name, /v1/users/{user_id}/history what one of them did
GET  /v1/service, /health     what runs here, and whether it is well
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders, State
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import Message, Scope

from upnext.base.errors import UserError
from upnext.serving.routes.about import describe, health
from upnext.serving.routes.changes import availability, put_item, remove_item
from upnext.serving.routes.events import events
from upnext.serving.routes.failures import MAX_BODY, on_http_error, on_our_bug, on_user_error
from upnext.serving.routes.items import item
from upnext.serving.routes.page import home, page_file
from upnext.serving.routes.ranking import ranking
from upnext.serving.routes.recommendations import recommendations
from upnext.serving.routes.search import search
from upnext.serving.routes.users import history, users
from upnext.serving.service import Service
from upnext.version import __version__

__all__ = ["create_app"]

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


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
            ranking,
            events,
            item,
            search,
            put_item,
            availability,
            remove_item,
            users,
            history,
            page_file,
        ],
        exception_handlers={UserError: on_user_error, HTTPException: on_http_error, Exception: on_our_bug},
        before_send=[_add_headers],
        # As JSON: the pages that draw a schema load their scripts from elsewhere, which our policy forbids.
        openapi_config=OpenAPIConfig(
            title=service.release.settings.title, version=__version__, render_plugins=[JsonRenderPlugin()]
        ),
        logging_config=None,
        state=State({"service": service}),
        lifespan=[lifespan],
        request_max_body_size=MAX_BODY,
    )
