"""A real server in a process of its own, on a free port of 127.0.0.1."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from upnext.base.artifacts import Workspace
from upnext.commands.exchange import serve_releases
from upnext.pipeline.serve import ServeConfig, run

__all__ = ["ProviderProcess", "ServerProcess"]

# Imports once, then forks a server in a moment; nothing of the tests' own process is in it.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.serving.server"])


def _serve(workspace: Path, announce: Connection, settings: dict[str, Any]) -> None:
    run(ServeConfig(port=0, **settings), Workspace(workspace), announce.send)


def _offer(workspace: Path, announce: Connection, settings: dict[str, Any]) -> None:
    os.environ["UPNEXT_RELEASES_TOKEN"] = settings["token"]
    serve_releases(
        workspace, "127.0.0.1", settings["port"], "UPNEXT_RELEASES_TOKEN", Console(quiet=True), announce.send
    )


class ServerProcess:
    """Serves the current release of a workspace until killed; `address` ends in a slash."""

    _target = staticmethod(_serve)

    def __init__(self, workspace: Path, **settings: Any) -> None:
        announced, announce = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=self._target, args=(workspace, announce, settings), daemon=True)
        self._process.start()
        announce.close()
        with announced:
            self.address: str = announced.recv()  # EOFError where it ended before it served

    def kill(self) -> None:
        """End it as a power cut would: no handler runs."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.is_alive():
            self.kill()
        self._process.close()


class ProviderProcess(ServerProcess):
    """Offers the releases of a workspace until killed; takes those that are pushed with the token."""

    _target = staticmethod(_offer)

    def __init__(self, workspace: Path, token: str = "", port: int = 0) -> None:
        super().__init__(workspace, token=token, port=port)
