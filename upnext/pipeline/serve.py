"""Serve: release -> HTTP service and page."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import Config, Duration
from upnext.base.errors import NotFound
from upnext.preparation.rewritten import admitted
from upnext.repository.provider import Provider
from upnext.repository.transfer import PulledReleases
from upnext.serving.app import create_app
from upnext.serving.following import OwnReleases, Source
from upnext.serving.listening import answer, listen, token_of
from upnext.serving.service import Service, ServiceSettings

__all__ = ["ServeConfig", "run"]


class ServeConfig(Config):
    """Where the service listens, and what it may use."""

    host: str = "127.0.0.1"
    """The address it listens on; `0.0.0.0` for every interface."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes any free port."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of one model call."""
    compile: bool = False
    """Compile the network of a student that ranks, once per release: this takes seconds and a C++ compiler, and is kept
    in the workspace's folder `compiled`. It answers only if it answers as the network does; else that goes on."""
    budget_ms: Annotated[int, Field(ge=1)] = 2000
    """A page that is not ready after so many milliseconds is answered with what is popular."""
    release: str | None = None
    """Where releases are pulled from: the address of `upnext releases serve`, such as `http://models:8100`. Unset: from
    the workspace."""
    follow: bool = True
    """Swap in what the workspace, or the address in `release`, points to when that changes; no request is dropped.
    Both releases are in memory for a moment. `false`: serve what was loaded until the end."""
    check_every: Annotated[Duration, Field(ge=1)] = 5000
    """How often to look which release is to be served: "5s"."""
    keep_releases: Annotated[int, Field(ge=1)] = 3
    """With `release`: of those that were pulled from there so many stay, the one that is served and the latest before
    it; others are removed once another is served."""
    admin_token_env: str = "UPNEXT_ADMIN_TOKEN"
    """The environment variable that holds the token for changing items over HTTP; unset, nobody may."""


def run(config: ServeConfig, workspace: Workspace, announce: Callable[[str], None]) -> Artifact:
    """Serve the current release until interrupted.

    Args:     announce: called with the page's address once requests are answered.
    Returns:  the release that was served.
    Raises:   BadConfig: the address cannot be taken. BadArtifact, Unreachable: there is no release to begin with.
    """
    with listen(config.host, config.port, "serve.port") as listener, workspace.shared():
        source: Source = OwnReleases(workspace)
        if config.release is not None:
            source = PulledReleases(workspace, Provider(config.release), admitted, config.keep_releases)
            _begin(workspace, source, config.release)
        release = workspace.current("release", "release", verify=False)  # loading it verifies it
        compiled = workspace.root / "compiled" if config.compile else None
        settings = ServiceSettings(config.threads, config.budget_ms, token_of(config.admin_token_env), compiled)
        service = Service(release.folder, workspace.root / "live", settings)
        if config.follow:
            service.follow(source, config.check_every / 1000)
        answer(create_app(service), listener, announce)
    return release


def _begin(workspace: Workspace, source: PulledReleases, address: str) -> None:
    """Have a release to begin with: what was pulled last, so that a provider that is down keeps nobody from serving."""
    if "release" not in workspace.in_use():
        name = source.current()
        if name is None:
            raise NotFound(f"{address} offers no release yet; publish one there, or push one, then start again")
        source.took(source.fetch(name))
