"""Which weight and rate the masked loss of a ranker should have: train it with each, and look at the validation part.

    python benchmarks/masked_sweep.py examples/kuairand-rankers.toml
    python benchmarks/masked_sweep.py examples/simulated-rankers.toml \\
        --set simulate.num_events=216000 simulate.num_users=1200

The project's ranker `masked` is trained with each w₁ and rate, and without masks. The loss of its ranking on sets of
the validation part, as early stopping sees it, is a row of `docs/results/masked_sweep-<name>.json`. Nothing here looks
at the test part. What is up to date is found.
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

from upnext.base.artifacts import Workspace
from upnext.commands.project import load_project
from upnext.commands.run import run_stages
from upnext.fitting.ranking_config import MainRankConfig
from upnext.pipeline import rank

Row = dict[str, Any]


def main() -> None:
    """Train every variant with each seed, write its row and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--ranker", default="masked")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.03, 0.1, 0.3])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", default=[], help="settings of the project")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the rows")
    arguments = parser.parse_args()
    file, console = arguments.configuration, Console()
    project = load_project(file, [f"workspace=runs/masked-sweep/{file.stem}", *arguments.set])
    run_stages(project, console, until="prepare")
    ranker = project.rank[arguments.ranker]
    assert isinstance(ranker, MainRankConfig)
    told = f" --seeds {' '.join(map(str, arguments.seeds))}" + (
        f" --set {' '.join(arguments.set)}" * bool(arguments.set)
    )
    head = {
        "benchmark": "masked sweep",
        "dataset": file.stem,
        "model": arguments.ranker,
        "protocol": "loss of the ranking on sets of the validation part, at the best epoch",
        "metric": "validation_loss",
        "settings": {"set": " ".join(arguments.set)},
        "k": None,
        "command": f"python benchmarks/masked_sweep.py {file}{told}",
        "commit": commit(str(file), "benchmarks/masked_sweep.py"),
        "machine": machine(f"{torch.get_num_threads()} threads"),
    }
    rows = []
    for masked in (None, *((w, rate) for w in arguments.weights for rate in arguments.rates)):
        losses = [loss_of(ranker, masked, seed, project.opened()) for seed in arguments.seeds]
        variant = "no masks" if masked is None else "w1 = {:g}, rate {:g}".format(*masked)
        rows.append(head | as_row(variant, losses))
        console.print(f"{variant}: {np.mean(losses):.4f} {[round(loss, 4) for loss in losses]}")
    path = arguments.results / f"masked_sweep-{file.stem.removesuffix('-rankers')}.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


def loss_of(ranker: MainRankConfig, masked: tuple[float, float] | None, seed: int, workspace: Workspace) -> float:
    """Train a variant, unless it was, and read what early stopping made of it."""
    data = ranker.model_dump(by_alias=True, exclude={"masked"})
    data["training"]["seed"] = seed
    if masked is not None:
        data["masked"] = (ranker.model_dump()["masked"] or {}) | {"weight": masked[0], "rate": masked[1]}
    artifact = rank.run(MainRankConfig.model_validate(data), workspace, "masked", resume=True)
    return -float(artifact.manifest["metrics"]["best_metric"])


def as_row(variant: str, losses: Sequence[float]) -> Row:
    """The mean over seeds, from the least to the largest."""
    return {
        "variant": variant,
        "value": round(float(np.mean(losses)), 5),
        "low": round(min(losses), 5) if len(losses) > 1 else None,
        "high": round(max(losses), 5) if len(losses) > 1 else None,
        "seeds": len(losses),
        "minutes": None,
    }


if __name__ == "__main__":
    main()
