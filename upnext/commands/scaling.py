"""`upnext scaling`: one model in several sizes and with several history lengths, and how its losses fall."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.base.protocols import Retriever
from upnext.base.views import ALL
from upnext.commands.ablations import fine_tuning_rows
from upnext.commands.project import Project
from upnext.evaluation.scaling import HeldOut, held_out, lines_through, loss_rows, measure
from upnext.evaluation.scaling_page import files_of, scaling_markdown, scaling_page
from upnext.events.log import EventLog
from upnext.events.split import TEST, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting.pretraining import PretrainConfig, plan
from upnext.models.argus import SIZES, ARGUSConfig
from upnext.models.build import load_model
from upnext.models.sasrec import SASRecConfig
from upnext.objectives.cost import parameters_of
from upnext.pipeline import pretrain

__all__ = ["Asked", "run_scaling"]

PARTS = {"validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class Asked:
    """What a scaling run is asked for, as the command line has it."""

    sizes: str
    """Layers x width, or named sizes, separated by commas: "2x64,3x128,mini"."""
    lengths: str
    """The longest histories: "32,128,512"."""
    model: str | None = None
    """A name in [pretrain]; unset, the only one that is trained."""
    at_size: str | None = None
    """The size in which lengths are compared; unset, the last one."""
    at_length: int | None = None
    """The length at which sizes are compared; unset, the last one."""
    ablations: bool = False
    """Also one point once for each other view of the log, and the towers that begin with the model in variants."""
    cases: int = 2000
    """Held-out requests of each part."""


@dataclass(frozen=True)
class Point:
    """One training: its size, what it reads, and which comparisons it belongs to."""

    layers: int
    width: int
    length: int
    view: str
    series: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called in files and tables."""
        return f"{self.layers}x{self.width}-{self.length}" + ("" if "view" not in self.series else f"-{self.view}")


def run_scaling(project: Project, asked: Asked, out: Path | None, console: Console, *, resume: bool = False) -> Path:
    """Train every point that is not trained yet, measure all on the same cases, and write figures, plots and pages.

    Returns:  the folder with `scaling.json`, `scaling.html`, `scaling.md` and the plots.
    Raises:   BadConfig: no such model, a size or length that cannot be, before anything is trained.
    """
    name, base = _model_of(project, asked.model)
    workspace = project.opened()
    parent = workspace.current("log", "log")
    log = EventLog.open(parent.folder / "log")
    points = _points(asked, base.model.view, log)
    configs = {point: _config_of(base, point) for point in points}
    results = []
    for number, point in enumerate(points, 1):
        label = f"{name}-{point.name}"
        console.print(f"[bold]{label}[/bold]  {number} of {len(points)}")
        tell: Callable[[str], None] = partial(_tell, console, label)
        model = pretrain.run(configs[point], workspace, label.lower(), resume=resume, tell=tell)
        results.append(_measured(workspace, parent, model, point, configs[point], _view_of(base), asked.cases))
    rows = _rows(points, results, log, parent, _view_of(base), asked.cases)
    tuned = (
        fine_tuning_rows(project, name, workspace, partial(_tell, console), resume=resume) if asked.ablations else []
    )
    folder = out or workspace.root / "scaling"
    _write(folder, f"{project.workspace.name}, {name}", rows, _notes(base, rows, asked), tuned)
    console.print(f"[bold]scaling[/bold]  {escape(str(folder))}")
    return folder


def _tell(console: Console, label: str, message: str) -> None:
    console.print(f"[bold]{label}[/bold]  {escape(message)}")


