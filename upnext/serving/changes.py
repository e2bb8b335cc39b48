"""Changes to the catalogue while a service runs: checked, made durable, then acknowledged."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from upnext.base.errors import BadData, BadRequest, NotFound
from upnext.base.ids import UNKNOWN, ExternalId
from upnext.base.protocols import Store
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE
from upnext.features.catalogue import Catalogue
from upnext.serving.intake import shown
from upnext.serving.records import ItemRecord, load_records, read_marks, write_records

__all__ = ["Change", "Changes", "check_columns"]

_SHOWN = {TITLE: pa.string(), GENRES: pa.list_(pa.string()), COLLECTION: pa.string()}
"""What the page shows of an item; any catalogue may have these."""


@dataclass(frozen=True)
class Change:
    """What is to become of one item; None leaves things as they are."""

    item_id: ExternalId
    columns: Mapping[str, Any] | None = None
    is_available: bool | None = None
    is_removed: bool = False


def check_columns(columns: Mapping[str, Any], catalogue: Catalogue, where: str) -> dict[str, Any]:
    """Check columns by name and type; null clears one.

    Raises:   BadRequest: a name that the catalogue does not have, or a value of another type or width.
    """
    kinds = _SHOWN | {field.name: field.type for field in catalogue.table.schema if field.name != ITEM_ID}
    checked = {}
    for name, value in columns.items():
        if name not in kinds:
            raise BadRequest(f"{where} has the unknown column {shown(name)}; this catalogue knows {sorted(kinds)}")
        try:
            if pa.types.is_nested(kinds[name]) and isinstance(value, str):  # Arrow would take its letters
                raise TypeError(value)
            (checked[name],) = pa.array([value], kinds[name]).to_pylist()
            if isinstance(checked[name], list) and None in checked[name]:
                raise TypeError(value)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError, UnicodeEncodeError):
            raise BadRequest(f"{where}.{name} is {shown(value)}; the column holds {kinds[name]}, or null") from None
    try:
        catalogue.features.encoder.encode_rows([checked])
    except BadData as error:  # a vector of another width, say, which no model could read
        raise BadRequest(f"{where}: {str(error).removeprefix('row 0: ')}") from None
    return checked


def _apply(change: Change, record: ItemRecord | None, catalogue: Catalogue, number: int) -> ItemRecord:
    """What is known of an item after a change.

    Args:     record: what was known before; number: for an item that was not changed before.
    Raises:   NotFound: nobody told of such an item; BadRequest: it was removed for good.
    """
    dense = catalogue.vocabulary.dense(change.item_id)
    if record is None:
        if dense == UNKNOWN and change.columns is None:
            raise NotFound(
                f"no item {shown(change.item_id)} in the catalogue; PUT /v1/items/{{item_id}} adds one, and so does"
                " `upnext items put`"
            )
        record = ItemRecord(change.item_id, number, time.time_ns() // 1_000_000)
    if record.is_removed and not change.is_removed:
        raise BadRequest(f"item {shown(change.item_id)} was removed for good; give the new one another id")
    columns = {} if change.columns is None else dict(change.columns)
    current = catalogue.columns(dense) if dense != UNKNOWN else {}
    return msgspec.structs.replace(
        record,
        columns=record.columns | columns,
        base=record.base | {name: current.get(name) for name in columns},
        is_available=record.is_available if change.is_available is None else change.is_available,
        is_removed=record.is_removed or change.is_removed,
    )


class Changes:
    """Writes changes to the live store. What `write` returned from is on disk. Threads may share it.

    Args:     writer: a kind of writer: `server` or `command`.
              tell: called with all records, once they are on disk.
    """

    def __init__(
        self, store: Store, catalogue: Catalogue, writer: str, tell: Callable[[dict[ExternalId, ItemRecord]], None]
    ) -> None:
        self._store, self._catalogue, self._writer, self._tell = store, catalogue, writer, tell
        self._lock = threading.Lock()
        self._marks = read_marks(store)
        self._records = load_records(store)

    def write(self, changes: Sequence[Change]) -> None:
        """Apply changes in order, all or none."""
        with self._lock:
            self._take_in()
            changed: dict[ExternalId, ItemRecord] = {}
            number = 1 + max((one.number for one in self._records.values()), default=-1)
            for change in changes:
                before = changed.get(change.item_id) or self._records.get(change.item_id)
                changed[change.item_id] = _apply(change, before, self._catalogue, number)
                number += before is None
            self._marks = self._marks | write_records(self._store, changed, self._writer)
            self._records = self._records | changed
            self._tell(self._records)

    def follow(self) -> None:
        """Take in what another process wrote; while this one writes, that comes first."""
        if self._lock.acquire(blocking=False):
            try:
                self._take_in()
            finally:
                self._lock.release()

    def _take_in(self) -> None:
        marks = read_marks(self._store)  # before the records: what comes in between is found the next time
        if marks != self._marks:
            self._marks, self._records = marks, load_records(self._store)
            self._tell(self._records)
