"""The Python face: the path of the command line, with frames in place of files and objects in place of TOML tables.

    log = upnext.EventLog.from_frame(events, {"user": "user_id", "item": "item_id", "time": "time"})
    model = upnext.SASRec(width=64).fit(log)
    model.recommend(["u00018", "u00042"], k=10)

Nothing is computed here: every method calls the stage of the same name, which leaves the same artifacts as `upnext
run`. Without a folder of its own a log keeps them in a temporary one, which goes when the objects go.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Required, Self, TypedDict, TypeVar

import numpy as np
import polars as pl

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import Config, parse_config
from upnext.base.errors import BadArtifact, BadConfig, BadRequest, UserError
from upnext.base.ids import ExternalId
from upnext.base.views import ALL
from upnext.commands.table import recommendations
from upnext.events import log as log_on_disk
from upnext.events.sources import TableSource, as_frame
from upnext.events.split import GlobalTime, LeaveLastOut
from upnext.models.popularity import PopularConfig, RecentlyPopularConfig
from upnext.models.sasrec import SASRecConfig
from upnext.pipeline import evaluate, prepare, pretrain, publish
from upnext.pipeline.evaluate import EvaluateConfig
from upnext.pipeline.prepare import PrepareConfig
from upnext.pipeline.pretrain import PretrainConfig
from upnext.serving.intake import check_user
from upnext.serving.release import Release, ReleaseSettings
from upnext.store.embedded import LmdbStore
from upnext.training.loop import TrainingConfig

__all__ = ["Columns", "Estimator", "EventLog", "Popular", "RecentlyPopular", "Recommender", "SASRec", "load"]

Settings = Mapping[str, Any]
"""Keys of a table of the configuration, with their values; docs/configuration.md lists them."""

_METRICS: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "history_removed": pl.Boolean,
    "metric": pl.String,
    "k": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "cases": pl.Int64,
    "users": pl.Int64,
}


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
        self.workspace = workspace.view(_temporary_folder(self) / "current")
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


class Recommender:
    """A release, opened: it recommends what a server of that release would. `load` makes one.

    Args:     folder: the release; live: the store of events that were posted since, if there is one.
    Raises:   BadArtifact: the folder holds no release, or a file of it was changed.
    """

    def __init__(self, folder: Path, live: Path | None = None) -> None:
        release = Release.load(folder)
        release.histories.close()  # opened anew for each answer: a process may open a store only once
        self._release, self._folder, self._live = release, folder, live

    def __repr__(self) -> str:
        return (
            f"<Recommender: {self._release.settings.retriever}, {len(self._release.catalogue.vocabulary.ids):,} items>"
        )

    def recommend(self, users: Iterable[ExternalId], k: int = 10) -> pl.DataFrame:
        """Recommend items to users, from what each did up to now: the row *For you* of their page.

        Args:     users: ids as the log has them, integers or text: a list, a Polars column, a NumPy array.
                  k: the most items for each; fewer where no more may be shown.
        Returns:  `user_id`, `rank` (from 1), `item_id`, `title` (if the log has titles), `score` and `is_known`; users
                  in the order asked, each best first. `is_known` is false for a user of whom nothing is known yet:
                  the rows are then what the model expects of a new visitor. Without users, a frame without rows.
        Raises:   BadRequest: an id of another type than the log's, or a `k` below 1.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise BadRequest(f"k is {k!r}; allowed: a whole number from 1")
        ids = _user_ids(users, self._release.users.is_integer)
        store = LmdbStore(self._folder / "histories", is_read_only=True)
        try:
            return recommendations(replace(self._release, histories=store), self._live, ids, int(k))
        finally:
            store.close()


def load(folder: str | os.PathLike[str]) -> Recommender:
    """Open a saved model, a release, or the current release of a workspace.

    Args:     folder: what `save` or `upnext publish` wrote, or a workspace such as `runs/demo`, whose posted events
              then count too.
    Returns:  what recommends.
    Raises:   BadArtifact: there is no release, or a file of it was changed.
    """
    root = Path(folder)
    if (root / "current").is_dir():
        return Recommender(Workspace(root).current("release", "release", verify=False).folder, root / "live")
    return Recommender(root)