def _model_of(project: Project, name: str | None) -> tuple[str, PretrainConfig]:
    """The model whose size is to change."""
    trained = [one for one, config in project.pretrain.items() if isinstance(config.model, SASRecConfig | ARGUSConfig)]
    if name is None:
        if len(trained) != 1:
            raise BadConfig(f"say with --model which of {trained} to scale: this file trains {len(trained)} models")
        name = trained[0]
    if name not in project.pretrain:
        raise BadConfig(f"--model {name}: [pretrain] has {sorted(project.pretrain)}")
    if name not in trained:
        kind = project.pretrain[name].model.kind
        raise BadConfig(f"--model {name}: a {kind} model has no size that is scaled; choose one of {trained}")
    return name, project.pretrain[name]


def _points(asked: Asked, view: str, log: EventLog) -> list[Point]:
    """Every size at one length, every length in one size, and, for ablations, every other view of both."""
    sizes = [_size(text) for text in _listed(asked.sizes, "--sizes")]
    lengths = [_length(text) for text in _listed(asked.lengths, "--lengths")]
    at_size = sizes[-1] if asked.at_size is None else _size(asked.at_size, "--at-size")
    at_length = lengths[-1] if asked.at_length is None else asked.at_length
    if at_size not in sizes or at_length not in lengths:
        raise BadConfig(
            f"--at-size and --at-length choose among --sizes {asked.sizes} and --lengths {asked.lengths}; found"
            f" {'x'.join(map(str, at_size))} and {at_length}"
        )
    series: dict[tuple[int, int, int, str], tuple[str, ...]] = {}
    for layers, width in dict.fromkeys(sizes):
        series[layers, width, at_length, view] = ("size",)
    for length in dict.fromkeys(lengths):
        key = (*at_size, length, view)
        series[key] = (*series.get(key, ()), "length")
    if asked.ablations:
        views = [ALL, *log.schema.views]
        if len(views) == 1:
            raise BadConfig("--ablations trains once per view, and the log has none; name some in [prepare.views]")
        for other in views:
            if other != view:
                series[*at_size, at_length, other] = ("view",)
    return [Point(*key, found) for key, found in series.items()]


def _listed(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise BadConfig(f"{option} {text!r}: an entry is empty; write them with a comma between two")
    return parts


def _size(text: str, option: str = "--sizes") -> tuple[int, int]:
    if text in SIZES:
        return SIZES[text]
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,4})", text)
    if match is None:
        raise BadConfig(f"{option}: {text!r} is no size; write layers x width, such as 2x64, or {', '.join(SIZES)}")
    return int(match[1]), int(match[2])


def _length(text: str) -> int:
    if re.fullmatch(r"[1-9]\d{0,6}", text) is None:
        raise BadConfig(f"--lengths: {text!r} is no number of events; write whole numbers, such as 32,128,512")
    return int(text)


