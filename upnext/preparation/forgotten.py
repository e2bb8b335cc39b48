"""Who was forgotten: tombstones that keep a user's rows out of every later log.

A tombstone is a salted hash: it tells of a given id whether it was forgotten, and gives no list of ids. The salt lies
beside it, so whoever has the file can try ids; it keeps the ids themselves out of the workspace, no more.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from upnext.base.errors import BadArtifact
from upnext.base.files import replace_file
from upnext.base.ids import ExternalId
from upnext.base.schema import USER_ID
from upnext.events.sources import RawLog

__all__ = ["Forgotten"]

_FILE = "forgotten.json"


@dataclass(frozen=True)
class Forgotten:
    """The tombstones of a workspace; `hashes` are sorted."""

    salt: bytes
    hashes: tuple[str, ...] = ()

    @classmethod
    def load(cls, root: Path) -> "Forgotten":
        """Read a workspace's tombstones; there may be none.

        Raises:   BadArtifact: the file is damaged. Going on would bring back whoever was forgotten.
        """
        path = root / _FILE
        if not path.exists():
            return cls(secrets.token_bytes(16))
        try:
            content = json.loads(path.read_text())
            return cls(bytes.fromhex(content["salt"]), tuple(map(str, content["users"])))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadArtifact(
                f"{path} is no list of forgotten users ({error}); restore it from a backup: without it, users who were"
                " forgotten would come back"
            ) from None

    def save(self, root: Path) -> None:
        """Write them, atomically and for good."""
        content = json.dumps({"salt": self.salt.hex(), "users": list(self.hashes)}, indent=1)
        replace_file(root / _FILE, content.encode())

    def with_users(self, users: Iterable[ExternalId]) -> "Forgotten":
        """Add tombstones."""
        return replace(self, hashes=tuple(sorted({*self.hashes, *map(self._hash, users)})))

    def holds(self, user: ExternalId) -> bool:
        """Whether a user was forgotten; the integer 7 and the text "7" are one."""
        return bool(self.hashes) and self._hash(user) in self.hashes

    def among(self, users: Iterable[ExternalId]) -> list[ExternalId]:
        """Those of some users who were forgotten."""
        hashes = set(self.hashes)
        return [user for user in users if self._hash(user) in hashes] if hashes else []

    def cover(self, hashes: Iterable[str]) -> bool:
        """Whether what was made with these tombstones was made with all of ours."""
        return set(self.hashes) <= set(hashes)

    def kept(self, raw: RawLog) -> RawLog:
        """Leave the rows of forgotten users out of a source; a note says how many, once all is read."""
        return replace(raw, source=self._kept(raw)) if self.hashes else raw

    def _kept(self, raw: RawLog) -> Iterator[pl.DataFrame]:
        gone: set[str] = set()
        num_rows = 0
        for part in raw.parts():
            here = self.among(part[USER_ID].unique().to_list())
            kept = part.filter(~pl.col(USER_ID).is_in(pl.Series(here, dtype=part.schema[USER_ID]).implode()))
            gone |= {str(user) for user in here}
            num_rows += len(part) - len(kept)
            yield kept
        if gone:
            raw.notes.append(f"{num_rows:,} rows of {len(gone):,} forgotten users were left out")

    def _hash(self, user: ExternalId) -> str:
        return hashlib.blake2b(str(user).encode(), key=self.salt, digest_size=16).hexdigest()
