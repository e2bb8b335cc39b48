"""Failures: every error as JSON with a sentence that helps."""

import logging
from typing import Any

from litestar import Response
from litestar.exceptions import HTTPException

from upnext.base.errors import Forbidden, NotFound, Unauthorized, UserError
from upnext.serving.intake import shown
from upnext.serving.routes.asked import AnyRequest

__all__ = ["MAX_BODY", "on_http_error", "on_our_bug", "on_user_error"]

MAX_BODY = 1_000_000
"""Bytes of a request's body."""

_LOG = logging.getLogger("upnext.serving")


def _error(kind: str, message: str, status: int, headers: dict[str, str] | None = None) -> Response[Any]:
    content = {"error": {"kind": kind, "message": message}}
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def on_user_error(request: AnyRequest, error: UserError) -> Response[Any]:
    """What the client can mend."""
    status = {NotFound: 404, Forbidden: 403, Unauthorized: 401}.get(type(error), 400)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return _error(type(error).__name__, str(error), status, headers)


def on_http_error(request: AnyRequest, error: HTTPException) -> Response[Any]:
    """What the framework refused."""
    path = shown(request.scope["path"])
    match error.status_code:
        case 404:
            return _error("NotFound", f"nothing is served at {path}; see /schema for what is", 404)
        case 405:
            allowed = (error.headers or {}).get("allow", "another method")
            message = f"{request.method} is not served at {path}, but {allowed} is; see /schema"
        case 413:
            message = f"the body has more than {MAX_BODY:,} bytes; post fewer events at a time"
        case _:
            parts = [part for part in error.extra or [] if isinstance(part, dict)]
            details = [f"{part.get('key', 'the query')}: {part.get('message', 'is wrong')}" for part in parts]
            message = f"{'; '.join(details) or error.detail}; see /schema for what is allowed"
    return _error("BadRequest", message, error.status_code, error.headers)


def on_our_bug(request: AnyRequest, error: Exception) -> Response[Any]:
    """Anything else; the traceback goes to the log."""
    _LOG.error("%s %s failed, and this is our bug", request.method, request.scope["path"], exc_info=error)
    return _error("InternalError", "the service failed, and this is our bug; its log says where", 500)
