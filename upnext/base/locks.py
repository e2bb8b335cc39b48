"""Locks between processes: the kernel frees them when their process ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["hold", "is_held", "is_running", "share", "try_lock"]

_FILE = "lock"


def try_lock(path: Path, flags: int = os.O_RDONLY) -> int | None:
    """Lock a file or folder; returns the descriptor that holds the lock until it is closed, None if it is taken.

    A file system that cannot lock counts as taken: whoever asks then leaves the thing alone.
    """
    descriptor = os.open(path, flags, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a folder, if need be, and hold it through the file `lock` in it, which names the process.

    Raises:   BlockingIOError: another run holds it; the message names its process.
    """
    path = folder / _FILE
    descriptor = None
    while descriptor is None:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # whoever held it before finished, and removed the folder
            descriptor = try_lock(path, os.O_RDWR | os.O_CREAT)
            if descriptor is None:
                raise BlockingIOError(path.read_text().strip() or "unknown")
        if descriptor is not None and not os.fstat(descriptor).st_nlink:  # locked, but of a folder that is gone
            os.close(descriptor)
            descriptor = None
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def share(folder: Path) -> Iterator[None]:
    """Hold a folder together with others who share it; nobody can `hold` it meanwhile.

    A file system that cannot lock keeps nobody out.

    Raises:   BlockingIOError: somebody holds it alone; the message names the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError((folder / _FILE).read_text().strip() or "unknown") from None
        except OSError:
            pass
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether some run holds a folder; one without a `lock` is free."""
    try:
        descriptor = try_lock(folder / _FILE)
    except FileNotFoundError:
        return False
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def is_running(process: int) -> bool:
    """Whether a process of this number exists here."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
