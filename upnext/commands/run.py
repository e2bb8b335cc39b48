"""`upnext run`: the stages in order, each skipped where its artifact is up to date."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upnext.base.artifacts import Artifact
from upnext.commands import simulate
from upnext.commands.project import Project
from upnext.pipeline import evaluate, prepare, pretrain, publish, serve

__all__ = ["STAGES", "run_stages"]

STAGES = ("simulate", "prepare", "pretrain", "evaluate", "publish", "serve")


def run_stages(project: Project, only: str | None, until: str, console: Console) -> None:
    """Run the stages up to `until`, or only one of them, saying what each made."""
    for stage, label, make in _steps(project, console):
        if only is None or stage == only:
            start = time.perf_counter()
            artifact = make()
            seconds = time.perf_counter() - start
            console.print(f"[bold]{label}[/bold]  {escape(str(artifact.folder))}  [dim]{seconds:.1f} s[/dim]")
            _show(stage, artifact, console)
        if stage == until and not _has_more_models(project, stage, label):
            break


def _steps(project: Project, console: Console) -> Iterator[tuple[str, str, Callable[[], Artifact]]]:
    workspace = project.opened()
    if project.simulate is not None:
        config = project.simulate
        yield "simulate", "simulate", lambda: simulate.into_workspace(config, workspace)
    yield "prepare", "prepare", lambda: prepare.run(project.prepare, workspace)
    for name, settings in project.pretrain.items():
        yield "pretrain", f"pretrain {name}", lambda n=name, s=settings: pretrain.run(s, workspace, n)  # type: ignore[misc]
    yield "evaluate", "evaluate", lambda: evaluate.run(project.evaluate, workspace, list(project.pretrain))
    if project.publish is not None:
        release = project.publish
        yield "publish", "publish", lambda: publish.run(release, workspace)
        yield (
            "serve",
            "serve",
            lambda: serve.run(project.serve, workspace, lambda url: _announce(project, url, console)),
        )


def _has_more_models(project: Project, stage: str, label: str) -> bool:
    return stage == "pretrain" and label != f"pretrain {list(project.pretrain)[-1]}"


def _announce(project: Project, address: str, console: Console) -> None:
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


_FIGURES = ("ndcg", "hr", "recall", "mrr", "coverage")
