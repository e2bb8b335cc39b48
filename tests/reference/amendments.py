"""Merging amendments as a slow loop, to be read beside `upnext.events.amendments` and `upnext.events.late`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Told(NamedTuple):
    """One row of a log; `interaction` is -1 where it belongs to none."""

    user: int
    time: int
    interaction: int = -1
    played: float | None = None
    seconds: float | None = None
    like: float | None = None


def in_order(rows: Sequence[Told]) -> list[Told]:
    """By user and time; what is equal keeps the order of the source."""
    return sorted(rows, key=lambda row: row[:2])


def events(rows: Sequence[Told], rules: Mapping[str, str], border: int | None = None) -> list[Told]:
    """The events that rows tell of, each at the place of its first row.

    Args:     border: what is told from here on of an event before it is left out.
    """
    told: dict[tuple[int, int, int], list[Told]] = {}
    for number, row in enumerate(in_order(rows)):
        key = (row.user, row.interaction, number if row.interaction < 0 else -1)
        first = told.setdefault(key, [])
        if first and border is not None and first[0].time < border <= row.time:
            continue
        first.append(row)
    return [
        Told(*of[0][:3], *(merge(rules[name], of, name) for name in ("played", "seconds", "like")))
        for of in told.values()
    ]


def merge(rule: str, rows: Sequence[Told], name: str) -> float | None:
    """One feedback of one event: over the rows in which it was observed."""
    values: list[float] = [getattr(row, name) for row in rows if getattr(row, name) is not None]
    if not values:
        return None
    return {"first": values[0], "last": values[-1], "max": max(values), "sum": sum(values)}[rule]
