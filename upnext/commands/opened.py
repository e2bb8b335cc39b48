"""What commands that run a model share: the release with the events posted since, threads, and where to write."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from upnext.base.artifacts import Workspace
from upnext.base.errors import BadConfig
from upnext.serving.histories import Histories
from upnext.serving.recommend import follow_stream
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["check_folder", "open_release", "use_threads"]


@contextlib.contextmanager
def open_release(folder: Path) -> Iterator[tuple[Release, Histories]]:
    """Load the current release of a workspace, with what was posted since, as a server would."""
    release = Release.load(Workspace.existing(folder).current("release", "release", verify=False).folder)
    live_folder = folder / "live"
    live = LmdbStore(live_folder) if live_folder.is_dir() else None
    try:
        histories = Histories(release, live)
        follow_stream(release, histories, histories.new_events())
        yield release, histories
    finally:
        release.histories.close()
        if live is not None:
            live.close()


def check_folder(out: Path) -> None:
    """Check, before anything is worked out, that a file can be written to its place.

    Raises:   BadConfig: its folder is not there.
    """
    if not out.parent.is_dir():
        raise BadConfig(f"--out {out}: there is no folder {out.parent}; make it, or name another")


def use_threads(threads: int | None) -> None:
    """Let models use so many threads; None leaves it to torch, which takes a thread per core, or OMP_NUM_THREADS."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
