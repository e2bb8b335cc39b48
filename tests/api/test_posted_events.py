"""What was posted to a service counts in Python too, and counts once."""

import time
from pathlib import Path

import msgspec
import polars as pl

import upnext
from upnext.commands.table import recommendations
from upnext.serving.histories import LiveEvent
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

DAY_S = 86_400


def test_a_counting_retriever_follows_the_stream_and_counts_it_once(tmp_path: Path) -> None:
    rows = [(user, f"i{(user + day) % 5}", 1_700_000_000 + day * DAY_S + user) for user in range(8) for day in range(6)]
    events = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    roles: upnext.Columns = {"user": "user", "item": "item", "time": "time", "time_unit": "s"}
    upnext.RecentlyPopular(window="1h").fit(upnext.EventLog.from_frame(events, roles)).save(tmp_path / "release")
    posted = LiveEvent(user_id=1, item_id="i3", time_ms=time.time_ns() // 1_000_000 - 1000, event_id="once")
    store = LmdbStore(tmp_path / "live")
    store.put({posted.key(): msgspec.msgpack.encode(posted)})
    store.close()
    release = Release.load(tmp_path / "release")
    try:
        answers = [recommendations(release, tmp_path / "live", [99], 3) for _ in range(2)]
    finally:
        release.histories.close()
    first = answers[0].row(0, named=True)
    assert first["item_id"] == "i3"  # the only event of the last hour
    assert 1 <= first["score"] < 2
    assert answers[0].equals(answers[1])
