"""A provider of releases, seen from the other side of the wire: what is there, its files, and pushing to it.

It is asked at its own address alone: a redirect is refused. What it sends is bounded before it is read.
"""

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from upnext.base.errors import BadArtifact, BadConfig, Forbidden, NotFound, Unauthorized, Unreachable
from upnext.repository.listed import LARGEST_MANIFEST, Listed, check_name

__all__ = ["Provider"]

_CHUNK = 1 << 20
_WAIT_S = 30
"""For the next bytes."""

_COMPARED_PER_S = 50_000_000
"""Bytes that the slowest of providers compares with their hashes in a second, before it answers."""

_LARGEST_ANSWER = 1 << 20


class Provider:
    """Releases at an address such as `http://models:8100`.

    Args:     token: what pushing needs; it is sent with nothing else.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        try:
            parts = urlsplit(address)
            self._host, self._port = parts.hostname or "", parts.port
            self._host.encode("idna"), parts.path.encode("ascii")
            is_more = bool(parts.username or parts.query or parts.fragment) or " " in address
            is_right = parts.scheme in ("http", "https") and bool(self._host) and address.isprintable() and not is_more
        except ValueError:
            is_right = False
        if not is_right:
            raise BadConfig(f"{address!r} is no address of releases; give one such as http://models:8100")
        self.address = address.rstrip("/")
        self._is_https, self._path = parts.scheme == "https", parts.path.rstrip("/")
        self._token = token

    def current(self) -> str | None:
        """The name of the release that is to be served; None if there is none yet."""
        name = self._json("GET", "/v1/releases/current").get("name")
        return None if name is None else check_name(str(name))

    def listed(self, name: str) -> Listed:
        """A release's manifest, checked."""
        with self._ask("GET", f"/v1/releases/{check_name(name)}/manifest") as answer:
            return Listed.parse(name, self._read(answer, LARGEST_MANIFEST))

    def download(self, listed: Listed, name: str, part: Path) -> None:
        """Write a file of a release, after what is there of it already.

        Raises:   Unreachable: it ended too early; what came stays. BadArtifact: it is longer than it should be.
        """
        size = listed.files[name].size
        begin = part.stat().st_size if part.exists() else 0
        if begin == size and size:
            return  # whole, and not yet compared with its hash
        begin = begin if begin < size else 0
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        with self._ask("GET", f"/v1/releases/{listed.name}/files/{quote(name)}", headers=headers) as answer:
            begin = 0 if answer.status == 200 else begin
            announced = answer.getheader("Content-Length")
            if announced != str(size - begin):
                raise BadArtifact(f"{listed.name}: {name} has {size:,} bytes; {announced} come from {begin:,} on")
            with part.open("r+b" if begin else "wb") as file:
                file.seek(begin)
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                if file.tell() != size:
                    raise self._lost(f"{name} ended after {file.tell():,} of {size:,} bytes")

    def begin(self, listed: Listed) -> list[str]:
        """Announce a release that is to be pushed; the files that are to be sent."""
        said = self._json("PUT", f"/v1/releases/{listed.name}/manifest", listed.raw, compared=listed.size)
        return [name for name in listed.files if name in said.get("missing", [])]

    def upload(self, listed: Listed, name: str, path: Path) -> None:
        """Send a file."""
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK), b"")
            sizes = {"Content-Length": str(listed.files[name].size)}
            path_there = f"/v1/releases/{listed.name}/files/{quote(name)}"
            self._json("PUT", path_there, chunks, sizes, compared=listed.files[name].size)

    def finish(self, listed: Listed, make_current: bool) -> str:
        """Let a pushed release take its place, and be the current one if asked; the name that it has there."""
        body = json.dumps({"current": make_current}).encode()
        said = self._json("POST", f"/v1/releases/{listed.name}/finish", body, compared=2 * listed.size)
        return check_name(str(said.get("name")))

    def _json(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        compared: int = 0,
    ) -> dict[str, Any]:
        """Args:     compared: how many bytes the provider compares with their hashes before it answers."""
        with self._ask(method, path, body, headers, _WAIT_S + compared / _COMPARED_PER_S) as asked:
            raw = self._read(asked, _LARGEST_ANSWER)
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise BadArtifact(f"{self.address}{path} answers something else than releases; check the address")
        return answer

    @contextlib.contextmanager
    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        wait_s: float = _WAIT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask over a connection of its own: one that was idle may be closed just when it is used again."""
        sent = dict(headers or {})
        if method != "GET" and self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=wait_s, context=ssl.create_default_context())
            if self._is_https
            else http.client.HTTPConnection(self._host, self._port, timeout=wait_s)
        )
        try:
            connection.connect()
        except OSError as error:  # no route, no such name, no trust …
            raise self._lost(error) from None
        try:
            connection.request(method, self._path + path, body or None, sent)
            with connection.getresponse() as answer:
                if answer.status not in (200, 201, 206):
                    raise self._refusal(answer, path)
                yield answer
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise self._lost(error) from None
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse, limit: int) -> bytes:
        raw = answer.read(limit + 1)
        if len(raw) > limit:
            raise BadArtifact(f"{self.address} answers with more than {limit:,} bytes; check the address")
        return raw

    def _refusal(self, answer: http.client.HTTPResponse, path: str) -> Exception:
        if 300 <= answer.status < 400:
            target = answer.getheader("Location")
            return BadConfig(f"{self.address}{path} leads on to {target}, and it is not followed; give that address")
        try:
            said = str(json.loads(answer.read(_LARGEST_ANSWER))["error"]["message"])
        except (ValueError, LookupError, TypeError, http.client.HTTPException):
            said = str(answer.reason)
        kinds: dict[int, type[Exception]] = {401: Unauthorized, 403: Forbidden, 404: NotFound}
        kind = kinds.get(answer.status, BadArtifact if answer.status < 500 else Unreachable)
        return kind(f"{self.address} answers {answer.status}: {said[:1000]}")

    def _lost(self, error: Exception | str) -> Unreachable:
        return Unreachable(f"{self.address} does not answer: {error}; check the address, and that it runs")
