"""benchmarks/watch_time.py on a few events: its rows, and that tables can be made of them."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
results_page = importlib.import_module("results_tables").results_page  # a script of docs/, which is no package


def test_its_rows(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "watch_time.py"), "--results", str(tmp_path)]
    command += ["--users", "40", "--items", "60", "--events", "3000", "--epochs", "1", "--seeds", "0", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "watch_time.json").read_text())
    of = {(row["model"], row["metric"]): row for row in rows}
    assert len(of) == len(rows)
    models = ["approximate", "exact", "poisson", "mean", "item rates", "oracle"]
    for metric in ("mae", "rmse", "calibration", "calibration_error", "pair_accuracy", "utility_ndcg"):
        assert [name for name, one in of if one == metric] == models
    assert of["exact", "rmse"]["seeds"] == len(of["exact", "rmse"]["values"]) == 2
    assert of["exact", "rmse"]["seeds_reach"] > 0
    assert of["oracle", "pair_accuracy"]["value"] > of["mean", "pair_accuracy"]["value"] == 0.5
    page = results_page(rows)
    assert "## Watch time" in page
    assert all(f"| {name} | " in page for name in models)
