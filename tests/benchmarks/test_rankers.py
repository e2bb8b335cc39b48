"""benchmarks/rankers.py on a few events: its rows, over seeds and of latency."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PROJECT = """
workspace = "{folder}/work"

[simulate]
num_users = 60
num_items = 60
num_events = 3000
days = 12

[prepare.source]
kind = "simulated"

[prepare.split]
kind = "global_time"
validation = "2d"
test = "2d"

[aggregates]
counts = [{{ by = ["item"], what = "mean", feedback = "click" }}]

[pretrain.argus]
hold_back = "3d"
model = {{ kind = "argus", width = 8, layers = 1, heads = 1, max_length = 20 }}
training = {{ epochs = 1 }}

[rank.late]
kind = "boosted"
feedback = ["click"]
aggregates = "counts"
last = "3d"
training = {{ trees = 5 }}

[rank.told]
kind = "boosted"
feedback = ["click"]
aggregates = "counts"
scores = ["argus"]
training = {{ trees = 5 }}

[evaluate]
utility = {{ click = 1.0 }}
uplift = [{{ of = "told", over = "late" }}]
bootstrap_samples = 50
"""


def measure(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    file = folder / "tiny-rankers.toml"
    file.write_text(PROJECT.format(folder=folder))
    command = [sys.executable, str(ROOT / "benchmarks" / "rankers.py"), str(file), "--results", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads((folder / "rankers-tiny.json").read_text())
    return rows


def test_its_rows(tmp_path: Path) -> None:
    rows = measure(tmp_path, "--seeds", "0", "1", "--feedback", "click")
    of = {(row["model"], row["metric"], row["feedback"]): row for row in rows}
    assert len(of) == len(rows)
    models = {"argus", "late", "told", "oracle", "mean", "item rates"}
    assert {model for model, metric, _ in of if metric == "normalised_entropy"} == models
    assert {model for model, metric, _ in of if metric == "pair_accuracy"} >= {"argus", "late", "told", "oracle"}
    rise = of["told over late", "uplift", "utility"]
    assert len(rise["values"]) == rise["seeds"] == 2
    first = [of[name, "pair_accuracy", "utility"]["values"][0] for name in ("told", "late")]
    assert abs(rise["values"][0] - (first[0] / first[1] - 1)) < 1e-9
    assert {row["feedback"] for row in rows} == {"click", "utility"}

    # Of latency only rows are added, and those of other figures stay.
    later = measure(tmp_path, "--latency", "--models", "argus", "told")
    assert later[: len(rows)] == rows
    took = {(row["model"], row["metric"]): row["value"] for row in later[len(rows) :]}
    assert took.keys() == {(model, metric) for model in ("argus", "told") for metric in ("p50_ms", "p99_ms")}
    assert all(0 < took[model, "p50_ms"] <= took[model, "p99_ms"] for model in ("argus", "told"))
