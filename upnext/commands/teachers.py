"""Rankers of the log as teachers: each says of a candidate what it says when it was trained without its fold.

For each fold the log is taken once more, with the rows that the fold holds out as unused, and the ranker is trained on
it by the same stage. These logs and models are removed when everything is said.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets
from upnext.base.files import link_or_copy
from upnext.base.manifests import MANIFEST
from upnext.base.protocols import Link, Ranker
from upnext.commands.project import Project
from upnext.evaluation.feedback import predict_feedback
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, UNUSED
from upnext.features.aggregates import ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting.folds import FoldsConfig, folds_of, out_of_fold
from upnext.fitting.ranking_config import NeuralRankConfig
from upnext.fitting.said import write_said
from upnext.models.build import load_any
from upnext.pipeline import pretrain, rank
from upnext.pipeline.distill import DistillConfig
from upnext.preparation.candidate_features import candidate_features
from upnext.preparation.example_sets import LogExamples, known_at

__all__ = ["said_by_ranker"]

Ints = NDArray[np.int64]


def said_by_ranker(project: Project, tell: Callable[[str, str], None], teacher: str, to: DistillConfig) -> Artifact:
    """What a model of [rank] or [pretrain] says of a student's examples.

    Raises:   BadConfig: it does not foresee what the examples' label is of, and orders nothing either.
    """
    workspace, folds = project.opened(), to.folds
    log = workspace.current("log", "log")
    examples, whole = (
        workspace.current(f"examples-{to.examples}", "examples", log),
        workspace.current(f"model-{teacher}", "model", log),
    )
    config = project.examples[to.examples]
    assert isinstance(config, LogExamples)  # a project in which a ranker teaches others is refused

    def write(draft: Draft) -> None:
        sets, made = ExampleSets.load(examples.folder), list[Artifact]()

        def fit(_: Ints, fold: int | None) -> Artifact:
            if fold is None:
                return whole
            tell(f"{teacher} as a teacher", f"fold {fold + 1} of {folds.count}")
            made.extend(_trained_without(project, workspace, log, sets, folds, fold, teacher, tell))
            return made[-1]

        asking = _Asking(log, config, sets, to)
        said = out_of_fold(folds, sets, fit, asking.scores)
        write_said(draft, said, asking.are_logits(whole))
        for artifact in made:  # the fold's log and models: nothing needs them any more
            if artifact.folder.is_dir():
                workspace.erase(artifact.folder)

    settings = {"folds": folds.model_dump(mode="json")}
    pointer = f"said-{teacher}-{to.examples}-{folds.by}-{folds.count}"
    return workspace.ensure(pointer, "said", settings, [examples, whole], write)


class _Asking:
    """Asks a ranker about the candidates of example sets, as of when their sets were shown."""

    def __init__(self, log: Artifact, config: LogExamples, sets: ExampleSets, to: DistillConfig) -> None:
        self.log, self.config, self.sets, self.to = EventLog.open(log.folder / "log"), config, sets, to
        self.items, self.people = Catalogue.load(log.folder).items, People.load(log.folder).features.columns

    def component(self, model: Ranker) -> str:
        """Of what a teacher puts out, what it says of the label."""
        components, target = model.components, self.config.target
        orders = [name for name, link in components.items() if link is Link.ORDER_ONLY]
        if target in components:
            return target
        if orders:
            return orders[0]
        raise BadConfig(
            f"a teacher of {self.to.examples!r} has to foresee {target!r}, or to order; this one foresees"
            f" {sorted(components)}"
        )

    def are_logits(self, artifact: Artifact) -> bool:
        """Whether its scores are of a probability."""
        model = self._loaded(artifact)
        return model.components[self.component(model)] is Link.SIGMOID

    def scores(self, artifact: Artifact, asked: Ints) -> NDArray[np.float64]:
        """(n,) raw scores of the candidates of some sets, set by set."""
        model, log = self._loaded(artifact), self.log
        rows = self.sets.row[self.sets.candidates_of(asked)]
        order = np.argsort(rows, kind="stable")
        rising = rows[order]
        moments = known_at(self.config, log, rising)
        features: dict[str, FlatColumn] = {}
        if isinstance(model, ReadsColumns):
            tables = self.items.features, self.people
            features = candidate_features(model.aggregates, log, rising, *tables, moments)
        name = self.component(model)
        expected = predict_feedback(model, log, rising, features, known_at=moments, users=self.people)[name]
        if model.components[name] is Link.SIGMOID:
            expected = np.clip(expected, 1e-7, 1 - 1e-7)
            expected = np.log(expected) - np.log1p(-expected)
        scores = np.empty(len(rows))
        scores[order] = expected
        return scores

    def _loaded(self, artifact: Artifact) -> Ranker:
        model = load_any(artifact.folder, self.items)
        if not isinstance(model, Ranker):
            raise BadConfig(f"the teacher {artifact.name!r} foresees nothing; name a ranker, or an ARGUS with feedback")
        return model


def _trained_without(
    project: Project,
    workspace: Workspace,
    log: Artifact,
    sets: ExampleSets,
    folds: FoldsConfig,
    fold: int,
    teacher: str,
    tell: Callable[[str, str], None],
) -> list[Artifact]:
    """The log without a fold, and the models trained on it, the teacher last."""
    with tempfile.TemporaryDirectory() as folder:
        view = workspace.view(Path(folder) / "current")
        made = [_without_fold(view, log, sets, folds, fold)]
        for name in _needed(project, teacher):
            heard = partial(tell, f"{name}, fold {fold + 1}")
            if name in project.rank:
                made.append(rank.run(project.rank[name], view, name, resume=True, tell=heard))
            else:
                made.append(pretrain.run(project.pretrain[name], view, name, resume=True, tell=heard))
    return made


def _needed(project: Project, teacher: str) -> list[str]:
    """The teacher, after the rankers whose weights it begins with."""
    config = project.rank.get(teacher)
    start = config.start if isinstance(config, NeuralRankConfig) else None
    return [*([] if start is None else _needed(project, start)), teacher]


def _without_fold(view: Workspace, log: Artifact, sets: ExampleSets, folds: FoldsConfig, fold: int) -> Artifact:
    """The same log, of which the fold's rows are not trained on."""
    numbers = folds_of(folds, sets)

    def write(draft: Draft) -> None:
        part = np.load(log.folder / "split.npy").copy()
        events = EventLog.open(log.folder / "log")
        held = np.flatnonzero(numbers >= fold if folds.by == "time" else numbers == fold)
        if folds.by == "owner":
            out = np.isin(events.rows.user, sets.owner[held])
        elif folds.by == "time":
            assert sets.time_ms is not None
            out = events.rows.time_ms >= sets.time_ms[held].min()
        else:
            out = np.isin(events.groups, events.groups[sets.row[sets.candidates_of(held)]])
        part[out & (part == TRAIN)] = UNUSED
        for path in log.folder.rglob("*"):
            target = draft.folder / path.relative_to(log.folder)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            elif path.name not in (MANIFEST, "split.npy"):
                link_or_copy(path, target)
        np.save(draft.folder / "split.npy", part)
        draft.metrics |= log.manifest["metrics"]
        draft.schema = log.manifest["schema"]

    settings = log.manifest["config"] | {"without": {"fold": fold} | folds.model_dump(mode="json")}
    return view.ensure("log", "log", settings, [log], write)
