"""Side sequences: what users did that is no event of an item, such as searches."""

import polars as pl
from pydantic import model_validator

from upnext.base.configuration import Config
from upnext.base.schema import TIME_MS, USER_ID
from upnext.events.sources.columns import read_categories, read_ids
from upnext.events.sources.formats import Format, read_table
from upnext.events.sources.raw import Column
from upnext.events.sources.side_tables import Path, Separator
from upnext.events.sources.times import TimeUnit, read_times

__all__ = ["SequenceTable", "read_sequence"]


class SequenceTable(Config):
    """A table with one row per thing that a user did, and when; no model reads it yet."""

    path: Path
    """A file, a glob, or a list of them."""
    format: Format | None = None
    """As for the events."""
    separator: Separator | None = None
    """As for the events."""
    user: str
    """The column of user ids; rows of users without an event are left out."""
    time: str
    """The column of times."""
    time_unit: TimeUnit | None = None
    """As for the events."""
    text: str | None = None
    """A column of text, of which the words count."""
    value: str | None = None
    """A column of categories, each of which counts as a whole; in the place of `text`."""

    @model_validator(mode="after")
    def _one_content(self) -> "SequenceTable":
        if (self.text is None) == (self.value is None):
            raise ValueError("name either a column of text or one of categories as value")
        return self


def read_sequence(config: SequenceTable, name: str) -> pl.DataFrame:
    """Read a side sequence: `user_id`, `time_ms` and `words` (List[String]), in file order.

    Raises:   BadData: naming the file, the row, the column, the value, what is allowed and what to do.
    """
    content = config.text or config.value or ""
    kind = "text" if config.text is not None else "value"
    roles = {config.user: "user", config.time: "time", content: kind}
    roles = {column: f"sequences.{name}.{role}" for column, role in roles.items()}
    frame, origin = read_table(config.path, roles, form=config.format, separator=config.separator)
    values = read_categories(Column(frame[content], origin))
    if config.text is not None:
        words = values.str.normalize("NFKC").str.to_lowercase().str.extract_all(r"\w+")
    else:
        words = values.reshape((len(values), 1)).arr.to_list().list.drop_nulls()
    users = read_ids(Column(frame[config.user], origin))
    times = read_times(Column(frame[config.time], origin), config.time_unit)
    return pl.DataFrame([users.alias(USER_ID), times.alias(TIME_MS), words.alias("words")])
