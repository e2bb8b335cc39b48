"""What a manifest from elsewhere lists, checked before a byte of it is asked for or taken.

Only files that are read as data are let in: weights as safetensors, tables as Arrow, JSON, text of LightGBM, arrays
without objects, and the histories' LMDB file. Nothing in a release is run.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from upnext.base.errors import BadArtifact
from upnext.base.manifests import MANIFEST, check_manifest, name_of

__all__ = ["LARGEST_MANIFEST", "Listed", "check_name"]

LARGEST_MANIFEST = 16 << 20
"""Bytes."""

_NAME = re.compile(r"release-[0-9a-f]{16}")
_HASH = re.compile(r"[0-9a-f]{64}")
_KINDS = {".safetensors", ".arrow", ".json", ".txt", ".npy", ".mdb"}


def check_name(name: str) -> str:
    """The name of a release, which becomes that of a folder.

    Raises:   BadArtifact: it is none.
    """
    if not _NAME.fullmatch(name):
        raise BadArtifact(f"{name[:100]!r} is no name of a release: release- and 16 hexadecimal digits")
    return name


@dataclass(frozen=True)
class File:
    """One file of a release: its SHA-256 and its size in bytes."""

    hash: str
    size: int


@dataclass(frozen=True)
class Listed:
    """A release as its manifest lists it."""

    name: str
    raw: bytes
    """The manifest as it was written."""
    manifest: Mapping[str, Any]
    files: Mapping[str, File]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    @classmethod
    def parse(cls, name: str, raw: bytes) -> "Listed":
        """Check a manifest.

        Raises:   BadArtifact: it is of another format version or kind, its content gives another name, or it lists a
                  file that no release has.
        """
        check_name(name)
        try:
            manifest = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BadArtifact(f"the manifest of {name} is no JSON ({error}); publish the release again") from None
        check_manifest(manifest, name)
        kinds = {"config": dict, "metrics": dict, "parents": list, "schema": str, "code_version": str}
        for key, kind in kinds.items():
            if not isinstance(manifest[key], kind):
                raise BadArtifact(f"the manifest of {name} has {manifest[key]!r:.100} as its {key}; publish it again")
        if manifest["kind"] != "release":
            raise BadArtifact(f"{name} is a {manifest['kind']}, not a release")
        if (found := name_of(manifest)) != name:
            raise BadArtifact(f"the manifest of {name} was changed: what it says makes it {found}; publish it again")
        return cls(name, raw, manifest, _files(name, manifest))


def _files(name: str, manifest: Mapping[str, Any]) -> dict[str, File]:
    hashes, sizes = manifest["files"], manifest.get("sizes")
    if not isinstance(hashes, dict) or not isinstance(sizes, dict) or hashes.keys() != sizes.keys():
        raise BadArtifact(f"the manifest of {name} does not say how large its files are; publish the release again")
    for path in hashes:
        _check_path(name, path)
        if not isinstance(hashes[path], str) or not _HASH.fullmatch(hashes[path]):
            raise BadArtifact(f"the manifest of {name} has no SHA-256 for {path}; publish the release again")
        if any(str(outer) in hashes for outer in PurePosixPath(path).parents):
            raise BadArtifact(f"{name} lists {path!r} inside of what it lists as a file; publish the release again")
        if type(sizes[path]) is not int or sizes[path] < 0:
            raise BadArtifact(f"the manifest of {name} gives {path} the size {sizes[path]!r}; publish it again")
    return {path: File(hashes[path], sizes[path]) for path in hashes}


def _check_path(name: str, path: str) -> None:
    parts = path.split("/")
    is_plain = all(part and part.isprintable() and part[0] != "." and not set(part) & set("\\:") for part in parts)
    if not is_plain or len(path.encode(errors="replace")) > 1000 or path == MANIFEST:
        raise BadArtifact(f"{name} lists {path[:200]!r}, which is no path of a file inside a release; it is refused")
    if PurePosixPath(path).suffix not in _KINDS:
        raise BadArtifact(f"{name} lists {path[:200]!r}; a release has only files of the kinds {sorted(_KINDS)}")
