"""A finished artifact: an immutable folder, and the manifest that says what made it and what each file holds."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from upnext.base.configuration import digest
from upnext.base.errors import BadArtifact
from upnext.base.files import file_hash
from upnext.version import __version__

__all__ = ["FORMAT_VERSION", "MANIFEST", "Artifact", "Parents", "check_manifest", "code_version", "name_of"]

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

# What only composes stages cannot change what they make.
_ROOMS_WITHOUT_ARTIFACTS = {"commands", "cli.py", "api"}
_RECIPE_KEYS = ("kind", "format_version", "code_version", "config", "parents")
_MANIFEST_KEYS = {*_RECIPE_KEYS, "files", "schema", "metrics"}

Parents = Sequence["Artifact | str"]
"""What an artifact is made from: artifacts, or the names of some that may be gone."""


@cache
def code_version() -> str:
    """The package's version and a hash of the code that makes artifacts."""
    root = Path(__file__).parent.parent
    sources = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] not in _ROOMS_WITHOUT_ARTIFACTS:
            sources.update(path.read_bytes())
    return f"{__version__}+{sources.hexdigest()[:8]}"


def name_of(manifest: Mapping[str, Any]) -> str:
    """The name of an artifact: its kind and the hash of its recipe."""
    return f"{manifest['kind']}-{digest({key: manifest[key] for key in _RECIPE_KEYS})}"


def check_manifest(manifest: Any, where: object) -> None:
    """Check that a manifest is whole, and one that this version reads.

    Raises:   BadArtifact: it is not.
    """
    if not isinstance(manifest, dict) or not manifest.keys() >= _MANIFEST_KEYS:
        raise BadArtifact(f"{where} has no whole manifest; run the stage that makes it again")
    if manifest["format_version"] != FORMAT_VERSION:
        raise BadArtifact(
            f"{where} has format version {manifest['format_version']}, this Upnext reads {FORMAT_VERSION};"
            " run the stage again"
        )


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name: kind and recipe hash."""
        return self.folder.name

    @property
    def identity(self) -> str:
        """The name under which what is made from it knows it: that of the artifact whose content it rewrote, if any."""
        return str(self.manifest.get("stands_for") or self.name)

    @property
    def kind(self) -> str:
        """`log`, `model`, `report`, `release` …"""
        return str(self.manifest["kind"])

    @classmethod
    def open(cls, folder: Path, verify: bool = False) -> "Artifact":
        """Open a folder.

        Args:     verify: compare every file with its hash in the manifest (reads them all).
        Raises:   BadArtifact: no manifest, another format version, or a file that is missing or changed.
        """
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError) as error:
            raise BadArtifact(f"{folder} is no finished artifact ({error}); run the stage that makes it") from None
        check_manifest(manifest, folder)
        if verify:
            for name, expected in manifest["files"].items():
                path = folder / name
                if not path.is_file() or file_hash(path) != expected:
                    raise BadArtifact(f"{path} is missing or was changed after it was written; run the stage again")
        return cls(folder, manifest)

    def copy_to(self, folder: Path) -> None:
        """Copy the artifact to a folder that is new, or holds an artifact of the same kind: that one is replaced.

        Raises:   BadArtifact: the folder holds something else, or cannot be written.
        """
        if folder.exists() and not _holds(folder, self.kind):
            raise BadArtifact(f"{folder} is there and holds no {self.kind}; give a new folder, or remove it")
        beside = folder.with_name(f".{folder.name}.{os.getpid()}")
        before = folder.with_name(f".{folder.name}.{os.getpid()}.before")
        try:
            shutil.copytree(self.folder, beside)
            if folder.exists():
                folder.rename(before)
            beside.rename(folder)
        except OSError as error:
            raise BadArtifact(f"cannot write {folder}: {error.strerror or error}; choose another folder") from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)


def _holds(folder: Path, kind: str) -> bool:
    try:
        return Artifact.open(folder).kind == kind
    except BadArtifact:
        return False