def _config_of(base: PretrainConfig, point: Point) -> PretrainConfig:
    """The model's configuration in another size: a head for every 64 of its width."""
    data = base.model_dump(mode="json", exclude_unset=True)
    settings = {name: value for name, value in data["model"].items() if name != "size"}
    size = {"layers": point.layers, "width": point.width, "heads": max(1, point.width // 64)}
    data["model"] = settings | size | {"max_length": point.length, "view": point.view}
    return parse_config(PretrainConfig, data, f"the point {point.name}")


def _view_of(base: PretrainConfig) -> str:
    """The events whose item is predicted."""
    asked = base.tasks.next_item_view if isinstance(base.model, ARGUSConfig) else None
    return asked or base.model.view


def _measured(
    workspace: Workspace, parent: Artifact, model: Artifact, point: Point, config: PretrainConfig, view: str, cases: int
) -> Artifact:
    """The figures of one point on the held-out cases; those of an earlier run are found, not computed again."""

    def write(draft: Draft) -> None:
        log, part = EventLog.open(parent.folder / "log"), np.load(parent.folder / "split.npy")
        items, people = Catalogue.load(parent.folder).items, People.load(parent.folder)
        loaded = load_model(model.folder, items)
        assert isinstance(loaded, Retriever)
        rows: list[dict[str, Any]] = []
        for name in PARTS:
            held = _held(log, part, name, view, cases, len(items))
            losses, found = measure(
                loaded, log, part, held, view, model.manifest["metrics"]["temperature"], people.features.columns, 500
            )
            np.save(draft.folder / f"next_item-{name}.npy", losses)
            rows += [{"part": name} | row for row in found]
        (draft.folder / "figures.json").write_text(json.dumps(rows, indent=1))
        draft.metrics |= {
            "parameters": parameters_of(plan(config, parent, log, part).shapes),
            "minutes": model.manifest["metrics"]["seconds"] / 60,
        }
        draft.schema = log.schema.digest()

    settings = {"cases": cases, "view": view}
    return workspace.ensure(f"point-{point.name.lower()}", "point", settings, [parent, model], write)


def _held(log: EventLog, part: NDArray[np.int8], name: str, view: str, cases: int, num_items: int) -> HeldOut:
    held = held_out(log, part, PARTS[name], view, cases, num_items)
    if not len(held.cases):
        raise BadConfig(f"the {name} part holds no event of the view {view!r}; make it longer, or predict another")
    return held


def _rows(
    points: Sequence[Point], results: Sequence[Artifact], log: EventLog, parent: Artifact, view: str, cases: int
) -> list[dict[str, Any]]:
    """Tidy rows of every point, part and metric; the next-item loss over targets that all points have one of."""
    part, num_items = np.load(parent.folder / "split.npy"), int(parent.manifest["metrics"]["num_dense_items"])
    rows = []
    for name in PARTS:
        held = _held(log, part, name, view, cases, num_items)
        losses = loss_rows([np.load(one.folder / f"next_item-{name}.npy") for one in results], held.cases, 1000)
        for point, result, loss in zip(points, results, losses, strict=True):
            counts = result.manifest["metrics"]["parameters"]
            known = {
                "point": point.name,
                "series": list(point.series),
                "layers": point.layers,
                "width": point.width,
                "length": point.length,
                "view": point.view,
                "encoder_parameters": counts["encoder"],
                "parameters": sum(counts.values()),
                "minutes": result.manifest["metrics"]["minutes"],
                "part": name,
            }
            figures = json.loads((result.folder / "figures.json").read_text())
            rows.append(known | loss)
            rows += [known | row for row in figures if row["part"] == name]
    return rows


def _notes(base: PretrainConfig, rows: Sequence[dict[str, Any]], asked: Asked) -> list[str]:
    """How it was measured, in sentences."""
    targets = {row["part"]: row["targets"] for row in rows if row["metric"] == "nip_loss"}
    counts = " and ".join(f"{count:,} of the {part} part" for part, count in targets.items())
    return [
        f"Every point: {base.training.epochs} epochs at most, the same settings but for size, heads and history.",
        f"Next-item loss: mean of −log p under the full softmax, targets of the view {_view_of(base)!r}: {counts}.",
        f"Feedback loss: the sum of log-losses of binary feedback and fractions, on {asked.cases:,} requests a part.",
        "Parameters on the axis are those of the transformer's layers, without embeddings and heads.",
        "Intervals: 95 %, by the bootstrap over users. One seed; they say nothing about another.",
    ]


def _write(folder: Path, title: str, rows: list[dict[str, Any]], notes: list[str], tuned: list[dict[str, Any]]) -> None:
    lines = lines_through(rows)
    folder.mkdir(parents=True, exist_ok=True)
    found = {"title": title, "notes": notes, "rows": rows, "lines": lines, "fine_tuning": tuned}
    (folder / "scaling.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "scaling.html").write_text(scaling_page(title, rows, lines, notes, tuned), encoding="utf-8")
    (folder / "scaling.md").write_text(scaling_markdown(title, rows, lines, notes, tuned), encoding="utf-8")
    for name, svg in files_of(rows, lines, "test").items():
        (folder / name).write_text(svg, encoding="utf-8")
