"""benchmarks/attenuation.py on a few events: its rows and its plot."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_its_rows(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    command = [sys.executable, str(ROOT / "benchmarks" / "attenuation.py"), "--layers", "1", "2", "--epochs", "1"]
    command += ["--events", "3000", "--docs", str(tmp_path), "--workspace", str(tmp_path / "work")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    of: dict[str, dict[str, float]] = {}
    for row in json.loads((tmp_path / "results" / "attenuation.json").read_text()):
        of.setdefault(row["variant"], {})[row["metric"]] = row["value"]
    assert list(of) == [f"{layers} layers, {how}" for layers in (1, 2) for how in ("plain", "masked")]
    for variant, found in of.items():
        deepest = int(variant[0])
        assert found["validation_loss"] > 0
        assert found[f"gradient of watched, layer {deepest}"] > 0
        assert f"gradient of watched, layer {deepest + 1}" not in found
        assert {"gap of watched", "gap of not_watched", "gap of time", "gradient of output"} < found.keys()
    assert "<svg" in (tmp_path / "images" / "attenuation.svg").read_text()
