"""benchmarks/masked_sweep.py on a few events: a row per weight and rate, beside the ranker without masks."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_its_rows(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "masked_sweep.py")]
    command += [str(ROOT / "examples" / "simulated-rankers.toml"), "--results", str(tmp_path)]
    command += ["--weights", "0.5", "--rates", "0.05", "0.4", "--seeds", "0", "1"]
    command += ["--set", "simulate.num_events=4000", "simulate.num_users=80", "simulate.num_items=60"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "masked_sweep-simulated.json").read_text())
    assert [row["variant"] for row in rows] == ["no masks", "w1 = 0.5, rate 0.05", "w1 = 0.5, rate 0.4"]
    for row in rows:
        assert 0 < row["low"] < row["value"] < row["high"]  # of two seeds
        assert row["command"].endswith("--set simulate.num_events=4000 simulate.num_users=80 simulate.num_items=60")
    assert len({row["value"] for row in rows}) == 3
