"""What a request asks for: the service behind it, and the ids in its path."""

from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from litestar import Request
from litestar.datastructures import State

from upnext.base.errors import BadRequest, NotFound
from upnext.base.ids import ExternalId
from upnext.serving.intake import check_user, shown
from upnext.serving.release import Release
from upnext.serving.service import Service

__all__ = ["MAX_K", "AnyRequest", "id_in_path", "json_body", "raw_path", "service_of", "user_of"]

MAX_K = 200
"""Items per row, or of a list of similar ones."""

AnyRequest = Request[Any, Any, State]
Body = TypeVar("Body")


def service_of(request: AnyRequest) -> Service:
    """The service that answers."""
    service: Service = request.app.state.service
    return service


def raw_path(request: AnyRequest) -> str:
    """The path before it was decoded."""
    return request.scope["raw_path"].decode("latin-1").partition("?")[0]  # some servers leave the query there


def id_in_path(request: AnyRequest, before: str, after: str = "") -> str:
    """The id between two parts of the path, read before it was decoded: an id may hold an encoded slash."""
    path = raw_path(request)
    rest = path.partition(before)[2].removesuffix("/")
    encoded = rest.removesuffix(after)
    if "/" in encoded or not rest.endswith(after):
        raise NotFound(f"nothing is served at {shown(unquote(path))}; write / in an id as %2F, or see /schema")
    return unquote(encoded)


def user_of(release: Release, text: str) -> ExternalId:
    """The user that a text of the query or of the path names."""
    check_user(text)
    return check_user(release.users.parse(text))


async def json_body(request: AnyRequest, kind: type[Body], example: str) -> Body:
    """The body, which has to be JSON of a kind.

    Raises:   BadRequest: it is something else; the message shows the example.
    """
    if request.content_type[0] != "application/json":  # a form on any website could post any other type
        raise BadRequest(f"the content type is {request.content_type[0]!r}; send application/json: {example}")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body does not fit: {error}; post {example}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}; post {example}") from None
