"""Models from Python: made, fitted on a log, and asked."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import polars as pl

from upnext.api.log import EventLog, Settings, temporary_folder
from upnext.api.recommender import Recommender
from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import Config, parse_config
from upnext.base.errors import BadConfig, UserError
from upnext.base.ids import ExternalId
from upnext.base.views import ALL
from upnext.events import log as log_on_disk
from upnext.models.argus import ARGUSConfig
from upnext.models.popularity import PopularConfig, RecentlyPopularConfig
from upnext.models.sasrec import SASRecConfig
from upnext.pipeline import evaluate, pretrain, publish
from upnext.pipeline.evaluate import EvaluateConfig
from upnext.pipeline.pretrain import PretrainConfig
from upnext.serving.release import ReleaseSettings
from upnext.training.loop import TrainingConfig

__all__ = ["ARGUS", "Estimator", "Popular", "RecentlyPopular", "SASRec"]

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
_FEEDBACK: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "feedback": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


class Estimator:
    """What the models have in common; make a `SASRec`, an `ARGUS`, a `Popular` or a
    `RecentlyPopular`.

    Args:     publish: how a model is released: the keys of `[publish]`, such as `{"hide": "dislike == 1"}` or
              `{"exclude_history": False}`; `retriever` is the model itself.
    """

    def __init__(self, config: PretrainConfig, publish: Settings | None) -> None:
        self.config = config
        self._where = type(self).__name__
        self._name = config.model.kind.replace("_", "-")
        where = f"{self._where}, publish"
        for key, model in (publish or {}).items():
            if key in ("retriever", "popular") or (key == "ranker" and model != self._name):
                raise BadConfig(f"{where}: {key!r} names a second model; leave it out, or use a TOML file")
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
        workspace = log.workspace.view(temporary_folder(self) / "current")
        artifact = pretrain.run(self.config, workspace, self._name)
        self._fitted, self._recommender = (log, workspace, artifact), None
        return self

    @property
    def artifact(self) -> Artifact:
        """The fitted model's folder, with its weights, and its manifest, with what training found."""
        return self._require("artifact")[2]

    def recommend(
        self,
        users: Iterable[ExternalId],
        k: int = 10,
        *,
        context: Mapping[str, str | float] | None = None,
        unfamiliar: bool = False,
    ) -> pl.DataFrame:
        """Recommend items to users; as `Recommender.recommend`.

        Raises:   UserError: the model is not fitted.
        """
        if self._recommender is None:
            self._recommender = Recommender(self._publish("recommend").folder)
        return self._recommender.recommend(users, k, context=context, unfamiliar=unfamiliar)

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


class ARGUS(Estimator):
    """A transformer over all that a user did, with context and feedback: what comes next, and what will come of it.

    Args:     view, contexts, form, target_attention, size, width, layers, heads, max_length, dropout, embeddings: the
              keys of `[pretrain.NAME.model]`; a `size` sets width, layers and heads.
              recent: what was chosen lately as a prior, such as `{"window": "1h"}`; unset, there is none.
              tasks: the keys of `[pretrain.NAME.tasks]`, such as `{"feedback": {"like": {"weight": 2.0}}}`.
              training, loss, validation_cases: as for `SASRec`.
              publish: how it is released, as for `Estimator`; `{"ranker": "argus", "utility": {"like": 1.0}}` puts the
              items it retrieves in the order of what it expects to come of them.
    Raises:   BadConfig: the key, the value, what is allowed.
    Source:   Khrylchenko et al. 2025; docs/how-it-works.md says what differs.
    """

    def __init__(
        self,
        *,
        view: str = ALL,
        contexts: Sequence[str] | None = None,
        form: Literal["simplified", "full"] = "simplified",
        target_attention: bool = False,
        size: Literal["mini", "small", "medium", "large"] | None = None,
        width: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        max_length: int = 256,
        dropout: float = 0.1,
        embeddings: Settings | None = None,
        recent: Settings | None = None,
        tasks: Settings | None = None,
        training: Settings | TrainingConfig | None = None,
        loss: Settings | None = None,
        validation_cases: int = 2000,
        publish: Settings | None = None,
    ) -> None:
        given = {"size": size, "width": width, "layers": layers, "heads": heads, "embeddings": embeddings}
        given["recent"] = None if recent is None else dict(recent)
        keys: dict[str, Any] = {"view": view, "form": form, "max_length": max_length, "dropout": dropout}
        keys["target_attention"] = target_attention
        keys |= {name: value for name, value in given.items() if value is not None}
        keys |= {} if contexts is None else {"contexts": list(contexts)}
        model = parse_config(ARGUSConfig, keys, "ARGUS")
        tables = {"tasks": tasks, "loss": loss}
        rest: dict[str, Any] = {name: dict(table) for name, table in tables.items() if table is not None}
        rest |= {"training": _parsed(TrainingConfig, training, "ARGUS, training"), "validation_cases": validation_cases}
        super().__init__(parse_config(PretrainConfig, {"model": model} | rest, "ARGUS"), publish)

    def evaluate_feedback(self) -> pl.DataFrame:
        """How well it foresees the feedback of every test event, beside the mean of all and of each item.

        Returns:  a row per figure: `model`, `feedback`, `metric`, `value`, `low` and `high` (a 95 % interval). The
                  guide defines the metrics.
        Raises:   UserError: the model is not fitted.
        """
        _, workspace, _ = self._require("evaluate_feedback")
        report = evaluate.run(EvaluateConfig(), workspace, [self._name])
        return pl.read_json(report.folder / "feedback.json", schema=_FEEDBACK)


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
