"""What training costs on a catalogue of a million items: full softmax, sampled, with and without sparse gradients.

    python benchmarks/large_catalogue.py

Synthetic histories (items by a Zipf law, every item trained) go through the loop that `upnext pretrain` uses, with its
optimiser and checkpoints, each variant in a process of its own, by turns. Measured are events per second of training,
and the peak of the process's resident memory, which includes what a checkpoint takes while it is written. Nothing is
learned from random histories: this says what a step costs, not what it is worth. Rows go to
docs/results/large_catalogue.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import commit, machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "large_catalogue.json"
VARIANTS = ("nothing trained", "full softmax", "sampled, dense gradients", "sampled")


def main() -> None:
    """Measure every variant in its own process, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=6400, help="tokens per batch")
    parser.add_argument("--steps", type=int, default=20, help="steps of a sampled training; the full softmax makes 2")
    parser.add_argument("--drawn", type=int, default=1024, help="uniform negatives, and as many in-batch ones")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", choices=VARIANTS, help="measure one variant here; prints JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(arguments.runs):
        for name in VARIANTS:
            found[name].append(in_own_process(name))
            print(name, found[name][-1], flush=True)
    rows = as_rows(arguments, load, found)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")


def in_own_process(name: str) -> dict[str, float]:
    """Run this script for one variant: the peak of memory is that of a process."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, *sys.argv, "--only", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Train one variant for some steps; returns its figures."""
    import numpy as np
    import torch

    from upnext.base.batches import Events
    from upnext.base.ids import FIRST
    from upnext.models.sasrec import SASRec, SASRecConfig
    from upnext.objectives.next_item import NextItemPrediction
    from upnext.objectives.softmax import FullSoftmaxConfig, SampledSoftmaxConfig, make_softmax
    from upnext.training.chunks import Chunks
    from upnext.training.loop import Start, TrainingConfig, train

    torch.set_num_threads(arguments.threads)
    name, length = arguments.only, 50
    generator = np.random.default_rng(0)
    steps = 2 if name == "full softmax" else arguments.steps
    users = arguments.tokens // length * steps
    weights = 1 / np.arange(1, arguments.items + 1)
    items = FIRST + generator.choice(arguments.items, users * length, p=weights / weights.sum())
    order = np.arange(len(items))
    chunks = Chunks.cut(Events(items, items, order, order, order), np.arange(0, len(items) + 1, length), length)
    trained = torch.arange(arguments.items + FIRST) >= FIRST
    counts = torch.from_numpy(np.bincount(items, minlength=len(trained))[FIRST:]).clamp(min=1)
    config = SampledSoftmaxConfig(num_in_batch=arguments.drawn, num_drawn=arguments.drawn)
    loss = FullSoftmaxConfig() if name == "full softmax" else config
    torch.manual_seed(0)
    sasrec = SASRecConfig(width=arguments.width, max_length=length)
    model = SASRec(sasrec, trained, sparse_gradients=name == "sampled")
    objective = NextItemPrediction(model, make_softmax(loss, counts))
    figures = {}
    if name != "nothing trained":
        training = TrainingConfig(epochs=1, tokens_per_batch=arguments.tokens)
        with tempfile.TemporaryDirectory(dir=".") as folder:
            figures["events_per_s"] = train(
                objective, objective, chunks, lambda: {"epoch": 0.0}, training, Path(folder), Start(label=name)
            ).events_per_s
    return figures | {"peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def as_rows(
    arguments: argparse.Namespace, load: float, found: dict[str, list[dict[str, float]]]
) -> list[dict[str, Any]]:
    """A row per figure: the median over runs, with the lowest and the highest."""
    import numpy as np

    settings = {key: getattr(arguments, key) for key in ("items", "width", "tokens", "steps", "drawn", "threads")}
    known = {
        "benchmark": "large_catalogue",
        "dataset": f"synthetic, {arguments.items:,} items",
        "protocol": f"{arguments.runs} runs by turns, each in a process of its own, median; peak resident memory of the"
        f" whole process; the machine's load was {load:.2f} at the start",
        "model": "sasrec",
        "settings": settings,
        "k": None,
        "seeds": 1,
        "minutes": None,
        "command": f"python benchmarks/large_catalogue.py --items {arguments.items} --steps {arguments.steps}"
        f" --drawn {arguments.drawn} --threads {arguments.threads} --runs {arguments.runs}",
        "commit": commit(),
        "machine": machine(f"{arguments.threads} threads"),
    }
    return [
        known
        | {
            "variant": name,
            "metric": metric,
            "value": round(float(np.median([one[metric] for one in figures])), 3),
            "low": round(min(one[metric] for one in figures), 3),
            "high": round(max(one[metric] for one in figures), 3),
        }
        for name, figures in found.items()
        for metric in sorted(figures[0])
    ]


if __name__ == "__main__":
    main()
