"""The log that is there already: up to date, or one that new rows can follow.

A log can be followed when everything it was made from is unchanged and new event files come after the old ones. Then
only these are read: vocabularies are extended, so that no dense id moves, and a segment is written beside the old ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from upnext.base.artifacts import Artifact, Workspace, code_version
from upnext.base.errors import BadData
from upnext.base.ids import FIRST
from upnext.base.schema import ITEM_ID, USER_ID
from upnext.events.log import EventLog
from upnext.events.sources import AnySource, Frames, RawLog, TableSource, find_files, read
from upnext.features.vocabulary import Vocabulary
from upnext.preparation.posted import LATE, Posted

__all__ = ["Earlier", "event_files", "followable", "up_to_date"]


def event_files(source: AnySource) -> list[str]:
    """The files with a table's events, in the order they are read; other sources give none and are read whole."""
    return [str(path) for path in find_files(source.path)] if isinstance(source, TableSource) else []


def up_to_date(workspace: Workspace, settings: dict[str, Any], parents: Sequence[Artifact]) -> Artifact | None:
    """Find a log of these settings among those that were in use, however it came about, and use it again."""
    for log in _used(workspace, parents):
        if _has(log, settings) and workspace.is_whole(log):
            workspace.use("log", log)
            return log
    return None


def followable(
    workspace: Workspace,
    settings: dict[str, Any],
    parents: Sequence[Artifact],
    source: AnySource,
    frames: Frames | None,
    posted: Posted,
    at_once: int,
) -> "Earlier | None":
    """Find a log that the new rows of a source, and new posted events, can follow, and read the rows.

    Returns:  None where there is none, or where the whole source has to be read to know what its new rows mean: ids
              are of another type than before, an item that no event has left the side table, posted events are the
              first to amend others, or the new files alone cannot be read.
    """
    for log in _used(workspace, parents):
        new_files = _new_files(log.manifest["config"], settings)
        if new_files is not None and workspace.is_whole(log) and posted.include(Posted.of(log)):
            return _follow(log, partial(_read, log, new_files, source, frames, at_once, posted))
    return None


def _read(
    log: Artifact, new_files: list[str], source: AnySource, frames: Frames | None, at_once: int, posted: Posted
) -> RawLog:
    # Where no file is new, the last old one still tells the types of the columns.
    files = new_files or log.manifest["config"]["event_files"][-1:]
    raw = read(source.model_copy(update={"path": files}) if files else source, frames, at_once)
    raw = posted.with_interactions(raw)
    return raw if new_files else replace(raw, source=(part.clear() for part in islice(raw.parts(), 1)))


def _follow(log: Artifact, load: Callable[[], RawLog]) -> "Earlier | None":
    earlier = Earlier(log, load)
    try:
        return earlier if earlier.fits(load()) else None
    except BadData:
        return None


def _used(workspace: Workspace, parents: Sequence[Artifact]) -> Iterator[Artifact]:
    names = [parent.name for parent in parents]
    for log in workspace.used("log"):
        manifest = log.manifest
        if manifest["code_version"] == code_version() and manifest["parents"][: len(names)] == names:
            yield log


def _has(log: Artifact, settings: dict[str, Any]) -> bool:
    return {name: log.manifest["config"].get(name) for name in settings} == settings


def _new_files(old: dict[str, Any], new: dict[str, Any]) -> list[str] | None:
    """The event files that are new; None where something else changed than that files or rows of side tables came.

    A source that does not tell its event files from others has to be unchanged.
    """
    before, now = old["event_files"], new["event_files"]
    if now[: len(before)] != before or (not before and old["files"] != new["files"]):
        return None
    if _without_path(old["config"]) != _without_path(new["config"]):
        return None
    if old["forgotten"] != new["forgotten"] or any(old["files"][path] != new["files"][path] for path in before):
        return None
    return list(now[len(before) :])


def _without_path(config: dict[str, Any]) -> dict[str, Any]:
    source = {
        name: value for name, value in config["source"].items() if name != "path" or config["source"]["kind"] != "table"
    }
    return {name: value for name, value in config.items() if name != "live"} | {"source": source}


@dataclass(frozen=True)
class Earlier:
    """A log that new rows follow, and those rows."""

    artifact: Artifact
    new_rows: Callable[[], RawLog]
    """Reads the rows to add, and the side tables whole."""

    @property
    def folder(self) -> Path:
        """Where its segments are."""
        return self.artifact.folder / "log"

    @cached_property
    def users(self) -> Vocabulary:
        """Its numbering of users."""
        return self.vocabulary("users")

    @cached_property
    def items(self) -> Vocabulary:
        """Its numbering of items."""
        return self.vocabulary("items")

    def vocabulary(self, name: str) -> Vocabulary:
        """Its numbering of `users`, `items` or `context.<name>`."""
        return Vocabulary.load(self.artifact.folder / f"{name}.vocabulary.arrow")

    @cached_property
    def next_order(self) -> int:
        """The order of the first new row of a file: after every old one."""
        order = self._log.rows.order
        return int(order[order < LATE].max(initial=-1)) + 1

    @property
    def posted(self) -> Posted:
        """The posted events that it holds."""
        return Posted.of(self.artifact)

    @cached_property
    def _log(self) -> EventLog:
        return EventLog.open(self.folder, "not")

    def fits(self, raw: RawLog) -> bool:
        """Whether rows tell of events as the old ones do, new ids are of the type of the old ones, and every item is in
        an event or in the side table."""
        if raw.has_interactions != (self._log.schema.merge is not None):
            return False
        is_there = np.zeros(len(self.items), bool)
        is_there[self._log.rows.item] = True
        types: dict[str, set[pl.DataType]] = {USER_ID: set(), ITEM_ID: set()}
        for part in raw.parts():
            types = {name: known | {part.schema[name]} for name, known in types.items()}
            is_there[self.items.encode(part[ITEM_ID].to_arrow())] = True
        for vocabulary, name in ((self.users, USER_ID), (self.items, ITEM_ID)):
            if types[name] != {pl.Int64() if vocabulary.is_integer else pl.String()}:
                return False
        if raw.items is None:
            return True
        is_there[self.items.encode(raw.items[ITEM_ID].cast(*types[ITEM_ID]).to_arrow())] = True
        return bool(is_there[FIRST:].all())
