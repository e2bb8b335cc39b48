"""Speed and memory of `prepare`: Globo's clicks as published, and copies of them with users of their own.

    UPNEXT_DATA=… python benchmarks/prepare_speed.py --copies 1 4

Each run is a process of its own, so that its peak of memory is its own. Reading the Parquet file with Polars in
another process, just before, says how fast the machine is at that moment. Results become rows of
`docs/results/prepare.json`. Run nothing else meanwhile.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from record import commit, machine

from upnext.base.artifacts import Workspace
from upnext.base.configuration import parse_config
from upnext.events.sources.files import resolve_path
from upnext.pipeline import prepare

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "prepare.json"
CLICKS = "${UPNEXT_DATA}/globo-news/globo_clicks.parquet"
REPEATS = 3


def main() -> None:
    """Measure each number of copies and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--child", choices=("read", "prepare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(json.dumps(_child(arguments.child, arguments.folder)))
        return
    command = f"python benchmarks/prepare_speed.py --copies {' '.join(map(str, arguments.copies))}"
    rows = [row | {"command": command} for copies in arguments.copies for row in measure(copies)]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['dataset']:24} {row['variant']:12} {row['metric']:20} {row['value']:g}")


def measure(copies: int) -> list[dict[str, Any]]:
    """Rows of one size: the median of three runs, from the fastest to the slowest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_events = replicate(copies, folder)
        reads, runs = [], []
        for _ in range(REPEATS):
            reads.append(_run("read", folder))
            runs.append(_run("prepare", folder))
    known = {
        "benchmark": "prepare",
        "dataset": "globo" if copies == 1 else f"globo, replicated {copies}x",
        "protocol": f"{num_events:,} events; each run a process of its own, the median of {REPEATS}",
        "model": "prepare",
        "settings": {"copies": copies, "POLARS_MAX_THREADS": os.environ.get("POLARS_MAX_THREADS")},
        "k": None,
        "seeds": REPEATS,
        "minutes": None,
        "commit": commit(),
        "machine": machine(f"{os.cpu_count()} cores, shared", packages=("polars",)),
    }
    seconds = [run["seconds"] for run in runs]
    figures = {
        ("prepare", "seconds"): seconds,
        ("prepare", "peak_gb"): [run["peak_gb"] for run in runs],
        ("prepare", "events_per_s"): [num_events / second for second in seconds],
        ("only reading", "seconds"): [read["seconds"] for read in reads],
        ("only reading", "peak_gb"): [read["peak_gb"] for read in reads],
        ("prepare", "seconds_per_reading"): [s / r["seconds"] for s, r in zip(seconds, reads, strict=True)],
    }
    return [
        known | {"variant": variant, "metric": metric} | _spread(values)
        for (variant, metric), values in figures.items()
    ]


def _spread(values: list[float]) -> dict[str, float]:
    ordered = [float(f"{value:.4g}") for value in sorted(values)]
    return {"value": ordered[len(ordered) // 2], "low": ordered[0], "high": ordered[-1]}


def replicate(copies: int, folder: Path) -> int:
    """Write the clicks as often as asked, the users of each copy under ids of their own; returns the rows."""
    clicks = pl.read_parquet(resolve_path(CLICKS))
    first = int(clicks["user_id"].max()) + 1  # type: ignore[arg-type]
    frames = [clicks.with_columns(pl.col("user_id") + copy * first) for copy in range(copies)]
    whole = pl.concat(frames, rechunk=True)
    whole.write_parquet(folder / "globo_clicks.parquet")
    return whole.height


def _run(what: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _child(what: str, folder: Path) -> dict[str, float]:
    """One run, in a process that does nothing else; modules are loaded before the clock starts."""
    source = {"kind": "globo", "path": str(folder)}
    config = parse_config(prepare.PrepareConfig, {"source": source}, "benchmark")
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        start = time.perf_counter()
        if what == "read":
            pl.read_parquet(folder / "globo_clicks.parquet")
        else:
            prepare.run(config, Workspace(Path(workspace)))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_gb": _peak_gb()}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
