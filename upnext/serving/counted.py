"""Counted: the events that a ranker's aggregates read when somebody asks, as the release has them and since.

Aggregates by user are counted from the users' own events, which a request reads anyway. The others are answered from
runs: one of the release's log, written by `publish`, and some of what was posted since, which are made anew from the
live store when a server starts. A posted event of a new item counts under the number that the item has meanwhile.

In memory an event that was posted takes about 100 bytes, and what `Run` says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Column, Events
from upnext.base.ids import FIRST, UNKNOWN
from upnext.base.schema import context_column, feature_column, feedback_column
from upnext.features.aggregates import NOTHING, UNKNOWN_KEY, Aggregate, Past, ReadsColumns
from upnext.features.online_aggregates import Asked, Run, answer
from upnext.serving.assortment import Assortment
from upnext.serving.pasts import Pasts

__all__ = ["Counted", "CountedUsers", "declared_by", "split_by_user"]

_USER = "user"
_SMALL = 2048
_RATIO = 16
"""A run is this many times as large as the next, or small: few have to be asked, and events are sorted again rarely."""


@dataclass(frozen=True)
class _Live:
    events: Events
    run: Run


class Counted:
    """What the aggregates of a release's rankers are counted from; `observe` adds what was posted.

    Args:     readers: the rankers. published: the run of the release's log, for the aggregates that are not by user,
              if there are any.
    """

    def __init__(self, readers: Sequence[ReadsColumns], published: Run | None, assortment: Assortment) -> None:
        self.reads = frozenset(column for reader in readers for column in reader.reads)
        self.by_user, self.others = split_by_user(declared_by(readers))
        self._published = published
        self._live: list[_Live] = []
        self._items = ItemColumns(self, assortment)

    def observe(self, events: Events, assortment: Assortment) -> None:
        """Add events that were posted."""
        self._follow(assortment)
        if not self.others or not len(events):
            return
        self._live.append(self._sorted(events))
        while len(self._live) > 1 and len(self._live[-2].events) < max(_SMALL, _RATIO * len(self._live[-1].events)):
            last, before = self._live.pop(), self._live.pop()
            self._live.append(self._sorted(Events.concatenate([before.events, last.events])))

    def retract(self, events: Events, assortment: Assortment) -> None:
        """Take back events that were observed: of those that are alike any one stands for the other."""
        self._follow(assortment)
        for row in range(len(events)):
            event = events.take(slice(row, row + 1))
            for number, live in enumerate(self._live):
                if len(places := np.flatnonzero(_alike(live.events, event))):
                    others = np.delete(np.arange(len(live.events)), places[0])
                    self._live[number] = self._sorted(live.events.take(others))
                    break

    def of_users(self, pasts: Pasts, assortment: Assortment) -> "CountedUsers":
        """With what some users did."""
        self._follow(assortment)
        run = Run.of(self.by_user, self._items.past(pasts.events, {_USER: pasts.user})) if self.by_user else None
        runs = [] if self._published is None else [self._published, *(live.run for live in self._live)]
        return CountedUsers(self, self._items, run, runs)

    def _sorted(self, events: Events) -> _Live:
        return _Live(events, Run.of(self.others, self._items.past(events, {})))

    def _follow(self, assortment: Assortment) -> None:
        """Take over another assortment; what is known of items may have changed, of those that are new."""
        if assortment is self._items.assortment:
            return
        before, self._items = self._items, ItemColumns(self, assortment)
        if not self._items.say_the_same(before):
            self._live = [self._sorted(live.events) for live in self._live]


def declared_by(readers: Iterable[ReadsColumns]) -> list[Aggregate]:
    """The aggregates of some rankers, each once: one of a name is the same in all of them."""
    return list({one.name: one for reader in readers for one in reader.aggregates}.values())


def split_by_user(aggregates: Iterable[Aggregate]) -> tuple[list[Aggregate], list[Aggregate]]:
    """Those that count events of the asking user alone, and the others."""
    kinds: tuple[list[Aggregate], list[Aggregate]] = ([], [])
    for aggregate in aggregates:
        kinds[_USER not in aggregate.by].append(aggregate)
    return kinds


class ItemColumns:
    """What a ranker reads of items, and what events are counted by, by dense id of an assortment."""

    def __init__(self, counted: Counted, assortment: Assortment) -> None:
        schema = assortment.release.schema
        names = {name for aggregate in counted.by_user + counted.others for name in aggregate.by} - {_USER, "item"}
        self.assortment = assortment
        self.contexts = sorted(names & schema.contexts.keys())
        self._feedback = list(schema.feedback)
        read = {name for name in schema.item_features if feature_column("item", name) in counted.reads}
        self.columns = {name: _of_items(assortment, name) for name in sorted(read | (names - schema.contexts.keys()))}
        # (W,) by name: UNKNOWN_KEY where nothing is known.
        self._keys = {
            name: np.where(column.observed.numpy(), column.values.numpy(), UNKNOWN_KEY).astype(np.int64)
            for name, column in self.columns.items()
            if name in names
        }

    def say_the_same(self, other: "ItemColumns") -> bool:
        """Whether items that both know have the same keys."""
        pairs = zip(self._keys.values(), other._keys.values(), strict=True)
        return all(np.array_equal(mine[: len(theirs)], theirs[: len(mine)]) for mine, theirs in pairs)

    def keys(self, item: NDArray[np.int64], missing: int) -> dict[str, NDArray[np.int64]]:
        """The keys that items have, of any shape; `missing` where there is none."""
        keys = {name: of[item] for name, of in self._keys.items()} | {"item": np.where(item < FIRST, UNKNOWN_KEY, item)}
        return {name: np.where(key == UNKNOWN_KEY, missing, key) for name, key in keys.items()}

    def past(self, events: Events, others: dict[str, NDArray[np.int64]]) -> Past:
        """Events as aggregates read them."""
        keys = others | self.keys(events.item, UNKNOWN_KEY)
        for name in self.contexts:
            column = events.columns[context_column(name)]
            keys[name] = _known(column.values, column.observed, UNKNOWN_KEY)
        feedback = {name: events.columns[feedback_column(name)] for name in self._feedback}
        return Past(keys, events.time_ms, feedback, events.views)


@dataclass(frozen=True)
class CountedUsers:
    """What is counted, with the events of the users of a batch."""

    counted: Counted
    items: ItemColumns
    of_users: Run | None
    runs: Sequence[Run]

    def answer(
        self,
        user: NDArray[np.int64],
        time_ms: NDArray[np.int64],
        context: Mapping[str, Column],
        items: NDArray[np.int64],
    ) -> dict[str, NDArray[np.float32]]:
        """Every aggregate of every candidate: by name (B, C), or (B, 1) where all candidates have the same.

        Args:     user: (B,) number of the user of each request, among those of the batch. time_ms: (B,) everything
                  strictly before it counts. context: (B,) under their full names. items: (B, C) dense, below 2 for
                  none.
        """
        keys = self.items.keys(items, NOTHING)
        keys[_USER] = user[:, None]
        for name in self.items.contexts:
            column = context[context_column(name)]
            keys[name] = _known(column.values.numpy(), column.observed.numpy(), NOTHING)[:, None]
        asked = Asked(keys, time_ms)
        answers: dict[str, NDArray[np.float32]] = {}
        if self.of_users is not None:
            answers |= answer(self.counted.by_user, [self.of_users], asked)
        return answers | answer(self.counted.others, self.runs, asked)


def _alike(events: Events, one: Events) -> NDArray[np.bool_]:
    """(N,) which events are like one in all that is counted."""
    found: NDArray[np.bool_] = (events.time_ms == one.time_ms) & (events.item == one.item)
    for name, column in one.columns.items():
        of_all = events.columns[name]
        found &= (of_all.observed == column.observed) & (of_all.values == column.values)
    return found


def _of_items(assortment: Assortment, name: str) -> Column:
    """A feature of all items by dense id, those that are new behind; of several values the first."""
    parts = [
        Column(one.values[:, 0], one.observed[:, 0]) if one.values.dim() > 1 else one
        for one in (assortment.release.catalogue.items.features[name], assortment.new_items.features[name])
    ]
    if not len(parts[1].values):
        return parts[0]
    return Column(torch.cat([one.values for one in parts]), torch.cat([one.observed for one in parts]))


def _known(values: NDArray[np.int64], observed: NDArray[np.bool_], missing: int) -> NDArray[np.int64]:
    """A context as a part of a key: one that the release has not met is like nothing."""
    return np.where(observed & (values != UNKNOWN), values, missing).astype(np.int64)
