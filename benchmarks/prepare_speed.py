"""Speed and memory of `prepare`: Globo's clicks as published, and copies of them with users of their own.

    UPNEXT_DATA=… python benchmarks/prepare_speed.py --copies 1 4
    UPNEXT_DATA=… python benchmarks/prepare_speed.py --copies 16 --memory-limit "2 GB" --repeats 1 --add

With a limit, `memory_limit` is set to it, and the kernel refuses the process more private address space than that and
4.5 GB (RLIMIT_DATA), which allocators reserve and do not use: what holds the log in memory fails. `peak_gb` is all that
lay in memory at one moment, with mapped files that the kernel may take back; `peak_private_gb`, looked at every 20 ms,
is without them. `--add` keeps the rows that are there and were measured otherwise.

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
import pyarrow.parquet as pq
from record import commit, machine

from upnext.base.artifacts import Workspace
from upnext.base.configuration import parse_config
from upnext.events.sources.files import resolve_path
from upnext.pipeline import prepare

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "prepare.json"
CLICKS = "${UPNEXT_DATA}/globo-news/globo_clicks.parquet"
REPEATS = 3
RESERVED = 4_500_000_000


def main() -> None:
    """Measure each number of copies and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--memory-limit", help='such as "2 GB"')
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--add", action="store_true", help="keep rows of other sizes and limits")
    parser.add_argument("--child", choices=("read", "prepare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(json.dumps(_child(arguments.child, arguments.folder, arguments.memory_limit)))
        return
    limit, repeats = arguments.memory_limit, arguments.repeats
    command = f"python benchmarks/prepare_speed.py --copies {' '.join(map(str, arguments.copies))}"
    command += f' --memory-limit "{limit}"' if limit else ""
    command += f" --repeats {repeats}" if repeats != REPEATS else ""
    rows = [row | {"command": command} for copies in arguments.copies for row in measure(copies, limit, repeats)]
    measured = {(row["dataset"], row["protocol"]) for row in rows}
    before = json.loads(RESULTS.read_text()) if arguments.add else []
    rows = [row for row in before if (row["dataset"], row["protocol"]) not in measured] + rows
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['dataset']:24} {row['variant']:12} {row['metric']:20} {row['value']:g}")


def measure(copies: int, limit: str | None, repeats: int) -> list[dict[str, Any]]:
    """Rows of one size: the median of the runs, from the fastest to the slowest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_events = replicate(copies, folder)
        reads, runs = [], []
        for _ in range(repeats):
            reads.append(_run("read", folder, None))
            runs.append(_run("prepare", folder, limit))
    within = "" if limit is None else f"; memory_limit = {limit}, enforced"
    known = {
        "benchmark": "prepare",
        "dataset": "globo" if copies == 1 else f"globo, replicated {copies}x",
        "protocol": f"{num_events:,} events; each run a process of its own, the median of {repeats}{within}",
        "model": "prepare",
        "settings": {
            "copies": copies,
            "memory_limit": limit,
            "POLARS_MAX_THREADS": os.environ.get("POLARS_MAX_THREADS"),
        },
        "k": None,
        "seeds": repeats,
        "minutes": None,
        "commit": commit(),
        "machine": machine(f"{os.cpu_count()} cores, shared", packages=("polars",)),
    }
    seconds = [run["seconds"] for run in runs]
    figures = {
        ("prepare", "seconds"): seconds,
        ("prepare", "peak_gb"): [run["peak_gb"] for run in runs],
        ("prepare", "peak_private_gb"): [run["peak_private_gb"] for run in runs],
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
    with pq.ParquetWriter(folder / "globo_clicks.parquet", clicks.to_arrow().schema) as writer:
        for copy in range(copies):
            writer.write_table(clicks.with_columns(pl.col("user_id") + copy * first).to_arrow(), row_group_size=2**18)
    return clicks.height * copies


def _run(what: str, folder: Path, limit: str | None) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--folder", str(folder)]
    command += ["--memory-limit", limit] if limit is not None else []
    private = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            private = max(private, _private_kb(child.pid))
            time.sleep(0.02)
        assert child.returncode == 0, child.returncode
        assert child.stdout is not None
        found: dict[str, float] = json.loads(child.stdout.read().splitlines()[-1])
    return found | {"peak_private_gb": private * 1024 / 1e9}


def _private_kb(process: int) -> int:
    """What a process has in memory that is no mapped file; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def _child(what: str, folder: Path, limit: str | None) -> dict[str, float]:
    """One run, in a process that does nothing else; modules are loaded before the clock starts."""
    settings: dict[str, Any] = {"source": {"kind": "globo", "path": str(folder)}, "memory_limit": limit}
    config = parse_config(prepare.PrepareConfig, settings, "benchmark")
    if config.memory_limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (config.memory_limit + RESERVED,) * 2)
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        start = time.perf_counter()
        if what == "read":
            for _ in pl.scan_parquet(folder / "globo_clicks.parquet").collect_batches(chunk_size=250_000):
                pass
        else:
            prepare.run(config, Workspace(Path(workspace)))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_gb": _peak_gb()}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
