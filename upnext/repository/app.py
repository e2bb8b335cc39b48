"""HTTP: the application that offers a workspace's releases, and takes those that are pushed with the token.

GET  /v1/releases                           their names, and which is current
GET  /v1/releases/current                   the name of the current one
GET  /v1/releases/{name}/manifest           what it holds: each file's hash and size
GET  /v1/releases/{name}/files/{path}       a file, or with a Range what comes from a byte on
PUT  /v1/releases/{name}/manifest           announce one: which files are to be sent
PUT  /v1/releases/{name}/files/{path}       one of them
POST /v1/releases/{name}/finish             it takes its place, and is the current one if asked
"""

import asyncio
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from litestar import Litestar, Request, Response, get, post, put
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response import Stream

from upnext.base.artifacts import Workspace
from upnext.base.errors import BadRequest, Forbidden, NotFound, Unauthorized, UserError
from upnext.base.files import replace_file
from upnext.base.manifests import MANIFEST
from upnext.base.origins import PUSHED, Origin, write_origin
from upnext.repository.incoming import Incoming
from upnext.repository.listed import LARGEST_MANIFEST, Listed, check_name
from upnext.repository.transfer import Admit, already_here
from upnext.version import __version__

__all__ = ["create_app"]

_CHUNK = 1 << 20
_BYTES = "application/octet-stream"

AnyRequest = Request[Any, Any, State]


class Repository:
    """The releases of a workspace, as the routes use them.

    Args:     token: what a push has to know; None takes none. admit: see `Admit`.
    """

    def __init__(self, workspace: Workspace, token: str | None, admit: Admit) -> None:
        self.workspace, self._token, self.admit = workspace, token, admit
        self.changing = asyncio.Lock()
        """Held by whoever changes more than one file."""

    def check_token(self, request: AnyRequest) -> None:
        """Raise unless the request may push."""
        if self._token is None:
            raise Forbidden(
                "these releases are only to be read; to let releases be pushed, set the environment variable that"
                " --token-env names (UPNEXT_RELEASES_TOKEN) before `upnext releases serve` starts"
            )
        sent = request.headers.get("authorization", "")
        if not hmac.compare_digest(sent.encode("utf-8", "replace"), f"Bearer {self._token}".encode()):
            raise Unauthorized("a push needs the header `Authorization: Bearer TOKEN`; this token is another one")

    def folder(self, name: str) -> Path:
        """The folder of a release; whether it is whole, and of a version that they read, is for others to see."""
        found = next((folder for folder in self.workspace.folders("release") if folder.name == name), None)
        if found is None or not (found / MANIFEST).is_file():
            raise NotFound(f"there is no release {name[:100]!r}; GET /v1/releases lists them")
        return found

    def file(self, name: str, path: str) -> Path:
        """A file of a release that its manifest lists, and no other."""
        folder = self.folder(name)
        found = folder / path
        is_listed = path in Listed.parse(name, (folder / MANIFEST).read_bytes()).files
        if not is_listed or not found.is_file() or not found.resolve().is_relative_to(folder.resolve()):
            raise NotFound(f"{name} has no file {path[:100]!r}; its manifest lists them")
        return found

    def announced(self, name: str) -> tuple[Listed, Incoming]:
        """A release that is being pushed."""
        manifest = self.workspace.root / "incoming" / check_name(name) / MANIFEST
        try:
            listed = Listed.parse(name, manifest.read_bytes())
        except OSError:
            raise NotFound(f"no push of {name} is under way; begin with PUT /v1/releases/{name}/manifest") from None
        return listed, Incoming(self.workspace, listed)


def _of(request: AnyRequest) -> Repository:
    repository: Repository = request.app.state.repository
    return repository


@get("/health")
async def health(request: AnyRequest) -> dict[str, Any]:
    """Whether releases are offered, and whether they can be pushed."""
    return {"status": "ok", "version": __version__}


@get("/v1/releases")
async def releases(request: AnyRequest) -> dict[str, Any]:
    """The names of all releases, and which is current."""
    workspace = _of(request).workspace
    names = [folder.name for folder in workspace.folders("release")]
    return {"current": workspace.in_use().get("release"), "releases": names}


@get("/v1/releases/current")
async def current(request: AnyRequest) -> dict[str, Any]:
    """The name of the release that is to be served."""
    return {"name": _of(request).workspace.in_use().get("release")}


