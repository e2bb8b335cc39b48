"""How fast every user of a release gets its recommendations: `upnext recommend --all`, beside the machine's limit.

    python benchmarks/batch_scoring.py --folder runs/batch-scoring

A synthetic release (a SASRec with random weights, random histories) is made once in the folder and used again. What
is timed is everything after the release is loaded: histories from the store, encoding, scoring the whole catalogue,
selection, the Parquet file. In the same run a bare product of random matrices of the same size with `torch.topk`
shows what the machine could do at best if there was nothing else to do. Rows go to docs/results/batch_scoring.json.
"""

import argparse
import contextlib
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import commit, machine
from rich.console import Console
from synthetic import ReleaseSize, made_release

from upnext.commands.recommend import write_all
from upnext.serving.everyone import recommend_everyone
from upnext.serving.histories import Histories
from upnext.serving.release import Release

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "batch_scoring.json"
NOW = 1_800_000_000_000


def main() -> None:
    """Make the release if need be, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/batch-scoring"), help="where the release lies")
    parser.add_argument("--users", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=46_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--mean-length", type=int, default=30, help="mean length of a history (geometric)")
    parser.add_argument("--max-length", type=int, default=50, help="the longest history that the model reads")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = {key: getattr(arguments, key) for key in ("users", "items", "width", "mean_length", "max_length")}
    release = Release.load(made_release(arguments.folder, ReleaseSize(**config)).folder)
    load = os.getloadavg()[0]
    ours, bare = Times([], []), Times([], [])
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.runs):  # by turns, so that both meet the same neighbours
            out = Path(folder) / "recs.parquet"
            with ours.measuring():
                histories = Histories(release, None)
                blocks = recommend_everyone(release, histories, NOW, arguments.k)
                write_all(histories, blocks, out, Console(stderr=True))
            with bare.measuring():
                bare_product(arguments.users, arguments.items, arguments.width, arguments.k)
            print(f"everyone {ours.wall[-1]:.1f} s, bare product and topk {bare.wall[-1]:.1f} s", flush=True)
    release.histories.close()
    settings = config | {"threads": arguments.threads, "runs": arguments.runs, "load_before": round(load, 2)}
    rows = as_rows(arguments, settings, ours, bare)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['variant']:32} {row['metric']:12} {row['value']:g} [{row['low']:g}, {row['high']:g}]")


@dataclass(frozen=True)
class Times:
    """Seconds on the clock, and of the processors: beside other jobs the second says what an idle machine needs."""

    wall: list[float]
    cpu: list[float]

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Time a block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def bare_product(users: int, items: int, width: int, k: int, rows: int = 512) -> None:
    """Scores of random vectors and torch.topk, a block of users at a time."""
    queries, vectors = torch.randn(users, width), torch.randn(items, width)
    scores = torch.empty(rows, items)
    with torch.inference_mode():
        for begin in range(0, users, rows):
            block = queries[begin : begin + rows]
            torch.mm(block, vectors.T, out=scores[: len(block)]).topk(k)


def as_rows(arguments: argparse.Namespace, settings: dict[str, Any], ours: Times, bare: Times) -> list[dict[str, Any]]:
    """A row per figure: the median over runs, with the fastest and the slowest."""
    known = {
        "benchmark": "batch_scoring",
        "dataset": f"synthetic, {arguments.users:,} users, {arguments.items:,} items",
        "protocol": f"release loaded, wall clock to the finished file, {arguments.runs} runs by turns, median;"
        f" the machine's load was {settings['load_before']} at the start",
        "model": "sasrec",
        "settings": settings | {"answers": arguments.k},
        "k": None,
        "seeds": 1,
        "minutes": None,
        "command": f"python benchmarks/batch_scoring.py --users {arguments.users} --items {arguments.items}"
        f" --threads {arguments.threads} --runs {arguments.runs}",
        "commit": commit(),
        "machine": machine(f"{arguments.threads} threads"),
    }
    figures = [("recommend --all / bare", "ratio", [a / b for a, b in zip(ours.wall, bare.wall, strict=True)])]
    for variant, times in (("recommend --all", ours), ("bare matmul and torch.topk", bare)):
        figures += [
            (variant, "seconds", times.wall),
            (variant, "users_per_s", [arguments.users / seconds for seconds in times.wall]),
            (variant, "cpu_seconds", times.cpu),
        ]
    return [
        known
        | {
            "variant": variant,
            "metric": metric,
            "value": round(float(np.median(some)), 3),
            "low": round(min(some), 3),
            "high": round(max(some), 3),
        }
        for variant, metric, some in figures
    ]


if __name__ == "__main__":
    main()
