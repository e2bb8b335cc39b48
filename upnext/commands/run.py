"""`upnext run`: the stages in order, each skipped where its artifact is up to date."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upnext.base.artifacts import Artifact
from upnext.base.errors import BadConfig
from upnext.base.views import ALL
from upnext.commands import simulate
from upnext.commands.distilling import DistillProject, no_other, student_steps
from upnext.commands.project import Project
from upnext.commands.teachers import said_by_ranker
from upnext.events.log import EventLog
from upnext.fitting.finetuning import check_lag
from upnext.fitting.held_back import hold_back
from upnext.models.scorers import chain_of
from upnext.models.two_towers import TwoTowersConfig
from upnext.pipeline import distill, evaluate, finetune, prepare, pretrain, publish, rank, serve
from upnext.serving.release import check_filters

__all__ = ["STAGES", "run_stages"]

STAGES = ("simulate", "prepare", "pretrain", "finetune", "rank", "distill", "evaluate", "publish", "serve")


def run_stages(
    project: DistillProject,
    console: Console,
    *,
    only: str | None = None,
    until: str | None = None,
    resume: bool = False,
    live: bool = False,
) -> None:
    """Run the stages, all of them or up to `until`, or only one, saying what each made.

    With `resume`, a training that was interrupted goes on where it stopped; with `live`, only students are trained that
    learn beside their teachers.

    Raises:   BadConfig: the project has no such stage.
    """
    steps = list(_steps(project, console, resume, live))
    wanted = only or until or steps[-1].stage
    if wanted not in {step.stage for step in steps}:
        tables = {"simulate": "simulate", "publish": "publish", "serve": "publish"}
        table = tables.get(wanted, wanted if wanted in ("prepare", "evaluate") else f"{wanted}.NAME")
        raise BadConfig(f"this project has no stage {wanted!r}: its file has no table [{table}]; add one")
    for step in steps:
        if STAGES.index(step.stage) > STAGES.index(wanted):
            break
        if only is None or step.stage == only:
            start = time.perf_counter()
            artifact = step.make()
            seconds = time.perf_counter() - start
            console.print(f"[bold]{step.label}[/bold]  {escape(str(artifact.folder))}  [dim]{seconds:.1f} s[/dim]")
            _show(step.stage, artifact, console)
            if step.stage == "prepare" and wanted != "prepare" and isinstance(project, Project):
                _check_views(project, artifact)


def _check_views(project: Project, artifact: Artifact) -> None:
    """Refuse what the log does not have before hours of training, not after."""
    log = EventLog.open(artifact.folder / "log")
    _check_held_back(project, artifact, log)
    for settings in project.pretrain.values():
        for view in (settings.model.view, settings.positives.view, settings.tasks.next_item_view):
            log.mask(view or ALL)
        if isinstance(settings.model, TwoTowersConfig):
            check_lag(settings.model.lag, log)
    evaluate.check(project.evaluate, log)
    for towers in project.finetune.values():
        finetune.check(towers, project.encoder_of(towers), log)
    for name, ranker in project.rank.items():
        rank.check(ranker, name, log)
    for name, examples in project.examples.items():
        distill.check(examples, name, log)
    if project.publish is not None:
        publish.check(project.publish, log)
        check_filters(project.publish, artifact.folder, project.publish.view)
        if project.publish.ranker in project.rank:
            asked = [one.name for one in chain_of(project.rank, project.publish.ranker)]
            rankers = [project.rank[name] for name in (*asked, project.publish.ranker) if name in project.rank]
            publish.check_page(project.publish, [one for ranker in rankers for one in ranker.aggregates], log)


def _check_held_back(project: Project, artifact: Artifact, log: EventLog) -> None:
    """Refuse to hold back more of the training part than there is."""
    part, split = np.load(artifact.folder / "split.npy", mmap_mode="r"), artifact.manifest["metrics"]["split"]
    for table, models in (("pretrain", project.pretrain), ("finetune", project.finetune), ("rank", project.rank)):
        for name, one in models.items():
            try:
                hold_back(log, part, split, one.hold_back)
            except BadConfig as error:
                raise BadConfig(f"{table}.{name}: {error}") from None


@dataclass(frozen=True)
class _Step:
    """One thing to make: a stage, or one model of a stage."""

    stage: str
    label: str
    make: Callable[[], Artifact]


def _steps(project: DistillProject, console: Console, resume: bool, live: bool) -> Iterator[_Step]:
    if isinstance(project, Project):
        yield from _steps_of_log(project, console, resume, live)
        return
    for label, make in student_steps(project, no_other, partial(_tell, console), resume, live):
        yield _Step("distill", label, make)


def _steps_of_log(project: Project, console: Console, resume: bool, live: bool) -> Iterator[_Step]:
    workspace = project.opened()
    if project.simulate is not None:
        yield _Step("simulate", "simulate", partial(simulate.into_workspace, project.simulate, workspace))
    yield _Step("prepare", "prepare", partial(prepare.run, project.prepare, workspace))
    for name, settings in project.pretrain.items():
        tell = partial(_tell, console, f"pretrain {name}")
        make = partial(pretrain.run, settings, workspace, name, resume=resume, tell=tell)
        yield _Step("pretrain", f"pretrain {name}", make)
    for name, towers in project.finetune.items():
        tell, encoder = partial(_tell, console, f"finetune {name}"), project.encoder_of(towers)
        make = partial(finetune.run, towers, encoder, workspace, name, resume=resume, tell=tell)
        yield _Step("finetune", f"finetune {name}", make)
    for name, ranker in project.rank.items():
        tell = partial(_tell, console, f"rank {name}")
        yield _Step("rank", f"rank {name}", partial(rank.run, ranker, workspace, name, resume=resume, tell=tell))
    said_by_other = partial(said_by_ranker, project, partial(_tell, console))
    for label, step in student_steps(project, said_by_other, partial(_tell, console), resume, live):
        yield _Step("distill", label, step)
    yield _Step("evaluate", "evaluate", partial(evaluate.run, project.evaluate, workspace, project.models))
    if project.publish is not None:
        announce = partial(_announce, project, console)
        yield _Step("publish", "publish", partial(publish.run, project.publish, workspace))
        yield _Step("serve", "serve", partial(serve.run, project.serve, workspace, announce))


def _tell(console: Console, label: str, message: str) -> None:
    console.print(f"[bold]{label}[/bold]  {escape(message)}")


def _announce(project: Project, console: Console, address: str) -> None:
    report = project.workspace / "current" / "report"
    console.print(f"\n[bold]page[/bold]    {address}")
    if report.is_file():
        folder = project.workspace / "artifacts" / report.read_text()
        console.print(f"[bold]report[/bold]  {(folder / 'report.html').resolve().as_uri()}")
    console.print("[dim]Ctrl-C stops the service.[/dim]")


def _show(stage: str, artifact: Artifact, console: Console) -> None:
    if stage == "prepare":
        _show_audit(artifact, console)
    elif stage == "evaluate":
        _show_metrics(artifact.folder, console)
    elif artifact.kind == "comparison":
        _show_comparison(artifact.folder, console)


def _show_audit(artifact: Artifact, console: Console) -> None:
    for note in artifact.manifest["metrics"]["notes"]:
        console.print(f"  note     {escape(note)}")
    colours = {"ok": "green", "note": "yellow", "warning": "red"}
    for finding in json.loads((artifact.folder / "audit.json").read_text()):
        level = finding["level"]
        console.print(f"  [{colours[level]}]{level:8}[/] {finding['check']}: {escape(finding['message'])}")


def _show_metrics(folder: Path, console: Console) -> None:
    rows: list[dict[str, Any]] = json.loads((folder / "metrics.json").read_text())
    first = rows[0]
    shown = [row for row in rows if row["k"] == first["k"] and row["history_removed"] == first["history_removed"]]
    treatment = "removed from" if first["history_removed"] else "kept in"
    table = Table(title=f"at {first['k']}, history {treatment} the ranking", title_justify="left")
    table.add_column("model")
    for name in (*_FIGURES, "95 % interval of ndcg"):
        table.add_column(name, justify="right")
    for model in dict.fromkeys(row["model"] for row in shown):
        of = {row["metric"]: row for row in shown if row["model"] == model}
        interval = f"{of['ndcg']['low']:.4f}–{of['ndcg']['high']:.4f}"
        table.add_row(model, *(f"{of[name]['value']:.4f}" for name in _FIGURES), interval)
    console.print(table)


def _show_comparison(folder: Path, console: Console) -> None:
    rows: list[dict[str, Any]] = json.loads((folder / "figures.json").read_text())
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    table = Table("model", *metrics, title="test part", title_justify="left")
    for model in dict.fromkeys(row["model"] for row in rows):
        of = {row["metric"]: row["value"] for row in rows if row["model"] == model}
        table.add_row(model, *(f"{of[name]:.4f}" if name in of else "–" for name in metrics))
    console.print(table)


_FIGURES = ("ndcg", "hr", "recall", "mrr", "coverage")
