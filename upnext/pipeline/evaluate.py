"""Evaluate: models -> report. The whole catalogue is ranked at every test moment, as the server would."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadConfig
from upnext.base.protocols import Retriever
from upnext.base.views import ALL
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.insights import Evaluated, find_insights
from upnext.evaluation.next_item import NextItemLosses
from upnext.evaluation.protocol import Protocol, sentences
from upnext.evaluation.quality import Trial
from upnext.evaluation.ranking import Histories
from upnext.evaluation.render import write_report
from upnext.evaluation.report import IMPORTANCE, Report, versions, write_figures
from upnext.evaluation.utility import UTILITY
from upnext.events.impressions import Impressions
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.models.build import RANKERS, load_any
from upnext.pipeline.evaluate_config import EvaluateConfig
from upnext.pipeline.pairs import Together
from upnext.pipeline.subjects import Shown, model_scores, names_of, oracle_scores
from upnext.pipeline.told import Scorers, scorers_of

__all__ = ["EvaluateConfig", "check", "run"]


def run(config: EvaluateConfig, workspace: Workspace, names: Sequence[str]) -> Artifact:
    """Evaluate models by name, side by side; an up to date report is found, not computed again."""
    log = workspace.current("log", "log")
    if config.history == "frozen" and log.manifest["metrics"]["split"]["kind"] != "global_time":
        raise BadConfig('evaluate.history = "frozen" needs a split by time; leave-last-out has one target per user')
    models = {name: workspace.current(f"model-{name}", "model", log) for name in names}
    config = config.model_copy(update={"view": config.view or _common_view(models)})
    simulation = [workspace.named(name) for name in log.manifest["parents"] if name.startswith("simulation-")]
    if log.manifest["config"]["posted"]:  # the truth is of what was simulated; of what people did it knows nothing
        simulation = []
    asked = scorers_of(workspace, log, models)
    parents = [log, *models.values(), *(one for name, one in asked.items() if name not in models), *simulation]
    settings = config.model_dump(mode="json") | {"models": list(names)}
    write = partial(_evaluate, config, log, models, asked, simulation, workspace.root.name)
    return workspace.ensure("report", "report", settings, parents, write)


def _common_view(models: Mapping[str, Artifact]) -> str:
    all_settings = {name: _settings(artifact) for name, artifact in models.items()}
    of = {name: settings.get("encoder", settings) for name, settings in all_settings.items()}  # two towers have one
    views = {name: str(settings["view"]) for name, settings in of.items() if settings["kind"] not in RANKERS}
    if len(set(views.values())) != 1:
        raise BadConfig(f"the models read different views, {views}: say with evaluate.view which events to predict")
    return next(iter(views.values()))


def _evaluate(
    config: EvaluateConfig,
    artifact: Artifact,
    models: Mapping[str, Artifact],
    asked: Mapping[str, Artifact],
    simulation: Sequence[Artifact],
    title: str,
    draft: Draft,
) -> None:
    log, part = EventLog.open(artifact.folder / "log"), np.load(artifact.folder / "split.npy")
    facts, view = artifact.manifest["metrics"], config.view or ALL
    V, split = int(facts["num_dense_items"]), facts["split"]
    by_time, rolls = split["kind"] == "global_time", config.history == "rolling"
    draft.schema, samples = log.schema.digest(), config.bootstrap_samples
    only, cases = config.unfamiliar, _cases(config, log, part)
    removed = only or ((not by_time) if config.remove_history is None else config.remove_history)
    histories = Histories(log, view)
    met = Histories(log, ALL) if only else histories
    treatments = (removed, not removed) if not only and histories.repeat_in(part == TEST) else (removed,)
    trained = np.bincount(histories.events.item[part[histories.rows] == TRAIN], minlength=V)

    known, items = People.load(artifact.folder).features.columns, Catalogue.load(artifact.folder).items
    loaded = {name: load_any(model.folder, items) for name, model in models.items()}
    scorers = Scorers.among(models, asked, log, items)
    subjects = {n: model_scores(m, log, cases, V, known) for n, m in loaded.items() if isinstance(m, Retriever)}
    if simulation:
        subjects["oracle"] = oracle_scores(simulation[0], artifact, log, cases, V), 1
    costs = {name: dict(model.manifest["metrics"]) for name, model in models.items()}
    next_item = NextItemLosses(cases, trained)
    rows, primary = Trial(cases, met, treatments, trained, config.k, samples).rank(subjects, next_item, costs)
    names, kinds = names_of(artifact), {name: str(_settings(model)["kind"]) for name, model in models.items()}
    evaluated = Evaluated(histories, part, cases, trained, primary, kinds, names, config.k[0], samples)
    shown = Shown(artifact, log, part, items, known, simulation, scorers)
    figures = shown.figures(loaded, config.utility, config.window_ms, samples, config.uplift)
    together = Together(log, items, known, cases, met, removed, config.utility, config.k[0], samples, scorers)
    decided = Protocol(view, rolls, config.events, removed, samples, split, only)
    report = Report(
        title=title,
        primary_history_removed=removed,
        rows=rows,
        protocol=sentences(decided, log, part, cases, trained) | figures.compared_by,
        log={name: f"{facts[f'num_{name}']:,}" for name in ("events", "users", "items", "trained_items")},
        audit=json.loads((artifact.folder / "audit.json").read_text()),
        curves={name: curve for name, model in models.items() if (curve := _curve(model))},
        models={name: costs[name] | {"config": model.manifest["config"]} for name, model in models.items()},
        insights=find_insights(evaluated, [row for row in rows if row["history_removed"] == removed]),
        next_item=next_item.figures(histories, part, names.contexts, samples),
        feedback=figures.feedback,
        calibration=figures.calibration,
        importance=[row for name, model in models.items() for row in _importance(name, model)],
        uplift=figures.uplift,
        stages=together.figures(loaded, config.stages, config.stage_cases),
        settings={"prepare": artifact.manifest["config"]["config"], "evaluate": config.model_dump(mode="json")},
        made_with=versions(),
    )
    write_figures(draft.folder, report)
    write_report(draft.folder, report)


def _cases(config: EvaluateConfig, log: EventLog, part: NDArray[np.int8]) -> Cases:
    view, only = config.view or ALL, config.unfamiliar
    cases = find_cases(log, part, TEST, view, history=config.history, events=config.events, unfamiliar=only)
    if not len(cases):
        which = f"event of the view {view!r}" + (" with an item that its user had not met" if only else "")
        raise BadConfig(f"the test part holds no {which}; choose another, or a longer test")
    return cases


def check(config: EvaluateConfig, log: EventLog) -> None:
    """Check that a log has the views, the feedback and the requests that an evaluation asks for.

    Raises:   BadConfig, BadData: it has not.
    """
    log.in_view(config.view or ALL)
    if config.utility:
        if UTILITY in log.schema.feedback:
            raise BadConfig(f"the log has a feedback {UTILITY!r}, as the figures of evaluate.utility; rename it")
        Impressions.of(log, np.zeros(0, np.int64), config.utility, config.window_ms)


def _settings(model: Artifact) -> dict[str, Any]:
    settings: dict[str, Any] = model.manifest["config"]["model"]
    return settings


def _curve(model: Artifact) -> list[dict[str, Any]]:
    """The learning curve: a dictionary per epoch; empty for models that are counted."""
    file = model.folder / "history.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _importance(name: str, model: Artifact) -> list[dict[str, Any]]:
    """What each input of a ranker is worth, a row each; nothing of a model that has said nothing of it."""
    file = model.folder / IMPORTANCE
    found: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.is_file() else {}
    return [
        {"model": name, "output": output, "input": read, "value": value}
        for output, of in found.items()
        for read, value in of.items()
    ]
