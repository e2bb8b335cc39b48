"""What every measurement says of itself: the machine, the versions and the commit."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

__all__ = ["commit", "machine"]


def machine(*facts: str, packages: tuple[str, ...] = ("torch",)) -> str:
    """The processor, further facts such as the number of threads, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    versions = [f"{package} {version(package)}" for package in packages]
    return ", ".join([processor, *facts, f"Python {platform.python_version()}", *versions])


def commit(*paths: str) -> str:
    """The commit that is checked out, marked where the package or one of the paths has changes."""
    is_changed = _git("status", "--porcelain", "upnext", *paths)
    return _git("rev-parse", "--short", "HEAD") + ("+changes" if is_changed else "")


def _git(*arguments: str) -> str:
    """What git says, or nothing outside a checkout."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
