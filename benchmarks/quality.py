"""Quality of the main path: run an example's configuration and keep its figures in docs/results.

    python benchmarks/quality.py examples/demo.toml examples/ml-100k.toml …
    python benchmarks/quality.py examples/ml-1m.toml --seeds 0 1 2
    python benchmarks/quality.py examples/ml-1m.toml --name bfloat16 --set pretrain.sasrec.training.precision=bfloat16

Each configuration runs as a user would run it, up to the report; the report's figures become rows of
`docs/results/quality-<name>.json`. One seed keeps the report's interval, over users; several give the mean and
Student's interval over seeds. A variant of a configuration has a name, and keeps the figures of the models that its
settings change. Set OMP_WAIT_POLICY=PASSIVE where other work shares the processor.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import commit, machine
from rich.console import Console

from upnext.commands.project import Project, load_project
from upnext.commands.run import run_stages
from upnext.metrics.intervals import over_seeds
from upnext.models.sasrec import SASRecConfig

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def main() -> None:
    """Run each configuration with each seed and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configurations", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of the trained models")
    parser.add_argument("--name", help="of a variant; its file is quality-<configuration>-<name>.json")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the variant")
    arguments = parser.parse_args()
    if bool(arguments.set) != (arguments.name is not None):
        parser.error("--name and --set go together: a variant has both")
    changed = {setting.split(".")[1] for setting in arguments.set if setting.startswith("pretrain.")}
    console = Console()
    for file in arguments.configurations:
        runs = []
        for seed in arguments.seeds:
            project = with_seed(file, seed, arguments.set)
            run_stages(project, console, until="evaluate")
            runs.append([row for row in read_rows(file, project) if not changed or row["model"] in changed])
        rows = [over_runs(rows, arguments.seeds) for rows in zip(*runs, strict=True)]
        name = file.stem
        if arguments.name is not None:
            name = f"{file.stem}-{arguments.name}"
            told = f" --name {arguments.name} --set {' '.join(arguments.set)}"
            rows = [row | {"variant": name, "command": row["command"] + told} for row in rows]
        path = RESULTS / f"quality-{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=1) + "\n")
        console.print(f"{len(rows)} rows in {path}; {rows[0]['machine']}; commit {rows[0]['commit']}")


def with_seed(file: Path, seed: int, overrides: list[str]) -> Project:
    """Load a project whose trained models start from the seed; counted models have none."""
    models = load_project(file, overrides).pretrain
    trained = [name for name, settings in models.items() if isinstance(settings.model, SASRecConfig)]
    return load_project(file, [*overrides, *(f"pretrain.{name}.training.seed={seed}" for name in trained)])


def read_rows(file: Path, project: Project) -> list[dict[str, Any]]:
    """Turn the current report of a project into result rows."""
    workspace = project.opened()
    report, log = workspace.current("report", "report"), workspace.current("log", "log")
    split = log.manifest["metrics"]["split"]
    known = {
        "benchmark": "quality",
        "dataset": file.stem if project.simulate is None else "simulated",
        "variant": file.stem,
        "command": f"python benchmarks/quality.py {file}",
        "commit": commit(str(file)),
        "machine": machine(f"{torch.get_num_threads()} threads"),
    }
    return [known | _row(project, row, split) for row in json.loads((report.folder / "metrics.json").read_text())]


def over_runs(rows: tuple[dict[str, Any], ...], seeds: list[int]) -> dict[str, Any]:
    """One row for the same figure of several seeds: their mean, its interval, every value, and the mean minutes.

    What no seed changes, as a counted model's figure, keeps its interval over users.
    """
    first = rows[0]
    if all(row["value"] == first["value"] for row in rows):
        return first
    mean = over_seeds(np.array([row["value"] for row in rows]))
    minutes = None if first["minutes"] is None else round(float(np.mean([row["minutes"] for row in rows])), 2)
    return first | {
        "command": f"{first['command']} --seeds {' '.join(map(str, seeds))}",
        "value": mean.value,
        "low": mean.low,
        "high": mean.high,
        "seeds": len(rows),
        "values": [row["value"] for row in rows],
        "minutes": minutes,
    }


def _row(project: Project, row: dict[str, Any], split: dict[str, Any]) -> dict[str, Any]:
    treatment = "history removed" if row["history_removed"] else "history kept"
    protocol = f"{split['kind'].replace('_', ' ')}, {project.evaluate.history} history, full ranking, {treatment}"
    settings, minutes = {}, None
    if row["model"] in project.pretrain:
        config = project.pretrain[row["model"]]
        settings = config.model_dump(mode="json")
        metrics = project.opened().current(f"model-{row['model']}", "model").manifest["metrics"]
        minutes = round(metrics["seconds"] / 60, 2) if "seconds" in metrics else None
    kept = {name: row[name] for name in ("model", "metric", "k", "value", "low", "high")}
    return kept | {"protocol": protocol, "settings": settings, "seeds": 1, "minutes": minutes}


if __name__ == "__main__":
    main()
