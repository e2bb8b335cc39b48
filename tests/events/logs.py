"""Small logs for tests, with every trouble a log may have."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.base.batches import FlatColumn
from upnext.base.ids import item_hash
from upnext.base.schema import Schema
from upnext.events.log import EventLog, LogRows

BIG = 2**53 + 1
NUM_USERS, NUM_ITEMS = 6, 9
"""Dense ids, padding and unknown included."""


class Event(NamedTuple):
    """One row as a test writes it."""

    user: int
    item: int
    time: int = 0
    request: int = -1
    played: float | None = None


def schema(**changes: Any) -> Schema:
    values: dict[str, Any] = {
        "has_times": True,
        "has_requests": True,
        "request_safe": True,
        "contexts": {"device": "categorical"},
        "feedback": {"played": "fraction"},
        "views": {"watched": "played >= 0.5", "skipped": "played < 0.5"},
    }
    return Schema(**(values | changes))


def rows_of(events: Sequence[Event]) -> LogRows:
    """Rows in the order of their source."""
    user, item, time, request = np.array([event[:4] for event in events], np.int64).reshape(-1, 4).T
    observed = np.array([event.played is not None for event in events], bool)
    return LogRows(
        user=user,
        item=item,
        item_hash=item_hash(range(BIG, BIG + NUM_ITEMS))[item],
        time_ms=time,
        order=np.arange(len(events)),
        request=request,
        position=np.arange(len(events))[::-1].copy(),
        columns={
            "context.device": FlatColumn(item % 3, item % 3 > 0),
            "feedback.played": FlatColumn(np.array([event.played or 0 for event in events], np.float32), observed),
        },
    )


def offsets_of(rows: LogRows, num_users: int = NUM_USERS) -> NDArray[np.int64]:
    """Where the events of each user begin in sorted rows."""
    return np.searchsorted(rows.user, np.arange(num_users + 1))


def log_of(events: Sequence[Event], of: Schema | None = None, num_users: int = NUM_USERS) -> EventLog:
    """A log in memory."""
    rows = rows_of(events).sorted()
    return EventLog(of or schema(), rows, offsets_of(rows, num_users))


EVENTS = st.lists(
    st.builds(
        Event,
        user=st.integers(2, NUM_USERS - 2),  # the last user never has an event
        item=st.integers(1, NUM_ITEMS - 1),  # 1 is an unknown item
        time=st.integers(-2, 5),
        request=st.integers(-1, 3),
        played=st.sampled_from([None, 0.0, 0.5, 1.0]),
    ),
    max_size=14,
)
"""Few users, items and instants: many ties, repeats and requests that span others."""

SCHEMAS = st.builds(
    lambda has_times, request_safe: schema(has_times=has_times, request_safe=request_safe), st.booleans(), st.booleans()
)
