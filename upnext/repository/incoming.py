"""A release on its way in: `incoming/<name>` of a workspace, pulled or pushed.

Each file is compared with its hash, flushed and renamed; when all are there the folder is renamed to its place among
the artifacts. A kill at any moment leaves either the release or a part of it here, from which the next try goes on.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.errors import BadArtifact
from upnext.base.files import file_hash, flush, link_or_copy
from upnext.base.manifests import MANIFEST
from upnext.repository.listed import Listed

__all__ = ["PART", "Incoming", "partly_here"]

PART = ".part"
"""The end of the name of a file that is being written."""

_FOLDER = "incoming"


def partly_here(workspace: Workspace) -> list[Path]:
    """The folders of releases that did not come in whole yet."""
    return sorted(path for path in (workspace.root / _FOLDER).glob("*") if path.is_dir())


class Incoming:
    """What is here of a release that comes in."""

    def __init__(self, workspace: Workspace, listed: Listed) -> None:
        self._workspace, self._listed = workspace, listed
        self.outer = workspace.root / _FOLDER / listed.name
        """What may be held while files come in."""
        self._folder = self.outer / "files"

    def begin(self) -> list[str]:
        """Make the folder, take files from releases that are here already, and list what is still to come.

        Raises:   BadArtifact: there is no room for it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        known: dict[str, Path] = {}
        for release in self._workspace.folders("release"):
            with contextlib.suppress(BadArtifact):
                hashes = Artifact.open(release).manifest["files"]
                known |= {digest: release / name for name, digest in hashes.items()}
        missing = []
        for name, file in self._listed.files.items():
            if self._is_whole(name):
                continue
            (self._folder / name).unlink(missing_ok=True)
            if file.hash in known and known[file.hash].is_file():
                link_or_copy(known[file.hash], self._folder / name)
                if self._is_whole(name):
                    continue
                (self._folder / name).unlink()
            missing.append(name)
        size, free = sum(self._listed.files[name].size for name in missing), shutil.disk_usage(self._folder).free
        if size > free:
            raise BadArtifact(f"{self._listed.name} needs {size:,} bytes, and {free:,} are left here; make room")
        return missing

    def part(self, name: str, mark: str = "") -> Path:
        """Where to write what comes of a file; two who write at a time take different marks."""
        path = self._folder / f"{name}{mark}{PART}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def take(self, name: str, part: Path) -> None:
        """Put a file in its place.

        Raises:   BadArtifact: it is not what the manifest lists; it is removed.
        """
        listed, size = self._listed.files[name], part.stat().st_size
        if size != listed.size or file_hash(part) != listed.hash:
            part.unlink()
            how = f"has {size:,} bytes instead of {listed.size:,}" if size != listed.size else "has another hash"
            raise BadArtifact(f"{self._listed.name}: {name} {how} than its manifest says; it was changed or cut off")
        flush(part)
        part.replace(self._folder / name)

    def finish(self) -> Artifact:
        """Give the whole release its place; nothing points to it yet.

        Raises:   BadArtifact: a file is missing, or is not what the manifest lists.
        """
        for name in self._listed.files:
            if not self._is_whole(name):
                raise BadArtifact(f"{self._listed.name}: {name} has not come yet, or was changed; send it again")
        listed = {self._folder / name for name in self._listed.files}
        for other in [path for path in self._paths() if path.is_file() and path not in listed]:
            other.unlink()  # parts, and what an earlier try listed under this name
        (self._folder / MANIFEST).write_bytes(self._listed.raw)
        for path in (*self._paths(), self._folder):
            flush(path)
        artifact = self._workspace.adopt(self._folder, self._listed.name)
        shutil.rmtree(self.outer, ignore_errors=True)
        return artifact

    def _paths(self) -> Iterator[Path]:
        return iter(sorted(self._folder.rglob("*")))

    def _is_whole(self, name: str) -> bool:
        path, listed = self._folder / name, self._listed.files[name]
        return path.is_file() and path.stat().st_size == listed.size and file_hash(path) == listed.hash
