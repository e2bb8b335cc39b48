"""Example sets of a log: what models are told of the candidates that read more than the sets hold, and what they say.

Shape letters: I candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.batches import Column, FlatColumn, ItemTable
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets
from upnext.base.protocols import Link, Ranker
from upnext.evaluation.feedback import predict_feedback
from upnext.events.log import EventLog
from upnext.events.split import VALIDATION
from upnext.features.aggregates import Aggregate, ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting import ranking
from upnext.fitting.calibration import scale_and_shift
from upnext.fitting.distillation import AnyStudent, DistillConfig, scores_of
from upnext.fitting.main_student import fit_main
from upnext.fitting.ranking import RankPlan, ToldOf
from upnext.fitting.ranking_config import MainRankConfig
from upnext.models.main_model import MainModel, MainModelConfig
from upnext.pipeline.told import Scorers, Told
from upnext.preparation.example_sets import LogExamples, known_at
from upnext.training.loop import Start

__all__ = ["Logged", "logged_of", "said_of"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Logged:
    """The log that example sets are of."""

    folder: Path
    config: LogExamples
    log: EventLog
    items: ItemTable
    users: Mapping[str, Column]

    @classmethod
    def of(cls, artifact: Artifact, config: LogExamples) -> "Logged":
        """Open the log of an artifact."""
        log, items = EventLog.open(artifact.folder / "log"), Catalogue.load(artifact.folder).items
        return cls(artifact.folder, config, log, items, People.load(artifact.folder).features.columns)

    def fit(
        self, config: DistillConfig, sets: ExampleSets, teacher: FlatColumn | None, folder: Path, start: Start
    ) -> MainModel:
        """Train a main model as a student of some of the sets, as `fit_student` trains others."""
        model = fit_main(config, self.plan(config, sets), sets, teacher, folder, start)
        if config.is_calibrated and model.components[self.component(model)] is Link.SIGMOID:
            held = sets.take(np.flatnonzero(sets.part == VALIDATION))
            model.rescale(*scale_and_shift(self.scores(model, held), held.is_positive))
        return model

    def plan(self, config: DistillConfig, sets: ExampleSets) -> RankPlan:
        """The training of a main model as a ranker of some of the sets: what it reads of them."""
        shape = config.student
        assert isinstance(shape, MainModelConfig)

        def told(which: int) -> ToldOf:
            rows = np.sort(sets.row[np.repeat(sets.part, sets.sizes) == which])
            return ToldOf(rows, self._told(rows, "", shape.aggregates))

        ranker, part = self.ranker(config, shape), np.load(self.folder / "split.npy")
        return ranking.plan(ranker, self.folder, self.log, part, self.users, told)

    def ranker(self, config: DistillConfig, shape: MainModelConfig) -> MainRankConfig:
        """The ranker that a main model is as a student, its losses aside.

        Raises:   BadConfig: it reads what the examples' moments do not tell.
        """
        told = {"objective": "listwise", "utility": self.config.utility}
        if self.config.label is not None:
            told = {"feedback": [self.config.label]}
        told |= {name: getattr(self.config, name) for name in ("view", "window", "most_candidates")}
        told |= {"model": shape.model_dump(), "training": config.training.model_dump()}
        return parse_config(MainRankConfig, told, "student")

    def scores(
        self, model: Ranker, sets: ExampleSets, name: str = "", scorers: Scorers | None = None
    ) -> NDArray[np.float64]:
        """(I,) what a model of the log says of candidates, raw, as of when their sets were shown.

        Args:     name: by which `scorers` know what it asks, if it asks any.
        """
        order = np.argsort(sets.row, kind="stable")
        rows, component = sets.row[order], self.component(model)
        features = self._told(rows, name, model.aggregates, scorers) if isinstance(model, ReadsColumns) else {}
        moments = known_at(self.config, self.log, rows)
        said = predict_feedback(model, self.log, rows, features, known_at=moments, users=self.users)[component]
        if model.components[component] is Link.SIGMOID:
            said = np.clip(said, 1e-7, 1 - 1e-7)
            said = np.log(said) - np.log1p(-said)
        scores = np.empty(len(rows))
        scores[order] = said
        return scores

    def component(self, model: Ranker) -> str:
        """Of what a model puts out, what it says of the label.

        Raises:   BadConfig: it does not foresee it, and orders nothing either.
        """
        components, target = model.components, self.config.target
        orders = [name for name, link in components.items() if link is Link.ORDER_ONLY]
        if target in components:
            return target
        if orders:
            return orders[0]
        raise BadConfig(
            f"a teacher of these examples has to foresee {target!r}, or to order; this one foresees"
            f" {sorted(components)}"
        )

    def _told(
        self, rows: Ints, name: str, aggregates: Sequence[Aggregate], scorers: Scorers | None = None
    ) -> dict[str, FlatColumn]:
        """What is told of events (I,), rising, as candidates."""
        scorers = scorers or Scorers({}, {}, self.log, self.items)
        moments = known_at(self.config, self.log, rows)
        return Told.of_rows(self.log, rows, self.items, self.users, scorers, moments).to(name, aggregates)


def logged_of(workspace: Workspace, examples: Artifact) -> Logged | None:
    """The log of example sets; None where they are of files."""
    made_of = examples.manifest["config"]["examples"]
    if not examples.manifest["parents"]:
        return None
    return Logged.of(workspace.current("log", "log"), LogExamples.model_validate(made_of))


def said_of(model: AnyStudent, sets: ExampleSets, logged: Logged | None) -> NDArray[np.float64]:
    """(I,) what any student says of the candidates of example sets, raw."""
    if isinstance(model, MainModel):
        assert logged is not None  # there is none over files
        return logged.scores(model, sets)
    return scores_of(model, sets)