@get("/v1/releases/{name:str}/manifest")
async def manifest(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    """A release's manifest, byte for byte."""
    raw = (_of(request).folder(name) / MANIFEST).read_bytes()
    return Response(raw, media_type="application/json")


@get("/v1/releases/{name:str}/files/{path:path}")
async def file(request: AnyRequest, name: FromPath[str]) -> Stream:
    """A file of a release; with `Range: bytes=N-` what comes from byte N on."""
    found = _of(request).file(name, _path(request, name))
    size, begin = found.stat().st_size, 0
    if (asked := re.fullmatch(r"bytes=(\d{1,18})-", request.headers.get("range", ""))) is not None:
        begin = int(asked[1])
        if begin >= size:
            raise HTTPException(f"the file has {size} bytes", status_code=416)
    headers = {"Content-Length": str(size - begin), "Accept-Ranges": "bytes"}
    if asked is not None:
        headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"
    return Stream(_chunks(found, begin), headers=headers, media_type=_BYTES, status_code=206 if asked else 200)


@put("/v1/releases/{name:str}/manifest", request_max_body_size=LARGEST_MANIFEST)
async def announce(request: AnyRequest, name: FromPath[str]) -> dict[str, Any]:
    """Begin a push, or go on with one; says which files are `missing`."""
    repository = _of(request)
    repository.check_token(request)
    listed = Listed.parse(name, await request.body())
    async with repository.changing:
        if await asyncio.to_thread(already_here, repository.workspace, name) is not None:
            return {"missing": []}
        incoming = Incoming(repository.workspace, listed)
        missing = await asyncio.to_thread(incoming.begin)
        replace_file(incoming.outer / MANIFEST, listed.raw)
    return {"missing": missing}


@put("/v1/releases/{name:str}/files/{path:path}", request_max_body_size=None)
async def take(request: AnyRequest, name: FromPath[str]) -> dict[str, Any]:
    """Take a file of a release that is being pushed."""
    repository = _of(request)
    repository.check_token(request)
    path, count = _path(request, name), 0
    try:
        async with repository.changing:  # a release that takes its place just then takes no part along
            listed, incoming = repository.announced(name)
            if path not in listed.files:
                raise BadRequest(f"the manifest of {name} lists no file {path[:100]!r}")
            size, part = listed.files[path].size, incoming.part(path, f".{secrets.token_hex(8)}")
            target = part.open("wb")
        try:
            with target:
                async for chunk in request.stream():
                    count += len(chunk)
                    if count > size:
                        raise BadRequest(f"{path} is to have {size:,} bytes, and more come")
                    target.write(chunk)
            await asyncio.to_thread(incoming.take, path, part)
        finally:
            part.unlink(missing_ok=True)
    except (NotFound, FileNotFoundError):  # another push may have brought the whole release meanwhile
        if await asyncio.to_thread(already_here, repository.workspace, name) is None:
            raise
        async for chunk in request.stream():
            count += len(chunk)
    return {"bytes": count}


@post("/v1/releases/{name:str}/finish", status_code=200)
async def finish(request: AnyRequest, name: FromPath[str]) -> dict[str, Any]:
    """Compare every file with its hash, put the release in its place, and last of all point to it."""
    repository = _of(request)
    repository.check_token(request)
    try:
        said = json.loads(await request.body())
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(make_current := said.get("current", True), bool):
        raise BadRequest('the body says whether to point to it: {"current": true}')
    async with repository.changing:
        return {"name": await asyncio.to_thread(_finish, repository, name, make_current)}


def _finish(repository: Repository, name: str, make_current: bool) -> str:
    workspace = repository.workspace
    artifact = already_here(workspace, check_name(name))
    if artifact is None:
        _, incoming = repository.announced(name)
        write_origin(workspace.root, name, Origin(PUSHED, name))
        artifact = incoming.finish()
    artifact = repository.admit(workspace, artifact)
    if make_current:
        workspace.use("release", artifact)
    return artifact.name


def _path(request: AnyRequest, name: str) -> str:
    """The path of a file, decoded once."""
    raw: bytes = request.scope["raw_path"]
    return unquote(raw.decode("latin-1").partition("?")[0].partition(f"/v1/releases/{name}/files/")[2])


def _chunks(path: Path, begin: int) -> Iterator[bytes]:
    with path.open("rb") as opened:
        opened.seek(begin)
        while chunk := opened.read(_CHUNK):
            yield chunk


def _on_user_error(request: AnyRequest, error: UserError) -> Response[Any]:
    status = {NotFound: 404, Forbidden: 403, Unauthorized: 401}.get(type(error), 400)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    content = {"error": {"kind": type(error).__name__, "message": str(error)}}
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _on_http_error(request: AnyRequest, error: HTTPException) -> Response[Any]:
    content = {"error": {"kind": "BadRequest", "message": error.detail}}
    return Response(content, status_code=error.status_code, media_type="application/json", headers=error.headers)


def _on_disk_error(request: AnyRequest, error: OSError) -> Response[Any]:
    content = {"error": {"kind": "InternalError", "message": f"the disk failed: {error.strerror}"}}
    return Response(content, status_code=500, media_type="application/json")


def create_app(workspace: Workspace, token: str | None, admit: Admit) -> Litestar:
    """Build the application."""
    return Litestar(
        route_handlers=[health, releases, current, manifest, file, announce, take, finish],
        exception_handlers={UserError: _on_user_error, HTTPException: _on_http_error, OSError: _on_disk_error},
        openapi_config=None,
        logging_config=None,
        state=State({"repository": Repository(workspace, token, admit)}),
    )
