"""Rankers side by side: train each with several seeds, and keep how well it foresees feedback and orders lists.

    python benchmarks/rankers.py examples/simulated-rankers.toml --seeds 0 1 2 3 4
    python benchmarks/rankers.py examples/kuairand-rankers.toml --seeds 0 1 2 3 4 --feedback click long_view
    python benchmarks/rankers.py examples/simulated-rankers.toml --models sum attention --part validation --seeds 0

Every model of the project is trained as `upnext run` would, and judged by the figures of `upnext evaluate` on what was
shown in the test part: each feedback, and the order of what was shown together by the project's utility. Beside the
models stand the mean of all, each item's own rates and, of a simulated service, its truth. Rows go to
`docs/results/rankers-<name>.json`: the mean over seeds, half the width of Student's interval over them as
`seeds_reach`, and the interval over users of the first seed. With `--models` the others are neither trained nor
measured, and their rows stay. With `--part validation` nothing is written: this is how settings are chosen. What is up
to date is found, so that a run that was killed goes on where it stopped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from argus import over_runs, show, with_seed
from quality import RESULTS
from record import commit, machine
from rich.console import Console

from upnext.commands.project import Project
from upnext.commands.run import run_stages
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.models.build import load_any
from upnext.pipeline.subjects import Shown
from upnext.pipeline.told import Scorers, scorers_of

Row = dict[str, Any]

METRICS = (
    "auc",
    "user_auc",
    "log_loss",
    "normalised_entropy",
    "calibration_error",
    "mae",
    "pair_accuracy",
    "user_pair_accuracy",
    "utility_ndcg",
)
PARTS = {"test": TEST, "validation": VALIDATION}


def main() -> None:
    """Train and measure with each seed, write the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of the trained models")
    parser.add_argument("--models", nargs="+", help="those to train and measure; left out: all")
    parser.add_argument("--feedback", nargs="+", help="the feedback to keep; left out: all")
    parser.add_argument("--part", choices=PARTS, default="test")
    arguments = parser.parse_args()
    file, console = arguments.configuration, Console()
    runs = []
    for seed in arguments.seeds:
        project = only(with_seed(file, seed), arguments.models)
        run_stages(project, console, until="rank" if project.rank else "pretrain", resume=True)
        runs.append(measured(project, arguments.feedback, PARTS[arguments.part]))
    told = "".join(
        f" --{key} {' '.join(map(str, getattr(arguments, key)))}"
        for key in ("seeds", "models", "feedback")
        if getattr(arguments, key)
    )
    head = {
        "dataset": file.stem,
        "variant": file.stem,
        "protocol": f"what was shown in the {arguments.part} part",
        "command": f"python benchmarks/rankers.py {file}{told}",
        "commit": commit(str(file), "benchmarks/rankers.py"),
        "machine": machine(f"{torch.get_num_threads()} threads", packages=("torch", "lightgbm")),
    }
    rows = [head | over_runs(rows) for rows in zip(*runs, strict=True)]
    show(rows, console)
    if arguments.part == "test":
        path = RESULTS / f"rankers-{file.stem.removesuffix('-rankers')}.json"
        path.write_text(json.dumps(beside(rows, path), indent=1) + "\n")
        console.print(f"{len(rows)} rows in {path}")


def only(project: Project, names: Sequence[str] | None) -> Project:
    """The project with some of its models."""
    if names is None:
        return project
    chosen = {
        table: {name: one for name, one in getattr(project, table).items() if name in names}
        for table in ("pretrain", "finetune", "rank")
    }
    return project.model_copy(update=chosen)


def measured(project: Project, feedback: Sequence[str] | None, which: int) -> list[Row]:
    """Every figure of every model of a project, on what was shown in one part of the split."""
    workspace = project.opened()
    artifact = workspace.current("log", "log")
    models = {name: workspace.current(f"model-{name}", "model", artifact) for name in project.models}
    simulation = [workspace.named(name) for name in artifact.manifest["parents"] if name.startswith("simulation-")]
    log, part = EventLog.open(artifact.folder / "log"), np.load(artifact.folder / "split.npy")
    items, known = Catalogue.load(artifact.folder).items, People.load(artifact.folder).features.columns
    # What is measured is what the evaluation takes for the test part.
    asked = np.select([part == TRAIN, part == which], [TRAIN, TEST], VALIDATION).astype(part.dtype)
    scorers = Scorers.among(models, scorers_of(workspace, artifact, models), log, items)
    shown = Shown(artifact, log, asked, items, known, simulation, scorers)
    loaded = {name: load_any(model.folder, items) for name, model in models.items()}
    settings = project.evaluate
    found = shown.figures(loaded, settings.utility, settings.window_ms, settings.bootstrap_samples)
    kept = {*(log.schema.feedback if feedback is None else feedback), "utility"}
    minutes = {name: model.manifest["metrics"].get("seconds") for name, model in models.items()}
    return [
        {"benchmark": "rankers", "k": None, "settings": {}}
        | row
        | {"minutes": None if (seconds := minutes.get(row["model"])) is None else round(seconds / 60, 2)}
        for row in found.feedback
        if row["feedback"] in kept and row["metric"] in METRICS
    ]


def beside(rows: list[Row], path: Path) -> list[Row]:
    """New rows, and before them those of other models that a file holds."""
    measured = {row["model"] for row in rows}
    earlier = json.loads(path.read_text()) if path.is_file() else []
    return [row for row in earlier if row["model"] not in measured] + rows


if __name__ == "__main__":
    main()
