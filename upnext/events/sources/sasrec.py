"""The files of the SASRec, gSASRec and BERT4Rec papers: `user item` on each line, in order, without times."""

from typing import Literal

import polars as pl

from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.schema import ITEM_ID, USER_ID
from upnext.events.sources.columns import read_ids
from upnext.events.sources.files import read_lines, resolve_path
from upnext.events.sources.raw import Column, RawLog
from upnext.events.sources.side_tables import ItemTable, read_items

__all__ = ["SASRecSource", "read"]


class SASRecSource(Config):
    """A text file with one interaction per line: the user, white space, the item; it may be a .gz file."""

    kind: Literal["sasrec"]
    path: str
    """The file."""
    items: ItemTable | None = None
    """A side table of items."""


def read(config: SASRecSource) -> RawLog:
    """Read an order-only log: two ids per row, in file order, without times or feedback.

    Raises:   BadData: no such file, or a line that holds not two ids.
    """
    path = resolve_path(config.path)
    if not path.is_file():
        raise BadData(f"there is no file {path.absolute()}; correct the path")
    lines = read_lines(path, "utf-8")
    parts = lines.values.str.strip_chars().str.extract_groups(r"^(\S+)\s+(\S+)$").struct.unnest()
    lines.refuse(
        parts[:, 0].is_null(),
        'two ids separated by white space: "user item"',
        'write one interaction per line; files of other columns are read by kind = "table"',
    )
    user, item = (Column(parts[:, number].alias(name), lines.origin) for number, name in enumerate(("user", "item")))
    users, items, table = read_ids(user), read_ids(item), None
    if config.items is not None:
        side, table = read_items(config.items)
        items = side.join(item, items)
    return RawLog(
        [pl.DataFrame([users.alias(USER_ID), items.alias(ITEM_ID)])],
        items=table,
        item_features={} if config.items is None else config.items.kinds,
    )
