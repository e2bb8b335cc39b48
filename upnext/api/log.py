"""The log from Python: tables in memory, prepared with the checks of `upnext prepare`."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Required, TypedDict

import polars as pl

from upnext.base.artifacts import Workspace
from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact, BadConfig
from upnext.events.sources import TableSource, as_frame
from upnext.events.split import GlobalTime, LeaveLastOut
from upnext.pipeline import prepare
from upnext.pipeline.prepare import PrepareConfig

__all__ = ["Columns", "EventLog", "Settings", "temporary_folder"]

Settings = Mapping[str, Any]
"""Keys of a table of the configuration, with their values; docs/configuration.md lists them."""


class Columns(TypedDict, total=False):
    """Which column of the events has which role: the keys of `[prepare.source]`, read in the same way."""

    user: Required[str]
    item: Required[str]
    time: str
    time_unit: Literal["s", "ms", "us", "iso"]
    request: str
    position: str
    interaction: str
    merge: dict[str, Literal["last", "first", "max", "sum"]]
    contexts: list[str] | dict[str, Any]
    feedback: list[str] | dict[str, Any]


class EventLog:
    """A prepared log: its events, the numbering of users and items, the catalogue and the split.

    It stands for the artifact that `prepare` makes; `upnext.events.log.EventLog` reads the events inside. Make one
    with `from_frame` or `open`. `artifact` is its folder and manifest, `workspace` where models fitted on it go.
    """

    def __init__(self, workspace: Workspace) -> None:
        # Pointers of its own: a later `prepare` in the same folder does not exchange the log under this object.
        self.workspace = workspace.view(temporary_folder(self) / "current")
        self.artifact = self.workspace.current("log", "log")

    @classmethod
    def from_frame(
        cls,
        events: object,
        columns: Columns,
        *,
        items: object = None,
        users: object = None,
        item_features: list[str] | Settings | None = None,
        user_features: list[str] | Settings | None = None,
        allow_leaks: list[str] | None = None,
        split: Settings | GlobalTime | LeaveLastOut | None = None,
        views: Mapping[str, str] | None = None,
        request_safe: bool | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> "EventLog":
        """Prepare a log from tables in memory, with the checks that `upnext prepare` makes on files.

        Args:     events: a Polars, pandas or Arrow table, one row per interaction.
                  columns: the role of each column, such as `{"user": "user_id", "item": "item_id", "time": "at"}`.
                  items: a table with one row per item; its id column is called as in the events, and `title`,
                  `genres` and `collection` have a meaning. users: the same for users.
                  item_features, user_features: what of them models may read, such as `{"author": "categorical"}`.
                  split, views, request_safe, allow_leaks: as in `[prepare]`; unset, its defaults.
                  folder: the workspace that keeps what is made; unset, a temporary one.
        Returns:  the prepared log; one of the same tables and settings that the folder holds is not made again.
        Raises:   BadData: naming the table, the row, the column, the value, what is allowed and what to do.
                  BadConfig: a role, a split or a view that is wrong.
        """
        where = "EventLog.from_frame"
        frames = {"events": as_frame(events, "events")}
        source: dict[str, Any] = {"kind": "table", "path": "events"} | _roles(columns, where)
        tables = (("items", "item", items, item_features), ("users", "user", users, user_features))
        for name, role, table, features in tables:
            if table is not None:
                frames[name] = as_frame(table, name)
                source[name] = {"path": name, role: columns.get(role), "features": features or {}}
            elif features is not None:
                raise BadConfig(f"{where}: {role}_features need a table; give {name} too")
        chosen = {"split": split, "request_safe": request_safe, "views": None if views is None else dict(views)}
        settings: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        settings |= {"allow_leaks": allow_leaks or []}
        checked = parse_config(TableSource, source, f"{where}, columns")
        config = parse_config(PrepareConfig, {"source": checked} | settings, where)
        root = Path(tempfile.mkdtemp(prefix="upnext-")) if folder is None else Path(folder)
        try:
            prepare.run(config, Workspace(root), frames)
            log = cls(Workspace(root))
        except BaseException:
            if folder is None:
                shutil.rmtree(root, ignore_errors=True)
            raise
        if folder is None:
            weakref.finalize(log, shutil.rmtree, root, ignore_errors=True)
        return log

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "EventLog":
        """Open the log in use of a workspace, such as `runs/demo`; models that are fitted on it are kept there.

        Raises:   BadArtifact: the folder is no workspace, or holds no log yet.
        """
        if not (Path(folder) / "current" / "log").is_file():
            raise BadArtifact(f"{folder} is no workspace with a log; give the folder that `upnext prepare` writes to")
        return cls(Workspace(Path(folder)))

    def __len__(self) -> int:
        """The number of events."""
        return int(self.artifact.manifest["metrics"]["num_events"])

    def __repr__(self) -> str:
        facts = self.artifact.manifest["metrics"]
        return f"<EventLog: {len(self):,} events of {facts['num_users']:,} users and {facts['num_items']:,} items>"

    def audit(self) -> pl.DataFrame:
        """What `prepare` found when it split the log: a row per check, with its level and a sentence."""
        return pl.read_json(self.artifact.folder / "audit.json")


def _roles(columns: Columns, where: str) -> dict[str, Any]:
    """The roles as plain data: a role that the configuration has for files only is refused."""
    if not isinstance(columns, Mapping):
        raise BadConfig(f"{where}: columns is {columns!r}; give the roles, such as {{'user': 'user_id', 'item': 'id'}}")
    known = Columns.__annotations__
    if unknown := [name for name in columns if name not in known]:
        raise BadConfig(f"{where}, columns: unknown key {unknown[0]!r}; allowed here: {', '.join(sorted(known))}")
    return dict(columns)


def temporary_folder(owner: object) -> Path:
    """A folder that goes when its owner goes."""
    folder = Path(tempfile.mkdtemp(prefix="upnext-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
