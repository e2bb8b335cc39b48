"""benchmarks/attenuation.py on a few events: its rows and its plot."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
results_page = importlib.import_module("results_tables").results_page  # a script of docs/, which is no package


def test_its_rows(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    command = [sys.executable, str(ROOT / "benchmarks" / "attenuation.py"), "--layers", "0", "2", "--epochs", "1"]
    command += ["--events", "4000", "--items", "60", "--seeds", "0", "1"]
    command += ["--docs", str(tmp_path), "--workspace", str(tmp_path / "work")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(2):  # the second finds what the first trained
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    of: dict[str, dict[str, dict[str, Any]]] = {}
    rows = json.loads((tmp_path / "results" / "attenuation.json").read_text())
    for row in rows:
        of.setdefault(row["variant"], {})[row["metric"]] = row
    assert list(of) == ["sums, plain", "2 layers, plain", "2 layers, masked"]
    for name, found in of.items():
        assert found["test_loss"]["low"] < found["test_loss"]["value"] < found["test_loss"]["high"]
        assert {"gap of watched", "gap of dropped", "gap of time", "gradient of output"} < found.keys()
        assert ("gradient of watched, layer 2" in found) == (name != "sums, plain")
    masked, plain = of["2 layers, masked"], of["2 layers, plain"]
    change = masked["test_loss"]["values"][0] - plain["test_loss"]["values"][0]
    assert masked["test_loss, against plain"]["values"][0] == pytest.approx(change, abs=1e-3)
    assert "<svg" in (tmp_path / "images" / "attenuation.svg").read_text()
    page = results_page(rows)
    shown = "{value:+.4f} [{low:+.4f}, {high:+.4f}]".format(**masked["test_loss, against plain"])
    assert f" | {shown} | " in page
    assert "Other measurements" not in page
