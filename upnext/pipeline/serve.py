"""Serve: release -> HTTP service and page."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Annotated

import uvicorn
from pydantic import Field

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import Config, Duration
from upnext.base.errors import BadArtifact, BadConfig
from upnext.base.locks import share
from upnext.serving.app import create_app
from upnext.serving.following import OwnReleases
from upnext.serving.service import Service, ServiceSettings

__all__ = ["ServeConfig", "run"]

_SHORTEST_TOKEN = 16


class ServeConfig(Config):
    """Where the service listens, and what it may use."""

    host: str = "127.0.0.1"
    """The address it listens on; `0.0.0.0` for every interface."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes any free port."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of one model call."""
    budget_ms: Annotated[int, Field(ge=1)] = 2000
    """A page that is not ready after so many milliseconds is answered with what is popular."""
    follow: bool = True
    """Swap in what the workspace points to when that changes (`publish`, `releases rollback`); no request is dropped.
    Both releases are in memory for a moment. `false`: serve what was loaded until the end."""
    check_every: Annotated[Duration, Field(ge=1)] = 5000
    """How often to look which release is to be served: "5s"."""
    admin_token_env: str = "UPNEXT_ADMIN_TOKEN"
    """The environment variable that holds the token for changing items over HTTP; unset, nobody may."""


def run(config: ServeConfig, workspace: Workspace, announce: Callable[[str], None]) -> Artifact:
    """Serve the current release until interrupted.

    Args:     announce: called with the page's address once requests are answered.
    Returns:  the release that was served.
    Raises:   BadConfig: the address cannot be taken.
    """
    release = workspace.current("release", "release", verify=False)  # loading it verifies it
    listener = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise BadConfig(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}; choose another serve.host, or a free port"
            " with --set serve.port=0"
        ) from None
    with listener, _sharing(workspace):
        settings = ServiceSettings(config.threads, config.budget_ms, _token(config.admin_token_env))
        service = Service(release.folder, workspace.root / "live", settings)
        if config.follow:
            service.follow(OwnReleases(workspace), config.check_every / 1000)
        app = create_app(service)
        server_settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        host = f"[{config.host}]" if ":" in config.host else config.host
        server = _AnnouncingServer(server_settings, lambda: announce(f"http://{host}:{listener.getsockname()[1]}/"))
        server.run(sockets=[listener])
    return release


@contextlib.contextmanager
def _sharing(workspace: Workspace) -> Iterator[None]:
    """Keep out what changes posted events and releases under a server's feet."""
    try:
        with share(workspace.root / "live"):
            yield
    except BlockingIOError as error:
        raise BadArtifact(f"process {error} is changing {workspace.root}; wait for it, then start the server") from None


def _token(variable: str) -> str | None:
    """The token of an environment variable, if it is set.

    Raises:   BadConfig: it is too short to be a secret.
    """
    token = os.environ.get(variable, "")
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
