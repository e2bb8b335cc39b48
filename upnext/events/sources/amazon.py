"""Amazon reviews in the files of S3Rec (https://github.com/RUCAIBox/CIKM2020-S3Rec): 5-core, ids renumbered."""

import json
from pathlib import Path
from typing import Literal

import polars as pl

from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.schema import ITEM_ID, TIME_MS, USER_ID
from upnext.events.sources.columns import read_ids
from upnext.events.sources.files import either, read_bytes, read_lines, resolve_path
from upnext.events.sources.formats import read_table
from upnext.events.sources.raw import Column, RawLog
from upnext.events.sources.times import read_times

__all__ = ["AmazonSource", "read"]


class AmazonSource(Config):
    """A folder with the files of one or more categories, each plain or .gz: Beauty.txt (`user item item …`),
    Beauty_with_timestamps.csv, Beauty_item2attributes.json."""

    kind: Literal["amazon"]
    path: str
    """The folder."""
    category: str
    """What the files' names begin with: "Beauty", "Sports_and_Outdoors"."""
    times: bool | None = None
    """Read the file with times (whole days). Unset: where it is there."""


def read(config: AmazonSource) -> RawLog:
    """Read one category: reviews without feedback, in each user's order, and the attributes of items.

    Raises:   BadData: no such file, or one that is not as published.
    """
    folder, name = resolve_path(config.path), config.category
    timed = either(folder, f"{name}_with_timestamps.csv") if config.times is not False else None
    notes: list[str] = []
    if timed is not None:
        events = _timed(timed)
        notes.append("times are whole days: reviews of one user and day keep the order of the file")
    elif config.times:
        raise BadData(f"{folder.absolute()} holds no {name}_with_timestamps.csv (plain or .gz); remove times = true")
    else:
        events = _ordered(folder, name)
    attributes = either(folder, f"{name}_item2attributes.json")
    if attributes is None:
        notes.append(f"{folder} holds no {name}_item2attributes.json: no attributes")
    return RawLog(
        [events],
        items=None if attributes is None else _attributes(attributes),
        item_features={} if attributes is None else {"attributes": "multi"},
        notes=notes,
    )


def _timed(file: Path) -> pl.DataFrame:
    names = ["user_id", "item_id", "timestamp"]
    frame, origin = read_table(str(file), dict.fromkeys(names, 'kind = "amazon"'), form="csv")
    user, item, time = (Column(frame[name], origin) for name in names)
    ids = {USER_ID: read_ids(user, "integers"), ITEM_ID: read_ids(item, "integers"), TIME_MS: read_times(time, "s")}
    return pl.DataFrame([values.alias(name) for name, values in ids.items()])


def _ordered(folder: Path, name: str) -> pl.DataFrame:
    file = either(folder, f"{name}.txt")
    if file is None:
        raise BadData(
            f"{folder.absolute()} holds no {name}.txt (plain or .gz); download it from"
            " https://github.com/RUCAIBox/CIKM2020-S3Rec and give the folder that holds it"
        )
    lines = read_lines(file, "utf-8")
    lines.refuse(
        ~lines.values.str.contains(r"^\s*\d+(\s+\d+)+\s*$"),
        'a user and the items in order, all integers: "user item item"',
        "correct the line, or download the file again",
    )
    words = lines.values.str.extract_all(r"\d+")
    line = pl.DataFrame({USER_ID: words.list.first(), ITEM_ID: words.list.slice(1)})
    user = Column(line[USER_ID].alias("user"), lines.origin)
    repeated = read_ids(user, "integers")
    user.refuse(~repeated.is_first_distinct(), "each user on one line", "download the file again")
    long = line.with_columns(repeated.alias(USER_ID)).explode(ITEM_ID)
    return long.with_columns(pl.col(ITEM_ID).cast(pl.Int64))


def _attributes(file: Path) -> pl.DataFrame:
    """Attributes are numbers without names: categories and brands, as S3Rec coded them."""
    wanted = f'{file} is not as published: wanted {{"item": [attribute, …], …}} of integers; download it again'
    try:
        table = json.loads(read_bytes(file))
        ids = pl.Series(ITEM_ID, [int(item) for item in table], pl.Int64)
        values = [[str(int(attribute)) for attribute in attributes] for attributes in table.values()]
    except (ValueError, TypeError, AttributeError):
        raise BadData(wanted) from None
    return pl.DataFrame([ids, pl.Series("attributes", values, pl.List(pl.String))])
