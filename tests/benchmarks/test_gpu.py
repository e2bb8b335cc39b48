"""benchmarks/gpu.py: what it says without a GPU, and that its rows are right, tried on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent


def gpu(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = gpu("--results", tmp_path / "gpu.json")
    assert done.returncode == 2
    assert "this machine has no CUDA device" in done.stderr
    assert "--device cpu" in done.stderr
    assert not (tmp_path / "gpu.json").exists()


def test_its_rows(tmp_path: Path) -> None:
    small = ("--device", "cpu", "--events", 64, "--steps", 2, "--results", tmp_path / "gpu.json")
    done = gpu(*small, "--sizes", "1x16", "--lengths", 16, 32, "--peak-tflops", 0.5)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())
    of: dict[str, dict[str, float]] = {}
    for row in rows:
        of.setdefault(row["variant"], {})[row["metric"]] = row["value"]
    assert list(of) == [f"1x16, {form}, history {length}" for length in (16, 32) for form in ("simplified", "full")]
    for found in of.values():
        assert found["events_per_s"] > 0
        assert found["utilisation"] == pytest.approx(found["tflops_per_s"] / 0.5, rel=2e-3)
        assert found["peak_gb"] > 0.1
    # Per event, two sizes of history differ by attention alone; the softmax is most of so small a model.
    per_event = {label: found["tflops_per_s"] / found["events_per_s"] for label, found in of.items()}
    for form in ("simplified", "full"):
        short, long = (per_event[f"1x16, {form}, history {length}"] for length in (16, 32))
        assert 0.9 * short < long < 1.1 * short
    for row in rows:
        assert {"benchmark", "dataset", "protocol", "settings", "low", "high", "k", "seeds", "minutes"} <= row.keys()
        assert {"commit", "machine", "command", "model"} <= row.keys()


def test_a_device_without_a_known_peak_has_no_utilisation(tmp_path: Path) -> None:
    small = ("--device", "cpu", "--events", 32, "--steps", 1, "--results", tmp_path / "gpu.json")
    done = gpu(*small, "--sizes", "1x16", "--lengths", 16, "--forms", "simplified")
    assert done.returncode == 0, done.stderr
    assert "give --peak-tflops" in done.stderr
    metrics = {row["metric"] for row in json.loads((tmp_path / "gpu.json").read_text())}
    assert metrics == {"events_per_s", "tflops_per_s", "peak_gb"}


def test_a_size_that_is_none(tmp_path: Path) -> None:
    done = gpu("--sizes", "2x", "--results", tmp_path / "gpu.json")
    assert done.returncode == 2
    assert "'2x' is no size; write mini, small, medium, large, or layers x width" in done.stderr
