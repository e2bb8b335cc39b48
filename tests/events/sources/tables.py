"""Reading a table source as its user would write it: through the configuration."""

from typing import Any

from upnext.base.configuration import Config, parse_config
from upnext.events.sources import RawLog, Source, read


class Holder(Config):
    """Stands in for the stage whose configuration holds a source."""

    source: Source


def table(**keys: Any) -> RawLog:
    """Read a table source with a `user` and an `item` column."""
    given = {"kind": "table", "user": "user", "item": "item"} | keys
    return read(parse_config(Holder, {"source": given}, "test").source)
