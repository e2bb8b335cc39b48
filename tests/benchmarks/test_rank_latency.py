"""benchmarks/rank_latency.py on a few events: every ranker answers pages, and each has its rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_each_ranker_has_its_milliseconds(tmp_path, compiler):
    out = tmp_path / "rows.json"
    sizes = {"users": 100, "items": 200, "events": 4000, "trees": 3, "pages": 4, "candidates": 30}
    given = [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    done = subprocess.run(
        [sys.executable, "benchmarks/rank_latency.py", "--folder", tmp_path / "work", "--results", out, *given],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = {(row["model"], row["metric"]): row for row in json.loads(out.read_text())}
    models = {"argus", "trees", "student", "student, compiled"}
    assert {model for model, _ in rows} == models
    for model in models:
        values = [rows[model, f"p{percent}_ms"]["value"] for percent in (50, 90, 99)]
        assert 0 < values[0] <= values[1] <= values[2]
        assert rows[model, "p50_ms"]["variant"].startswith("30 candidates a row")
