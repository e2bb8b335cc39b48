"""How fast ARGUS mini (4 x 256) trains long histories on this machine, and what memory it takes.

    python benchmarks/long_history.py [--lengths 512 2048 8192] [--threads 2]

The real training loop, objective and optimiser on synthetic histories: a sampled softmax (mixed negatives, 1,024 of the
batch and 1,024 uniform), a hashed matrix of 65,536 rows with sparse gradients, 10,000 items, chunks of `length` events,
one chunk or 8,192 events in a batch. In `lists`, half of the events come in lists of ten, whose events are hidden from
each other: in the full form attention then needs a mask. Each point is a process of its own, so that its peak is its
own. Events/s leave out the first step, in which memory is first touched. Results go to docs/results/long_history.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from record import commit, machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "long_history.json"
FORMS = ("simplified", "full", "full, lists")
NUM_ITEMS, NUM_DRAWN, ROWS, TOKENS = 10_000, 1024, 65_536, 8192


def main() -> None:
    """Measure every point in a process of its own, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192], help="events of a history")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a point")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--point", nargs=2, metavar=("FORM", "LENGTH"), help="measure one point here, and print it")
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(arguments.point[0], int(arguments.point[1]), arguments.steps)))
        return
    rows = [row for form in FORMS for length in arguments.lengths for row in point(form, length, arguments)]
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")


def point(form: str, length: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure one point in a new process, which starts small: a child's peak begins with that of its parent."""
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, __file__, "--steps", str(arguments.steps), "--point", form, str(length)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{form:12} {length:5} events: {found['events_per_s']:8,.0f} events/s, {found['peak_gb']:5.2f} GB", flush=True
    )
    known = {
        "benchmark": "long_history",
        "dataset": "synthetic",
        "model": "argus mini",
        "protocol": "a training step of the real loop, sampled softmax",
        "settings": {"threads": arguments.threads, "steps": arguments.steps, "load": round(os.getloadavg()[0], 2)},
        "variant": f"{form}, history {length}",
        "low": None,
        "high": None,
        "k": None,
        "seeds": 1,
        "minutes": None,
        "commit": commit(),
        "machine": machine(f"{arguments.threads} threads"),
        "command": f"python benchmarks/long_history.py --threads {arguments.threads}",
    }
    for metric, value in found.items():
        yield known | {"metric": metric, "value": value}


def measure(form: str, length: int, steps: int) -> dict[str, float]:
    """Train some steps: events/s, GFLOP/s, and the peak of this process."""
    import torch
    from histories import make_chunks, make_objective

    from upnext.objectives.cost import StepShape, flops_of
    from upnext.training.loop import TrainingConfig, rehearse

    rows = max(1, TOKENS // length)
    chunks = make_chunks(rows * (steps + 1), length, 10 if "lists" in form else 1, NUM_ITEMS)
    cpu = torch.device("cpu")
    objective = make_objective("mini", form.split(",")[0], length, NUM_ITEMS, NUM_DRAWN, ROWS, cpu)
    config = TrainingConfig(tokens_per_batch=rows * (length + 1), device="cpu", epochs=1)
    started = time.perf_counter()
    timed = rehearse(objective, objective, chunks, config, lambda batches: range(len(batches)), limit_s=600)
    print(f"{time.perf_counter() - started:.0f} s for {len(timed.seconds)} steps", file=sys.stderr)
    seconds = sum(timed.seconds.values())
    events = rows * (length + 1) * len(timed.seconds)
    shape = StepShape(rows, length + 1, rows * (length + 1), rows * (length + 1), NUM_ITEMS)
    flops = flops_of(objective, shape).training * len(timed.seconds)
    return {
        "events_per_s": float(f"{events / seconds:.4g}"),
        "gflops_per_s": float(f"{flops / seconds / 1e9:.4g}"),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
    }


if __name__ == "__main__":
    main()
