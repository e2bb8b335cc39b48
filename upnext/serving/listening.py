"""Where a server listens, and the token that it asks for."""

import os
import socket
from collections.abc import Callable

import uvicorn
from litestar import Litestar

from upnext.base.errors import BadConfig

__all__ = ["answer", "listen", "token_of"]

_SHORTEST_TOKEN = 16


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Take an address.

    Args:     port: 0 takes any free one; setting: where it is set.
    Raises:   BadConfig: the address cannot be taken.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadConfig(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another host, or a free port with {setting} 0"
        ) from None
    return listener


def answer(app: Litestar, listener: socket.socket, announce: Callable[[str], None]) -> None:
    """Answer requests until interrupted.

    Args:     announce: called with the address once requests are answered.
    """
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    _AnnouncingServer(settings, lambda: announce(f"http://{host}:{port}/")).run(sockets=[listener])


def token_of(variable: str) -> str | None:
    """The token of an environment variable, if it is set.

    Raises:   BadConfig: it is too short to be a secret, or has characters that no header can hold.
    """
    token = os.environ.get(variable, "")
    if not (token.isascii() and token.isprintable()):
        raise BadConfig(f"the token in {variable} has characters that no HTTP header holds; use ASCII without newlines")
    if token and len(token) < _SHORTEST_TOKEN:
        raise BadConfig(
            f"the token in {variable} has {len(token)} characters; use {_SHORTEST_TOKEN} or more, or unset it:"
            " python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        )
    return token or None


class _AnnouncingServer(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()
