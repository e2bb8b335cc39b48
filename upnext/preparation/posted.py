"""Events that were posted to the service, as preparation sees them: the live store of a workspace."""

import os
import shutil
from pathlib import Path

import msgspec

from upnext.base.files import flush
from upnext.preparation.forgotten import Forgotten
from upnext.serving.histories import LiveEvent
from upnext.store.embedded import LmdbStore

__all__ = ["erase_posted", "read_posted"]

_FILE = "data.mdb"


def read_posted(live: Path) -> list[LiveEvent]:
    """Every event of a live store, by user; none where there is no store."""
    return [msgspec.msgpack.decode(value, type=LiveEvent) for _, value in _scan(live)]


def _scan(live: Path) -> list[tuple[bytes, bytes]]:
    if not (live / _FILE).is_file():
        return []
    store = LmdbStore(live)
    try:
        return list(store.scan(b""))
    finally:
        store.close()


def erase_posted(live: Path, forgotten: Forgotten) -> int:
    """Erase what forgotten users posted, while no server has the store open; returns how many events that were.

    The file is written anew and replaced: a deletion alone would leave the bytes in its free pages.
    """
    values = _scan(live)
    users = [msgspec.msgpack.decode(value, type=LiveEvent).user_id for _, value in values]
    gone = set(forgotten.among(dict.fromkeys(users)))
    kept = {key: value for (key, value), user in zip(values, users, strict=True) if user not in gone}
    beside = live / "rewritten"
    shutil.rmtree(beside, ignore_errors=True)
    if gone:
        store = LmdbStore(beside)
        store.put(kept)
        store.close()
        os.replace(beside / _FILE, live / _FILE)
        flush(live)
        shutil.rmtree(beside)
    return len(values) - len(kept)
