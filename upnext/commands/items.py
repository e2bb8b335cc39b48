"""`upnext items`: the catalogue as a workspace's service shows it, and changes to it."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upnext.base.artifacts import Workspace
from upnext.base.errors import BadArtifact, BadConfig
from upnext.base.ids import ExternalId
from upnext.base.locks import share
from upnext.base.schema import COLLECTION, GENRES, TITLE
from upnext.serving.assortment import Assortment
from upnext.serving.changes import Change, Changes, check_columns
from upnext.serving.intake import check_user
from upnext.serving.records import load_records
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["change_items", "print_changes", "put_item", "set_availability"]


def put_item(
    folder: Path,
    item_id: str,
    title: str | None,
    genres: Sequence[str],
    collection: str | None,
    others: Sequence[str],
    console: Console,
) -> None:
    """Add an item, or change what is given of one; a running server shows it in its next answer."""
    given = {TITLE: title, GENRES: list(genres) or None, COLLECTION: collection}
    columns: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for other in others:
        name, equals, text = other.partition("=")
        if not equals:
            raise BadConfig(f"--set {other}: write COLUMN=VALUE, such as --set year=1994; the value is JSON, or text")
        try:
            columns[name] = json.loads(text)
        except json.JSONDecodeError:
            columns[name] = text
    with _changing(folder) as (release, changes):
        (known_id,) = _ids(release, [item_id])
        changes.write([Change(known_id, check_columns(columns, release.catalogue, "the item"))])
    console.print(f"{escape(item_id)}: {escape(', '.join(sorted(columns)) or 'nothing given')}")


def set_availability(folder: Path, item_ids: Sequence[str], is_available: bool, console: Console) -> None:
    """Hide items from every row, or show them again."""
    change_items(folder, item_ids, "shown" if is_available else "hidden", console, is_available=is_available)


def change_items(
    folder: Path,
    item_ids: Sequence[str],
    done: str,
    console: Console,
    *,
    is_available: bool | None = None,
    is_removed: bool = False,
) -> None:
    """Change items, all of them or none, and say what was done."""
    with _changing(folder) as (release, changes):
        changes.write([Change(one, None, is_available, is_removed) for one in _ids(release, item_ids)])
    console.print(f"{len(item_ids)} item{'' if len(item_ids) == 1 else 's'} {done}")


def print_changes(folder: Path, as_json: bool, console: Console) -> None:
    """Print the items that were changed, and what each is now."""
    live_folder = folder / "live"
    with contextlib.ExitStack() as stack:
        release = _opened(folder)
        stack.callback(release.histories.close)
        records = {}
        if live_folder.is_dir():
            live = LmdbStore(live_folder)
            stack.callback(live.close)
            records = load_records(live)
        items = [_described(Assortment(release, records), one) for one in records]
    if as_json:
        console.print_json(json.dumps({"workspace": str(folder), "items": items}), indent=None)
        return
    if not items:
        console.print(f"no item of {escape(str(folder))} was changed")
        return
    table = Table()
    for column in ("item_id", "title", "genres", "collection", "state"):
        table.add_column(column)
    for item in items:
        cells = (item["item_id"], item["title"], ", ".join(item["genres"]), item["collection"] or "", item["state"])
        table.add_row(*(escape(str(cell)) for cell in cells))
    console.print(table)


def _described(assortment: Assortment, item_id: ExternalId) -> dict[str, Any]:
    dense = assortment.dense(item_id)
    record = assortment.record(dense)
    assert record is not None
    if record.is_removed:
        state = "removed"
    elif not record.is_available:
        state = "hidden"
    else:
        state = "shown" if assortment.can_retrieve[dense] else "shown as new"
    return assortment.describe(dense) | {"state": state}


def _opened(folder: Path) -> Release:
    return Release.load(Workspace.existing(folder).current("release", "release", verify=False).folder)


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[tuple[Release, Changes]]:
    """The current release of a workspace, and what writes changes to its live store."""
    release = _opened(folder)
    try:
        with share(folder / "live"):
            live = LmdbStore(folder / "live")
            try:
                yield release, Changes(live, release.catalogue, "command", lambda _: None)
            finally:
                live.close()
    except BlockingIOError as error:
        raise BadArtifact(f"process {error} is changing {folder}; wait for it, then run this again") from None
    finally:
        release.histories.close()


def _ids(release: Release, texts: Sequence[str]) -> list[ExternalId]:
    vocabulary = release.catalogue.vocabulary
    ids = [check_user(vocabulary.parse(text), "the item's id") for text in texts]
    for one in ids:
        if isinstance(one, int) != vocabulary.is_integer:
            raise BadConfig(f"the item's id is {one!r}; the ids of this catalogue are integers")
    return ids
