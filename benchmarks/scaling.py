"""Losses against size and history length on a simulated service: the run behind the plots in the guide.

    python benchmarks/scaling.py [--threads 2]

`upnext scaling` on examples/scaling.toml: 2x64, 3x128 and 4x256 with histories of 128 events, and 32 to 512 events in
2x64. What was trained before in its workspace is found, so a run that was stopped goes on. Plots go to docs/images,
figures to docs/results/scaling.json.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from record import commit, machine
from rich.console import Console

from upnext.commands.project import load_project
from upnext.commands.run import run_stages
from upnext.commands.scaling import Asked, run_scaling

DOCS = Path(__file__).parent.parent / "docs"
FILE = Path(__file__).parent.parent / "examples" / "scaling.toml"
ASKED = Asked(sizes="2x64,3x128,4x256", lengths="32,64,128,256,512", at_size="2x64", at_length=128)


def main() -> None:
    """Prepare, train, measure; copy the plots and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workspace", type=Path, help="another than that of the file")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where `images` and `results` are")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    overrides = [] if arguments.workspace is None else [f"workspace={arguments.workspace}"]
    project, console = load_project(FILE, overrides), Console()
    run_stages(project, console, until="prepare")
    folder = run_scaling(project, ASKED, None, console, resume=True)
    for plot in folder.glob("*.svg"):
        shutil.copyfile(plot, arguments.docs / "images" / f"scaling-{plot.name}")
    found = json.loads((folder / "scaling.json").read_text())
    rows = as_rows(found, arguments.threads)
    (arguments.docs / "results" / "scaling.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        console.print(f"{row['variant']:24} {row['metric']:12} {row['value']:g}")


def as_rows(found: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """Rows of docs/results: the losses of every point on the test part, and the lines through them."""
    known = {
        "benchmark": "scaling",
        "dataset": "simulated",
        "model": "argus",
        "protocol": "global time, rolling history, full softmax; held-out requests of the test part",
        "settings": {"notes": found["notes"], "threads": threads},
        "k": None,
        "seeds": 1,
        "commit": commit("examples/scaling.toml"),
        "machine": machine(f"{threads} threads"),
        "command": "python benchmarks/scaling.py",
    }
    rows = [
        known
        | {"variant": row["point"], "minutes": round(row["minutes"], 2)}
        | {name: row[name] for name in ("metric", "value", "low", "high")}
        for row in found["rows"]
        if row["part"] == "test" and row["metric"] in ("nip_loss", "fp_loss")
    ]
    axes = {"size": "log10(parameters)", "length": "log2(history)"}
    rows += [
        known
        | {"variant": f"line against {axes[line['series']]}", "minutes": None, "low": None, "high": None}
        | {"metric": f"{line['metric']} {figure}", "value": float(f"{line[figure]:.6g}")}
        for line in found["lines"]
        if line["part"] == "test"
        for figure in ("slope", "r2", "residual")
    ]
    return rows


if __name__ == "__main__":
    main()
