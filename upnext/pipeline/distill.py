"""Distill: example sets, and what teachers say of them -> a student, small enough to answer at once.

1. make the example sets      2. what the teachers say of them, each of a candidate that it never saw
3. train the student
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets
from upnext.events.log import EventLog
from upnext.events.sources.files import find_files
from upnext.events.sources.letor import LetorSource, read_letor, read_scores
from upnext.events.split import VALIDATION
from upnext.features.aggregates import Aggregate
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting.costs import cost_of
from upnext.fitting.distillation import AnyStudent, DistillConfig, fit_student
from upnext.fitting.folds import FoldsConfig, mean_scores, out_of_fold
from upnext.fitting.live import fit_live
from upnext.fitting.said import read_said, write_said
from upnext.models.build import save_any
from upnext.models.main_model import MainModelConfig
from upnext.pipeline.logged import Logged, logged_of, said_of
from upnext.preparation.example_sets import LogExamples, check_examples, examples_of
from upnext.training.loop import HISTORY, Start

__all__ = ["DistillConfig", "ExamplesConfig", "check", "make_examples", "run", "said_by"]

ExamplesConfig = Annotated[LogExamples | LetorSource, Field(discriminator="kind")]


def make_examples(config: LogExamples | LetorSource, workspace: Workspace, name: str) -> Artifact:
    """Make the example sets that the configuration calls `name`; up to date ones are found, not made again."""
    settings: dict[str, Any] = {"examples": config.model_dump(mode="json")}
    parents = []
    if isinstance(config, LogExamples):
        parents = [workspace.current("log", "log")]
    else:
        files = [file for of in (config.train, config.validation, config.test) for file in find_files(of)]
        settings["files"] = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}

    def write(draft: Draft) -> None:
        try:
            if isinstance(config, LogExamples):
                folder = parents[0].folder
                log, part = EventLog.open(folder / "log"), np.load(folder / "split.npy")
                draft.schema = log.schema.digest()
                tables = Catalogue.load(folder).items.features, People.load(folder).features.columns
                sets = examples_of(config, log, part, *tables)
            else:
                sets = read_letor(config)
        except BadConfig as error:
            raise BadConfig(f"examples.{name}: {error}") from None
        sets.save(draft.folder)
        mixed = np.maximum.reduceat(sets.label, sets.first[:-1]) > np.minimum.reduceat(sets.label, sets.first[:-1])
        draft.metrics |= {"num_sets": len(sets), "num_candidates": len(sets.label), "num_mixed": int(mixed.sum())}

    return workspace.ensure(f"examples-{name}", "examples", settings, parents, write)


def check(config: LogExamples | LetorSource, name: str, log: EventLog) -> None:
    """Check that the log has what examples are to be made of.

    Raises:   BadConfig, BadData: it has not.
    """
    try:
        if isinstance(config, LogExamples):
            check_examples(config, log)
    except BadConfig as error:
        raise BadConfig(f"examples.{name}: {error}") from None


# --- what teachers say -----------------------------------------------------------------------------------------------


def said_by(
    config: DistillConfig, folds: FoldsConfig, workspace: Workspace, name: str, said: Sequence[Artifact], start: Start
) -> Artifact:
    """What a model of [distill] says as a teacher: it is trained once more for each fold, without it.

    Args:     said: what its own teachers say.
    """
    examples = workspace.current(f"examples-{config.examples}", "examples")
    settings = {"teacher": _settings(config), "folds": folds.model_dump(mode="json")}

    def write(draft: Draft) -> None:
        sets, heard, kept = ExampleSets.load(examples.folder), _heard(config, examples, said), draft.keep()
        logged = logged_of(workspace, examples)

        def fit(chosen: NDArray[np.int64], fold: int | None) -> AnyStudent:
            start.tell("all of the training part" if fold is None else f"fold {fold + 1} of {folds.count}")
            numbers = np.union1d(chosen, np.flatnonzero(sets.part == VALIDATION))
            place = sets.candidates_of(numbers)
            some = None if heard is None else FlatColumn(heard.values[place], heard.observed[place])
            folder = kept / ("whole" if fold is None else str(fold))
            folder.mkdir(exist_ok=True)
            begin = replace(start, recipe=f"{kept.name} {fold}")
            return _fitted(config, sets.take(numbers), some, folder, begin, [], logged)

        def say(model: AnyStudent, asked: NDArray[np.int64]) -> NDArray[np.float64]:
            return said_of(model, sets.take(asked), logged)

        write_said(draft, out_of_fold(folds, sets, fit, say))

    pointer = f"said-{name}-{config.examples}-{folds.by}-{folds.count}"
    return workspace.ensure(pointer, "said", settings, [examples, *said], write)


def _fitted(
    config: DistillConfig,
    sets: ExampleSets,
    heard: FlatColumn | None,
    folder: Path,
    start: Start,
    aggregates: list[Aggregate],
    logged: Logged | None,
) -> AnyStudent:
    if isinstance(config.student, MainModelConfig):
        assert logged is not None  # a project in which one reads files is refused
        return logged.fit(config, sets, heard, folder, start)
    return fit_student(config, sets, heard, folder, start, aggregates)


def _heard(config: DistillConfig, examples: Artifact, said: Sequence[Artifact]) -> FlatColumn | None:
    if config.scores:
        return read_scores(config.scores, ExampleSets.load(examples.folder))
    return mean_scores([read_said(one) for one in said]) if said else None


# --- the student -----------------------------------------------------------------------------------------------------


def run(
    config: DistillConfig, workspace: Workspace, name: str, said: Sequence[Artifact], start: Start | None = None
) -> Artifact:
    """Train the student that the configuration calls `name`; an up to date one is found, not trained again.

    Args:     said: what its teachers say of its examples, in their order.
    """
    examples, start = workspace.current(f"examples-{config.examples}", "examples"), start or Start()

    def write(draft: Draft) -> None:
        # 1. the examples, and what is said of them
        sets, heard = ExampleSets.load(examples.folder), _heard(config, examples, said)
        draft.schema = examples.manifest["schema"]
        made_of = examples.manifest["config"]["examples"]
        aggregates = [Aggregate.model_validate(one) for one in made_of.get("aggregates", [])]
        # 2. the student
        folder, started = draft.keep(), time.perf_counter()
        model: AnyStudent
        logged = logged_of(workspace, examples)
        try:
            begin = replace(start, recipe=folder.name)
            if config.live is not None:
                model, teacher = fit_live(config, config.live, sets, folder, begin, aggregates)
                save_any(teacher, draft.folder / "teacher")
            else:
                model = _fitted(config, sets, heard, folder, begin, aggregates, logged)
        except BadConfig as error:
            raise BadConfig(f"distill.{name}: {error}") from None
        save_any(model, draft.folder)
        if (folder / HISTORY).is_file():
            (draft.folder / HISTORY).write_bytes((folder / HISTORY).read_bytes())
        draft.metrics |= {"seconds": time.perf_counter() - started} | cost_of(model)

    parents = [examples, *said]
    if examples.manifest["parents"]:  # what is published and evaluated names the log that it was made from
        parents.insert(0, workspace.current("log", "log"))
    settings: dict[str, Any] = {"model": _settings(config) | {"kind": config.student.kind}}
    del settings["model"]["scores"]  # of a ranker these would be models that it asks
    if config.scores:
        files = find_files(config.scores)
        settings["files"] = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    return workspace.ensure(f"model-{name}", "model", settings, parents, write)


def _settings(config: DistillConfig) -> dict[str, Any]:
    """What makes a difference: not how often a training is saved."""
    settings: dict[str, Any] = config.model_dump(mode="json", exclude={"training": {"checkpoint_every"}})
    return settings
