"""ARGUS beside its baselines: run a project with several seeds, and keep what it says of both tasks in docs/results.

    python benchmarks/argus.py examples/kuairand-argus.toml --seeds 0 1 2 --feedback click long_view like played
    python benchmarks/argus.py examples/simulated-argus.toml

Each seed runs as a user would run it, up to the report; whatever is up to date is found, so that a run that was killed
goes on where it stopped. The rows of `docs/results/argus-<name>.json` are the report's: ranking at the first cut-off,
the next-item loss by the full softmax, and for each feedback how well it was foreseen, with the interval over users of
the first seed; with several seeds the mean, and half the width of Student's interval over them as `seeds_reach`.
Set OMP_WAIT_POLICY=PASSIVE where other work shares the processor.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import RESULTS
from record import commit, machine
from rich.console import Console
from rich.table import Table

from upnext.commands.project import Project, load_project
from upnext.commands.run import run_stages
from upnext.metrics.intervals import over_seeds
from upnext.models.argus import ARGUSConfig
from upnext.models.sasrec import SASRecConfig

Row = dict[str, Any]


def main() -> None:
    """Run a project with each seed, write its rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of the trained models")
    parser.add_argument("--feedback", nargs="+", help="the feedback to keep; left out: all")
    arguments = parser.parse_args()
    file, console = arguments.configuration, Console()
    told = "".join(
        f" --{key} {' '.join(map(str, getattr(arguments, key)))}"
        for key in ("seeds", "feedback")
        if getattr(arguments, key)
    )
    runs = []
    for seed in arguments.seeds:
        project = with_seed(file, seed)
        run_stages(project, console, until="evaluate", resume=True)
        runs.append(read_rows(project, arguments.feedback))
    name = file.stem.removesuffix("-argus")
    head = {
        "dataset": file.stem,
        "variant": file.stem,
        "command": f"python benchmarks/argus.py {file}{told}",
        "commit": commit(str(file)),
        "machine": machine(f"{torch.get_num_threads()} threads", packages=("torch", "lightgbm")),
    }
    rows = [head | over_runs(rows) for rows in zip(*runs, strict=True)]
    path = RESULTS / f"argus-{name}.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")
    show(rows, console)
    console.print(f"{len(rows)} rows in {path}; {head['machine']}; commit {head['commit']}")


def with_seed(file: Path, seed: int) -> Project:
    """Load a project whose models all start from the seed; counted ones have none."""
    project = load_project(file)
    trained = [n for n, one in project.pretrain.items() if isinstance(one.model, SASRecConfig | ARGUSConfig)]
    tables = {"pretrain": trained, "finetune": list(project.finetune), "rank": list(project.rank)}
    return load_project(file, [f"{t}.{name}.training.seed={seed}" for t, names in tables.items() for name in names])


def read_rows(project: Project, feedback: Sequence[str] | None) -> list[Row]:
    """Turn the current report of a project into rows: a figure, of whom, and of which feedback or at which k."""
    workspace = project.opened()
    folder, log = workspace.current("report", "report").folder, workspace.current("log", "log")
    split = log.manifest["metrics"]["split"]["kind"].replace("_", " ")
    ranking, loss, foreseen = (
        json.loads((folder / f"{part}.json").read_text()) for part in ("metrics", "next_item", "feedback")
    )
    first = ranking[0]
    rows = [row for row in ranking if (row["k"], row["history_removed"]) == (first["k"], first["history_removed"])]
    found = [_row("ranking", row) for row in rows]
    found += [_row("next_item", row) for row in loss if row["dimension"] is None]
    kept = None if feedback is None else {*feedback, "utility"}
    found += [_row("feedback", row) for row in foreseen if kept is None or row["feedback"] in kept]
    treatment = "history removed" if first["history_removed"] else "history kept"
    protocol = f"{split}, {project.evaluate.history} history, full ranking, {treatment}"
    return [row | {"protocol": protocol, "minutes": _minutes(project, row["model"])} for row in found]


def _row(task: str, row: Row) -> Row:
    kept = {key: row[key] for key in ("model", "metric", "value", "low", "high")}
    return {"benchmark": f"argus {task}", "feedback": row.get("feedback"), "k": row.get("k"), "settings": {}, **kept}


def _minutes(project: Project, name: str) -> float | None:
    """What training took."""
    if name not in [*project.pretrain, *project.finetune, *project.rank]:
        return None
    metrics = project.opened().current(f"model-{name}", "model").manifest["metrics"]
    return round(metrics["seconds"] / 60, 2) if "seconds" in metrics else None


def over_runs(rows: tuple[Row, ...]) -> Row:
    """One row for the same figure of several seeds: their mean, what it may be off by, and the first one's interval."""
    first = rows[0]
    values = [row["value"] for row in rows]
    assert len({(row["model"], row["feedback"], row["metric"], row["k"]) for row in rows}) == 1
    if len(rows) == 1 or None in values:
        return first | {"seeds": len(rows)}
    mean = over_seeds(np.array(values))
    minutes = [row["minutes"] for row in rows if row["minutes"] is not None]
    return first | {
        "seeds": len(rows),
        "value": mean.value,
        "seeds_reach": mean.high - mean.value,
        "values": values,
        "minutes": round(float(np.mean(minutes)), 2) if minutes else None,
    }


def show(rows: Sequence[Row], console: Console) -> None:
    """Print models by figures, a table per feedback and one per task."""
    for part in dict.fromkeys((row["benchmark"], row["feedback"]) for row in rows):
        some = [row for row in rows if (row["benchmark"], row["feedback"]) == part]
        metrics = list(dict.fromkeys(row["metric"] for row in some))
        table = Table("model", *metrics, title=" ".join(filter(None, part)), title_justify="left")
        for model in dict.fromkeys(row["model"] for row in some):
            of = {row["metric"]: row["value"] for row in some if row["model"] == model}
            table.add_row(model, *("–" if of.get(m) is None else f"{of[m]:.4f}" for m in metrics))
        console.print(table)


if __name__ == "__main__":
    main()
