"""benchmarks/masked_sweep.py on a few events: its rows, and that nothing is trained twice."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
results_page = importlib.import_module("results_tables").results_page  # a script of docs/, which is no package
PROJECT = """
workspace = "elsewhere"

[simulate]
num_users = 40
num_items = 60
num_events = 2000
days = 12

[prepare.source]
kind = "simulated"

[prepare.split]
kind = "global_time"
validation = "2d"
test = "2d"

[prepare.views]
watched = "click == 1"

[pretrain.popular]
model = { kind = "popular" }

[rank.masked]
kind = "main"
feedback = ["click"]
training = { epochs = 1 }
masked = { rate = 0.1 }
[rank.masked.model]
width = 8
aggregators = { watched = { kind = "self_attention", view = "watched", length = 8, layers = 1 } }
"""


def test_its_rows(tmp_path: Path) -> None:
    (tmp_path / "tiny-rankers.toml").write_text(PROJECT)
    command = [sys.executable, str(ROOT / "benchmarks" / "masked_sweep.py"), "tiny-rankers.toml"]
    command += ["--weights", "0.1", "--rates", "0.05", "0.5", "--seeds", "0", "1", "--results", "."]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads((tmp_path / "masked_sweep-tiny.json").read_text())
        models = sorted((tmp_path / "runs/masked-sweep/tiny-rankers/artifacts").glob("model-*"))
        found.append((rows, models))
    assert found[0] == found[1]  # the second run finds what the first trained
    rows, models = found[0]
    assert len(models) == 6
    assert [row["variant"] for row in rows] == ["no masks", "w1 = 0.1, rate 0.05", "w1 = 0.1, rate 0.5"]
    for row in rows:
        assert 0 < row["low"] < row["value"] < row["high"]
        assert row["seeds"] == 2
    assert len({row["value"] for row in rows}) == 3
    assert "| masked sweep | tiny-rankers | masked | w1 = 0.1, rate 0.5 | validation_loss |" in results_page(rows)
