"""What preparation adds to a source and takes from it is the same in parts as at once."""

from pathlib import Path

import numpy as np
import polars as pl

from tests.preparation.logs import DAY, Row, config_of, write_events
from upnext.events.sources import RawLog, read
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.posted import Posted
from upnext.serving.histories import LiveEvent

ROWS: list[Row] = [
    (user, item, n * DAY) for n, (user, item) in enumerate(zip([1, 2, 3, 1, 2, "x"], "abcabc", strict=True))
]


def source(folder: Path, rows: int | None) -> RawLog:
    config = config_of(folder).source
    assert config.kind == "table"
    return read(config, rows=rows)


def test_forgotten_users_are_left_out_of_every_part(tmp_path: Path) -> None:
    write_events(tmp_path, "1.csv", ROWS)
    forgotten = Forgotten(b"salt").with_users([1, "x", "unknown"])
    raw = forgotten.kept(source(tmp_path, rows=1))
    parts = list(raw.parts())
    assert [str(user) for part in parts for user in part["user_id"]] == ["2", "3", "2"]
    assert raw.notes == ["3 rows of 2 forgotten users were left out"]


def test_posted_events_take_the_type_of_all_ids_that_came_before(tmp_path: Path) -> None:
    """The ids of the first parts are integers, and text in the last one: the whole is text."""
    write_events(tmp_path, "1.csv", ROWS)
    event = LiveEvent(event_id="e", user_id=7, item_id="a", time_ms=1_700_000_000_000)
    posted = Posted(np.array([event.key()], np.bytes_), [event])
    for rows in (None, 1):
        raw = posted.added_to(source(tmp_path, rows), Posted.none(), tmp_path)
        *_, last = raw.parts()
        assert last["user_id"].to_list() == ["7"]
        assert last.schema["user_id"] == pl.String
        assert raw.notes == ["1 posted events were added"]