class Estimator:
    """What the models have in common; make a `SASRec`, a `Popular` or a `RecentlyPopular`.

    Args:     publish: how a model is released: the keys of `[publish]`, such as `{"hide": "dislike == 1"}` or
              `{"exclude_history": False}`; `retriever` is the model itself.
    """

    def __init__(self, config: PretrainConfig, publish: Settings | None) -> None:
        self.config = config
        self._where = type(self).__name__
        self._name = config.model.kind.replace("_", "-")
        where = f"{self._where}, publish"
        if unknown := {"retriever", "popular"} & set(publish or {}):
            raise BadConfig(f"{where}: {min(unknown)!r} names a second model; leave it out, or use a TOML file")
        self._release = parse_config(ReleaseSettings, {"retriever": self._name} | dict(publish or {}), where)
        self._fitted: tuple[EventLog, Workspace, Artifact] | None = None
        self._recommender: Recommender | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"fitted on {self._fitted[0]!r}"
        return f"<{self._where}: {state}>"

    def fit(self, log: EventLog) -> Self:
        """Train or count the model on the training part of a log; one that the log's folder holds is found instead.

        Returns:  the model itself, fitted.
        Raises:   BadConfig, BadData: the log lacks what the model or its release reads, such as a view or times.
        """
        if not isinstance(log, EventLog):
            raise BadConfig(f"fit({type(log).__name__}): give an upnext.EventLog; EventLog.from_frame makes one")
        publish.check(self._release, log_on_disk.EventLog.open(log.artifact.folder / "log"))  # before the training
        workspace = log.workspace.view(_temporary_folder(self) / "current")
        artifact = pretrain.run(self.config, workspace, self._name)
        self._fitted, self._recommender = (log, workspace, artifact), None
        return self

    @property
    def artifact(self) -> Artifact:
        """The fitted model's folder, with its weights, and its manifest, with what training found."""
        return self._require("artifact")[2]

    def recommend(self, users: Iterable[ExternalId], k: int = 10) -> pl.DataFrame:
        """Recommend items to users; as `Recommender.recommend`.

        Raises:   UserError: the model is not fitted.
        """
        if self._recommender is None:
            self._recommender = Recommender(self._publish("recommend").folder)
        return self._recommender.recommend(users, k)

    def evaluate(
        self, log: EventLog | None = None, *, protocol: Settings | EvaluateConfig | None = None
    ) -> pl.DataFrame:
        """Rank the whole catalogue at every test moment of the log that the model was fitted on.

        Args:     log: that log, if you like to name it. protocol: the keys of `[evaluate]`; unset, its defaults.
        Returns:  a row per figure: `model`, `history_removed`, `metric`, `k`, `value`, `low` and `high` (a 95 %
                  interval, null where there is none), `cases`, `users`. The guide defines the metrics.
        Raises:   UserError: the model is not fitted, or was fitted on another log.
        """
        fitted, workspace, _ = self._require("evaluate")
        if log is not None and log.artifact.name != fitted.artifact.name:
            raise UserError(
                f"{self._where} was fitted on another log, whose items have other numbers; fit it on this one"
            )
        config = _parsed(EvaluateConfig, protocol, f"{self._where}.evaluate, protocol")
        report = evaluate.run(config, workspace, [self._name])
        return pl.read_json(report.folder / "metrics.json", schema=_METRICS)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write all that recommending needs into one folder: the model, the catalogue and every user's history.

        Args:     folder: new, or one that `save` wrote, which is replaced.
        Returns:  the folder, for `load`.
        Raises:   UserError: the model is not fitted. BadArtifact: the folder holds something else.
        """
        self._publish("save").copy_to(Path(folder))
        return Path(folder)

    def _publish(self, asked: str) -> Artifact:
        return publish.run(self._release, self._require(asked)[1])

    def _require(self, asked: str) -> tuple[EventLog, Workspace, Artifact]:
        if self._fitted is None:
            raise UserError(f"{self._where}.{asked}: the model is not fitted; call fit(log) first")
        return self._fitted


class SASRec(Estimator):
    """A causal transformer over item histories that predicts the next item.

    Args:     view, width, layers, heads, feed_forward, max_length, dropout: the keys of `[pretrain.NAME.model]`.
              training: the keys of `[pretrain.NAME.training]`, such as `{"epochs": 5, "seed": 1}`.
              loss: the keys of `[pretrain.NAME.loss]`, such as `{"kind": "sampled", "num_drawn": 4096}`.
              validation_cases: how many validation cases early stopping looks at.
              publish: how it is released, as for `Estimator`.
    Raises:   BadConfig: the key, the value, what is allowed.
    Source:   Kang and McAuley 2018; docs/how-it-works.md says what differs.
    """

    def __init__(
        self,
        *,
        view: str = ALL,
        width: int = 64,
        layers: int = 2,
        heads: int = 1,
        feed_forward: int = 4,
        max_length: int = 100,
        dropout: float = 0.2,
        training: Settings | TrainingConfig | None = None,
        loss: Settings | None = None,
        validation_cases: int = 2000,
        publish: Settings | None = None,
    ) -> None:
        keys = {"view": view, "width": width, "layers": layers, "heads": heads}
        keys |= {"feed_forward": feed_forward, "max_length": max_length, "dropout": dropout}
        model = parse_config(SASRecConfig, keys, "SASRec")
        schedule = _parsed(TrainingConfig, training, "SASRec, training")
        rest = {"training": schedule, "validation_cases": validation_cases} | ({"loss": dict(loss)} if loss else {})
        super().__init__(parse_config(PretrainConfig, {"model": model} | rest, "SASRec"), publish)


class Popular(Estimator):
    """Ranks items by their number of training events: what a model has to beat.

    Args:     view: the events it counts. publish: how it is released, as for `Estimator`.
    """

    def __init__(self, *, view: str = ALL, publish: Settings | None = None) -> None:
        super().__init__(PretrainConfig(model=parse_config(PopularConfig, {"view": view}, "Popular")), publish)


class RecentlyPopular(Estimator):
    """Ranks items by their number of events in the last hours before the request.

    Args:     view: the events it counts. window: how far back, as "24h" or in milliseconds.
              publish: how it is released, as for `Estimator`.
    """

    def __init__(self, *, view: str = ALL, window: str | int = "24h", publish: Settings | None = None) -> None:
        model = parse_config(RecentlyPopularConfig, {"view": view, "window": window}, "RecentlyPopular")
        super().__init__(PretrainConfig(model=model), publish)


AnyConfig = TypeVar("AnyConfig", bound=Config)


def _parsed(kind: type[AnyConfig], settings: Settings | Config | None, where: str) -> AnyConfig:
    if settings is None or isinstance(settings, kind):
        return kind() if settings is None else settings
    return parse_config(kind, dict(settings) if isinstance(settings, Mapping) else settings, where)


def _roles(columns: Columns, where: str) -> dict[str, Any]:
    """The roles as plain data: a role that the configuration has for files only is refused."""
    if not isinstance(columns, Mapping):
        raise BadConfig(f"{where}: columns is {columns!r}; give the roles, such as {{'user': 'user_id', 'item': 'id'}}")
    known = Columns.__annotations__
    if unknown := [name for name in columns if name not in known]:
        raise BadConfig(f"{where}, columns: unknown key {unknown[0]!r}; allowed here: {', '.join(sorted(known))}")
    return dict(columns)


def _user_ids(users: Iterable[ExternalId], is_integer: bool) -> list[ExternalId]:
    """Ids from outside as Python's own, all of the log's type."""
    if isinstance(users, str | int):
        raise BadRequest(f"users is {users!r}; give a list of ids: [{users!r}]")
    wanted, called = (int, "integers") if is_integer else (str, "text")
    ids: list[ExternalId] = []
    for number, user in enumerate(users):
        plain: Any = user.item() if isinstance(user, np.generic) else user
        if not isinstance(plain, wanted) or isinstance(plain, bool):
            raise BadRequest(f"users[{number}] is {plain!r}; allowed: {called}, as the log's user ids are")
        ids.append(check_user(plain, f"users[{number}]"))
    return ids


def _temporary_folder(owner: object) -> Path:
    """A folder that goes when its owner goes."""
    folder = Path(tempfile.mkdtemp(prefix="upnext-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
