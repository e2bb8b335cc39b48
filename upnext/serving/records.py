"""What is stored of changes to the catalogue: in the live store, beside posted events, by the items' own ids.

With each write goes a new mark for the kind of writer; who finds another mark reads the records again.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from upnext.base.ids import ExternalId, stable_hash
from upnext.base.protocols import Store

__all__ = ["ItemRecord", "load_records", "read_marks", "write_records"]

_ITEM, _MARK = b"i/", b"im/"


class ItemRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was changed about one item since it came into a release, or since it was first heard of."""

    item_id: ExternalId
    number: int
    """The order in which items were first changed."""
    added_ms: int
    columns: dict[str, Any] = {}
    """What was set."""
    base: dict[str, Any] = {}
    """What the release said of these columns then: one that says something else is newer, and wins."""
    is_available: bool = True
    is_removed: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether it may be shown at all."""
        return self.is_available and not self.is_removed


def load_records(store: Store) -> dict[ExternalId, ItemRecord]:
    """Everything that was changed, by item id."""
    records = (msgspec.msgpack.decode(value, type=ItemRecord) for _, value in store.scan(_ITEM))
    return {one.item_id: one for one in records}


def read_marks(store: Store) -> dict[bytes, bytes]:
    """The mark of each kind of writer."""
    return dict(store.scan(_MARK))


def write_records(store: Store, records: Mapping[ExternalId, ItemRecord], writer: str) -> dict[bytes, bytes]:
    """Write records, all or none; on disk when it returns.

    Returns:  the writer's new mark.
    """
    mark = {_MARK + writer.encode(): secrets.token_bytes(8)}
    values = {_key(item_id): msgspec.msgpack.encode(one) for item_id, one in records.items()}
    store.put(values | mark)
    return mark


def _key(item_id: ExternalId) -> bytes:
    return _ITEM + stable_hash(item_id).to_bytes(8, "big", signed=True)
