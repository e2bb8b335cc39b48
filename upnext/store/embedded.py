"""The embedded store: LMDB, one folder, durable at every write."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import lmdb

from upnext.base.errors import BadArtifact

__all__ = ["LmdbStore"]

_MAP_SIZE = 1 << 40
"""Address space reserved for the file, not disk: the file grows as it is written."""


class LmdbStore:
    """Keys in order, one writer, many readers, across processes. A write is on disk when it returns.

    Args:     folder: made if need be; is_read_only: for a store inside a finished artifact, which never changes.
    Raises:   BadArtifact: the folder holds no store, or cannot be opened.
    """

    def __init__(self, folder: Path, *, is_read_only: bool = False) -> None:
        try:
            if not is_read_only:
                folder.mkdir(parents=True, exist_ok=True)
            self._environment: lmdb.Environment | None = lmdb.open(
                str(folder),
                map_size=_MAP_SIZE,
                readonly=is_read_only,
                lock=not is_read_only,
                create=not is_read_only,
                max_readers=512,
            )
        except (lmdb.Error, OSError) as error:
            raise BadArtifact(f"cannot open the store {folder}: {error}") from None

    @property
    def _open(self) -> lmdb.Environment:
        assert self._environment is not None, "the store is closed"
        return self._environment

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none."""
        with self._open.begin() as transaction:
            return [transaction.get(key) for key in keys]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Write all of them or none; on disk when it returns."""
        with self._open.begin(write=True) as transaction:
            for key, value in values.items():
                transaction.put(key, value)

    def delete(self, keys: Sequence[bytes]) -> None:
        """Forget keys, all or none; unknown ones are ignored."""
        with self._open.begin(write=True) as transaction:
            for key in keys:
                transaction.delete(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with the prefix, ascending, with their values, as of the moment of the call."""
        with self._open.begin() as transaction:
            cursor = transaction.cursor()
            found = []
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        break
                    found.append((key, value))
        return iter(found)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
