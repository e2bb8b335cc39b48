"""Quality of the main path: run an example's configuration and keep its figures in docs/results.

    python benchmarks/quality.py examples/demo.toml examples/ml-100k.toml …

Each configuration runs as a user would run it, up to the report; the report's figures become rows of
`docs/results/quality-<name>.json`. Set OMP_WAIT_POLICY=PASSIVE where other work shares the processor.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from record import commit, machine
from rich.console import Console

from upnext.commands.project import Project, load_project
from upnext.commands.run import run_stages

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def main() -> None:
    """Run each configuration and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configurations", nargs="+", type=Path)
    arguments = parser.parse_args()
    console = Console()
    for file in arguments.configurations:
        project = load_project(file)
        run_stages(project, console, until="evaluate")
        write_rows(file, project, console)


def write_rows(file: Path, project: Project, console: Console) -> None:
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
    rows = [known | _row(project, row, split) for row in json.loads((report.folder / "metrics.json").read_text())]
    path = RESULTS / f"quality-{file.stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(f"{len(rows)} rows in {path}; {known['machine']}; commit {known['commit']}")


def _row(project: Project, row: dict[str, Any], split: dict[str, Any]) -> dict[str, Any]:
    treatment = "history removed" if row["history_removed"] else "history kept"
    protocol = f"{split['kind'].replace('_', ' ')}, {project.evaluate.history} history, full ranking, {treatment}"
    settings, minutes, seeds = {}, None, 1
    if row["model"] in project.pretrain:
        config = project.pretrain[row["model"]]
        settings = config.model_dump(mode="json")
        metrics = project.opened().current(f"model-{row['model']}", "model").manifest["metrics"]
        minutes = round(metrics["seconds"] / 60, 2) if "seconds" in metrics else None
    kept = {name: row[name] for name in ("model", "metric", "k", "value", "low", "high")}
    return kept | {"protocol": protocol, "settings": settings, "seeds": seeds, "minutes": minutes}


if __name__ == "__main__":
    main()
