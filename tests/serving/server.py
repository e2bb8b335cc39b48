"""A real server in a process of its own, on a free port of 127.0.0.1."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from upnext.base.artifacts import Workspace
from upnext.pipeline.serve import ServeConfig, run

__all__ = ["ServerProcess"]

# Imports once, then forks a server in a moment; nothing of the tests' own process is in it.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.serving.server"])


def _serve(workspace: Path, announce: Connection) -> None:
    run(ServeConfig(port=0), Workspace(workspace), announce.send)


class ServerProcess:
    """Serves the current release of a workspace until killed; `address` ends in a slash."""

    def __init__(self, workspace: Path) -> None:
        announced, announce = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_serve, args=(workspace, announce), daemon=True)
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
