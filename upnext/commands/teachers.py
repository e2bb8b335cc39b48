"""Rankers of the log as teachers: each says of a candidate what it says when it was trained without its fold.

For each fold the log is taken once more, with the rows that the fold holds out as unused, and the ranker is trained on
it by the same stage. These logs and models are removed when everything is said.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets
from upnext.base.files import link_or_copy
from upnext.base.manifests import MANIFEST
from upnext.base.protocols import Link, Ranker
from upnext.commands.project import Project
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, UNUSED
from upnext.fitting.folds import FoldsConfig, folds_of, out_of_fold
from upnext.fitting.ranking_config import NeuralRankConfig
from upnext.fitting.said import write_said
from upnext.models.build import load_any
from upnext.pipeline import finetune, pretrain, rank
from upnext.pipeline.distill import DistillConfig
from upnext.pipeline.logged import Logged
from upnext.pipeline.told import Scorers, scorers_of
from upnext.preparation.example_sets import LogExamples

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
    config, needed = project.examples[to.examples], _needed(project, teacher)
    assert isinstance(config, LogExamples)  # a project in which a ranker teaches others is refused

    def write(draft: Draft) -> None:
        sets, made, logged = ExampleSets.load(examples.folder), list[Artifact](), Logged.of(log, config)

        def fit(_: Ints, fold: int | None) -> _Teacher:
            if fold is None:
                return _Teacher.opened(teacher, workspace, log, logged)
            tell(f"{teacher} as a teacher", f"fold {fold + 1} of {folds.count}")
            with tempfile.TemporaryDirectory() as folder:
                view = workspace.view(Path(folder) / "current")
                made.append(_without_fold(view, log, sets, folds, fold))
                made.extend(_trained(project, view, needed, partial(_tell_fold, tell, fold)))
                return _Teacher.opened(teacher, view, made[-len(needed) - 1], logged)

        def say(model: _Teacher, asked: Ints) -> NDArray[np.float64]:
            return logged.scores(model.ranker, sets.take(asked), teacher, model.scorers)

        said = out_of_fold(folds, sets, fit, say)
        model = _Teacher.opened(teacher, workspace, log, logged).ranker
        write_said(draft, said, model.components[logged.component(model)] is Link.SIGMOID)
        for artifact in made:  # the folds' logs and models: nothing needs them any more
            if artifact.folder.is_dir():
                workspace.erase(artifact.folder)

    settings = {"folds": folds.model_dump(mode="json")}
    pointer = f"said-{teacher}-{to.examples}-{folds.by}-{folds.count}"
    return workspace.ensure(pointer, "said", settings, [examples, whole], write)


@dataclass(frozen=True)
class _Teacher:
    """A ranker, and the models that it asks."""

    ranker: Ranker
    scorers: Scorers

    @classmethod
    def opened(cls, name: str, workspace: Workspace, log: Artifact, logged: Logged) -> "_Teacher":
        """Load the one of a name that was trained on a log.

        Raises:   BadConfig: it foresees nothing.
        """
        artifact = workspace.current(f"model-{name}", "model", log)
        model = load_any(artifact.folder, logged.items)
        if not isinstance(model, Ranker):
            raise BadConfig(f"the teacher {name!r} foresees nothing; name a ranker, or an ARGUS with feedback")
        asked = scorers_of(workspace, log, {name: artifact})
        return cls(model, Scorers.among({name: artifact}, asked, logged.log, logged.items))


def _tell_fold(tell: Callable[[str, str], None], fold: int, name: str, message: str) -> None:
    tell(f"{name}, fold {fold + 1}", message)


def _trained(
    project: Project, view: Workspace, names: Sequence[str], tell: Callable[[str, str], None]
) -> Iterator[Artifact]:
    """Models trained on the log of a workspace, one after the other."""
    for name in names:
        heard = partial(tell, name)
        if name in project.rank:
            yield rank.run(project.rank[name], view, name, resume=True, tell=heard)
        elif name in project.finetune:
            towers = project.finetune[name]
            yield finetune.run(towers, project.encoder_of(towers), view, name, resume=True, tell=heard)
        else:
            yield pretrain.run(project.pretrain[name], view, name, resume=True, tell=heard)


def _needed(project: Project, name: str) -> list[str]:
    """A model, after all that it asks or that finds its candidates, and those whose weights it begins with."""
    before: list[str] = []
    if name in project.rank:
        config = project.rank[name]
        start = config.start if isinstance(config, NeuralRankConfig) else None
        before = [*config.scorers, *config.finders, *([] if start is None else [start])]
    elif name in project.finetune:
        before = [project.finetune[name].start]
    return list(dict.fromkeys([one for other in before for one in _needed(project, other)] + [name]))


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
