"""A real server of a workspace's current release, or a provider of its releases, each in a process of its own."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from rich.console import Console

from upnext.base.artifacts import Artifact, Workspace
from upnext.commands.exchange import serve_releases
from upnext.pipeline.serve import ServeConfig, run

__all__ = ["Offered", "Served", "lent"]

# One process imports everything and creates no thread; from it a server is forked in a moment.
_CONTEXT = multiprocessing.get_context("forkserver")
# The name of this module would not do: this folder is not on that process's path.
_CONTEXT.set_forkserver_preload(["upnext.pipeline.serve", "upnext.commands.exchange"])


def _serve(workspace: Path, core: int | None, announce: Connection, settings: dict[str, Any]) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    run(ServeConfig(port=0, **settings), Workspace(workspace), announce.send)


def _offer(workspace: Path, core: int | None, announce: Connection, settings: dict[str, Any]) -> None:
    serve_releases(workspace, "127.0.0.1", 0, "UPNEXT_RELEASES_TOKEN", Console(quiet=True), announce.send)


def lent(release: Artifact, folder: Path) -> Workspace:
    """A new workspace around a release that lies elsewhere, with a live store of its own."""
    folder.mkdir(parents=True)
    (folder / "artifacts").symlink_to(release.folder.parent.resolve())
    workspace = Workspace(folder)
    workspace.use("release", release)
    return workspace


class Served:
    """Serves until killed.

    Args:     core: the only processor core that it may use; None for any. settings: keys of `[serve]`.
    """

    _target = staticmethod(_serve)

    def __init__(self, workspace: Path, core: int | None = None, settings: dict[str, Any] | None = None) -> None:
        self._killed = False
        announced, announce = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(
            target=self._target, args=(workspace, core, announce, settings or {}), daemon=True
        )
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

    def memory_mb(self) -> float:
        """Megabytes of memory that it holds, mapped files left out."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / 1000

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


class Offered(Served):
    """A provider of a workspace's releases, until killed."""

    _target = staticmethod(_offer)
