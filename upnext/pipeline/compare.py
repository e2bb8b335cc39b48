"""Compare: students and teachers of one set of examples -> a report, side by side on its test part."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import NO_ITEMS
from upnext.base.errors import BadArtifact
from upnext.base.example_sets import ExampleSets
from upnext.evaluation.distilled import comparison_tables, set_rows
from upnext.evaluation.markdown import tables_as_markdown
from upnext.evaluation.page import tables_page
from upnext.events.split import TEST, TRAIN, VALIDATION
from upnext.fitting.costs import cost_of, percentiles_ms, seconds_of_answers
from upnext.fitting.distillation import AnyStudent, OverFeatures
from upnext.fitting.said import read_said
from upnext.models.build import load_any
from upnext.pipeline.latency import Served
from upnext.pipeline.logged import Logged, logged_of, said_of
from upnext.pipeline.told import Scorers, scorers_of

__all__ = ["run"]

_SAMPLES = 1000


def run(
    workspace: Workspace,
    examples: str,
    models: Mapping[str, Artifact],
    teachers: Mapping[str, Artifact],
    rankers: Mapping[str, Artifact],
) -> Artifact:
    """Compare models of [distill] and their teachers on examples; an up to date report is found.

    Args:     models: by name; teachers: what each said, by name; rankers: those of the teachers that are models of the
              log, by name.
    """
    parent = workspace.current(f"examples-{examples}", "examples")
    settings = {"models": list(models), "teachers": list(teachers)}

    def write(draft: Draft) -> None:
        sets = ExampleSets.load(parent.folder)
        chosen = np.flatnonzero(sets.part == TEST)
        if not len(chosen):
            raise BadArtifact(f"the test part of the examples {examples!r} is empty; choose another split")
        asked, place = sets.take(chosen), sets.candidates_of(chosen)
        rows, logged = list[dict[str, Any]](), logged_of(workspace, parent)
        for name, artifact in teachers.items():
            if name not in models:
                scores, are_logits = read_said(artifact).values[place], bool(artifact.manifest["metrics"]["are_logits"])
                rows += [{"model": name} | row for row in set_rows(asked, scores, are_logits, _SAMPLES)]
        students = dict[str, AnyStudent]()
        for name, artifact in models.items():
            model = load_any(artifact.folder, NO_ITEMS if logged is None else logged.items)
            assert isinstance(model, AnyStudent)
            students[name] = model
            rows += [{"model": name} | row for row in set_rows(asked, said_of(model, asked, logged), True, _SAMPLES)]
        everybody = {**rankers, **models}
        costs = _costs_of_files(students, asked) if logged is None else _costs_of_log(everybody, workspace, logged)
        for name, artifact in everybody.items():
            costs[name]["seconds"] = artifact.manifest["metrics"]["seconds"]
        tables, facts = comparison_tables(rows, costs), _facts(examples, sets, asked)
        (draft.folder / "figures.json").write_text(json.dumps(rows, indent=1))
        (draft.folder / "costs.json").write_text(json.dumps(costs, indent=1))
        (draft.folder / "report.md").write_text(tables_as_markdown("Distillation", facts, tables), encoding="utf-8")
        (draft.folder / "report.html").write_text(tables_page("Distillation", facts, tables), encoding="utf-8")

    parents = [parent, *models.values(), *teachers.values(), *rankers.values()]
    return workspace.ensure(f"comparison-{examples}", "comparison", settings, parents, write)


def _costs_of_files(students: Mapping[str, AnyStudent], asked: ExampleSets) -> dict[str, dict[str, float]]:
    """What each costs where only features of candidates are known."""
    return {
        name: cost_of(model) | percentiles_ms(seconds_of_answers([model], asked))
        for name, model in students.items()
        if isinstance(model, OverFeatures)
    }


def _costs_of_log(models: Mapping[str, Artifact], workspace: Workspace, logged: Logged) -> dict[str, dict[str, float]]:
    """What each costs, with what it reads of candidates there, and as a server has it."""
    log, costs = workspace.current("log", "log"), {}
    with tempfile.TemporaryDirectory() as store, Served(logged.folder, logged.log, Path(store)) as served:
        for name, artifact in models.items():
            model = load_any(artifact.folder, logged.items)
            asked = scorers_of(workspace, log, {name: artifact})
            scorers = Scorers.among({name: artifact}, asked, logged.log, logged.items).of(name)
            given, computed = served.seconds(model, scorers)
            costs[name] = cost_of(model) | percentiles_ms(given) | percentiles_ms(computed, "_computed")
    return costs


def _facts(examples: str, sets: ExampleSets, asked: ExampleSets) -> dict[str, str]:
    """What was compared on, in words."""
    highest, lowest = (of.reduceat(asked.label, asked.first[:-1]) for of in (np.maximum, np.minimum))
    parts = [f"{int((sets.part == which).sum()):,}" for which in (TRAIN, VALIDATION, TEST)]
    return {
        "Examples": f"{examples}: {len(sets.label):,} candidates in {len(sets):,} sets, of which {' / '.join(parts)}"
        f" train / validate / test; the label is {sets.target}, positive from {sets.relevant:g}",
        "Tested": f"{len(asked.label):,} candidates, {int(asked.is_positive.sum()):,} of them positive;"
        f" {int((highest > lowest).sum()):,} of {len(asked):,} sets have different labels: NDCG and pair accuracy are"
        " of these, log-loss, AUC and calibration of all candidates",
    }
