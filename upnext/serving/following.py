"""Following: a thread that asks, now and then, which release is to be served, and swaps it in."""

import logging
import threading
import time
from pathlib import Path
from typing import Protocol

from upnext.base.artifacts import Workspace
from upnext.base.errors import UserError

__all__ = ["Follower", "OwnReleases", "Source"]

_LOG = logging.getLogger("upnext.serving")

_LONGEST_END_S = 5
"""So long an end waits for what goes on."""

_LONGEST_WAIT = 64
"""A release that was refused is tried again after one period, two, four … so many."""


class Source(Protocol):
    """Where releases come from."""

    def current(self) -> str | None:
        """The name of the release that is to be served; None if there is none yet. It is asked often."""
        ...

    def fetch(self, name: str) -> Path:
        """The folder with a release of this name, or with what stands for it here."""
        ...

    def took(self, folder: Path) -> None:
        """Hear that a release is served now."""
        ...


class OwnReleases:
    """What a workspace points to: a `publish` or a `rollback` there changes it."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def current(self) -> str | None:
        """The name in `current/release`."""
        return self._workspace.in_use().get("release")

    def fetch(self, name: str) -> Path:
        """Its folder, which loading verifies."""
        return self._workspace.named(name, verify=False).folder

    def took(self, folder: Path) -> None:
        """Nothing is to be done: the pointer is there already."""


class Swappable(Protocol):
    """What can serve another release."""

    @property
    def serves(self) -> str:
        """The name of the release that is served."""
        ...

    def swap(self, release_folder: Path) -> None:
        """Serve another one; raises, and goes on with the old one, where it cannot."""
        ...


class Follower:
    """Asks a source every `period_s` seconds; whatever goes wrong, the old release goes on, and `refused` says why."""

    def __init__(self, service: Swappable, source: Source, period_s: float) -> None:
        self._service, self._source, self._period_s = service, source, period_s
        self.refused: str | None = None
        self._done: str | None = None
        self._failed: tuple[str | None, int, str | None] = (None, 0, None)
        self._again_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; what is in the middle of a transfer or of loading is left to end with the process."""
        self._ended.set()
        self._thread.join(timeout=_LONGEST_END_S)

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            self._look()

    def _look(self) -> None:
        name = None
        try:
            name = self._source.current()
            if name is not None and name != self._done:
                if name == self._failed[0] and time.monotonic() < self._again_s:
                    self.refused = self._failed[2]
                    return
                self._take(name)
            self._failed, self.refused = (None, 0, None), None
        except (UserError, OSError) as error:
            self._refuse(name, str(error), None)
        except Exception as error:  # whatever a broken release brings about
            self._refuse(name, f"it cannot be loaded ({type(error).__name__}: {error}); publish it again", error)

    def _take(self, name: str) -> None:
        before, start = self._service.serves, time.monotonic()
        folder = self._source.fetch(name)
        if folder.name != before:
            self._service.swap(folder)
            _LOG.warning("serving %s instead of %s, after %.1f s", folder.name, before, time.monotonic() - start)
        self._source.took(folder)
        self._done = name

    def _refuse(self, name: str | None, why: str, bug: Exception | None) -> None:
        if self._ended.is_set():
            return
        said = why if name is None else f"{name} is refused: {why}"
        if name is not None:  # a source that is out of reach says nothing of a release that was refused before
            count = 1 + (self._failed[1] if name == self._failed[0] else 0)
            self._failed = (name, count, said)
            self._again_s = time.monotonic() + self._period_s * min(2 ** (count - 1), _LONGEST_WAIT)
        if said != self.refused:
            _LOG.error("%s; %s goes on", said, self._service.serves, exc_info=bug)
        self.refused = said
