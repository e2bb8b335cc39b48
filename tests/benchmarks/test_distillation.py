"""benchmarks/distillation.py on a few events: what it measures of a request, with features there and computed."""

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
SERVICE = {"num_users": 60, "num_items": 60, "num_events": 3000, "days": 12}
PREPARE = {"source": {"kind": "simulated"}, "split": {"kind": "global_time", "validation": "2d", "test": "2d"}}
AGGREGATES = [{"by": ["item"], "what": "mean", "feedback": "click"}, {"by": ["user"]}]


def test_costs_of_a_log_and_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import distillation
    import distillation_data

    monkeypatch.setattr(distillation, "_TURNS", 2)
    monkeypatch.setattr(distillation, "_REQUESTS", 10)
    examples = {"kind": "log", "label": "click", "aggregates": AGGREGATES}
    sets, log, aggregates = distillation_data._of_log(tmp_path, {"simulate": SERVICE, "prepare": PREPARE}, examples)
    settings: dict[str, Any] = {
        "folds": [sets],
        "teacher": {"kind": "boosted", "trees": 5, "least_in_leaf": 20},
        "teacher_order": [{"kind": "label_pairs"}],
        "members": 1,
        "num_folds": 2,
        "student": {"kind": "linear"},
        "training": {"epochs": 1},
    }
    of_log = distillation.costs(distillation_data.Data("x", "x", "", log=log, aggregates=aggregates, **settings))
    of_files = distillation.costs(distillation_data.Data("x", "x", "", **settings))
    there = {"parameters", "size_kb", "p50_ms", "p99_ms"}
    assert of_log.keys() == of_files.keys() == {"teacher", "pointwise teacher", "student alone"}
    for who, found in of_log.items():
        assert found.keys() == there | {"p50_computed_ms", "p99_computed_ms"}
        assert of_files[who].keys() == there
        assert min(found.values()) > 0
    for name in ("distillation", "distillation_data", "quality", "record"):
        sys.modules.pop(name, None)
