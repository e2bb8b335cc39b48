"""A real server of a workspace's current release, in a process of its own, on a free port of 127.0.0.1."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from upnext.base.artifacts import Workspace
from upnext.pipeline.serve import ServeConfig, run

__all__ = ["Served"]

# One process imports everything and creates no thread; from it a server is forked in a moment.
_CONTEXT = multiprocessing.get_context("forkserver")
# The name of this module would not do: this folder is not on that process's path.
_CONTEXT.set_forkserver_preload(["upnext.pipeline.serve"])


def _serve(workspace: Path, core: int | None, announce: Connection) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    run(ServeConfig(port=0), Workspace(workspace), announce.send)


class Served:
    """Serves until killed.

    Args:     core: the only processor core that it may use; None for any.
    """

    def __init__(self, workspace: Path, core: int | None = None) -> None:
        self._killed = False
        announced, announce = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_serve, args=(workspace, core, announce), daemon=True)
        self._process.start()
        announce.close()
        with announced:
            address = urlsplit(announced.recv())  # EOFError where it ended before it served
        assert address.hostname is not None
        assert address.port is not None
        self.host, self.port = address.hostname, address.port

    def cpu_s(self) -> float:
        """Seconds that it has kept a processor busy."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it as a power cut would: no handler runs."""
        if not self._killed:
            self._killed = True
            assert self._process.pid is not None
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.join()
            self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
