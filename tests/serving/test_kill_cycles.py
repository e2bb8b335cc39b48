"""The benchmark that kills servers, on a small scale: it finds nothing lost, and it would find it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "kill_cycles.py"), "--folder", str(tmp_path / "runs"), "--cycles", "20"]
    command += ["--results", str(tmp_path / "rows.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {row["metric"]: row["value"] for row in json.loads((tmp_path / "rows.json").read_text())}
    assert figures["kills"] == 20
    assert figures["users compared at the end"] == 80
    assert figures["users compared after the next start"] == 76
    assert figures["users with events lost or doubled"] == 0
    assert figures["posts acknowledged"] > 20


@pytest.fixture
def kill_cycles(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("kill_cycles", BENCHMARKS / "kill_cycles.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "kill_cycles", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("change", "problems"), [("none", 0), ("unheard", 0), ("lost", 1), ("twice", 1), ("half", 1)])
def test_what_is_lost_or_doubled_is_found(kill_cycles: Any, change: str, problems: int) -> None:
    tally = kill_cycles.Tally(num_items=10, sent={"u": [0, 1, 2]}, acknowledged={"u": 2})
    acknowledged = [*tally.expected("u", 0), *tally.expected("u", 1)]
    unheard = tally.expected("u", 2)
    stored = {
        "none": acknowledged,
        "unheard": acknowledged + unheard,
        "lost": acknowledged[1:],
        "twice": [*acknowledged, acknowledged[0]],
        "half": acknowledged + unheard[:1],
    }
    tally.compare("u", stored[change])
    assert len(tally.problems) == problems
    assert tally.num_unheard == (change == "unheard")
