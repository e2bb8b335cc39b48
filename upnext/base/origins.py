"""Where releases came from that were made elsewhere: one small file per release, `origins/<name>` of a workspace.

An artifact never changes, so what is known of its way here lies beside it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from upnext.base.files import replace_file

__all__ = ["PUSHED", "Origin", "carry_origin", "drop_origin", "drop_origins", "origin_of", "origins", "write_origin"]

PUSHED = "pushed"
"""In the place of the address of a release that was pushed."""

_FOLDER = "origins"


@dataclass(frozen=True)
class Origin:
    """The address that a release came from, or PUSHED, and the name that it had there."""

    address: str
    name: str


def origin_of(root: Path, name: str) -> Origin | None:
    """Where the artifact of a workspace came from; None if it was made here."""
    try:
        said = json.loads((root / _FOLDER / name).read_text())
        return Origin(str(said["address"]), str(said["name"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def origins(root: Path) -> dict[str, Origin]:
    """All that is known, by the name that an artifact has here."""
    paths = sorted((root / _FOLDER).glob("[!.]*"))
    found = {path.name: origin_of(root, path.name) for path in paths}
    return {name: origin for name, origin in found.items() if origin is not None}


def write_origin(root: Path, name: str, origin: Origin) -> None:
    """Write down where an artifact comes from, before it is there."""
    replace_file(root / _FOLDER / name, json.dumps(asdict(origin), indent=1).encode())


def carry_origin(root: Path, name: str, made: str) -> None:
    """What was made in the place of an artifact came from where that came from."""
    if (origin := origin_of(root, name)) is not None:
        write_origin(root, made, origin)


def drop_origin(root: Path, name: str) -> None:
    """Forget where an artifact came from that is gone."""
    (root / _FOLDER / name).unlink(missing_ok=True)


def drop_origins(root: Path, kept: set[str]) -> None:
    """Forget where artifacts came from that are gone."""
    for path in (root / _FOLDER).glob("[!.]*"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
