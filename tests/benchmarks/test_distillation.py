"""benchmarks/distillation.py on few events: its baselines, shares of gains by hand, a whole run, costs of a request."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fitting.planted import planted
from upnext.base.batches import FlatColumn
from upnext.evaluation.distilled import METRICS

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
SERVICE = {"num_users": 60, "num_items": 60, "num_events": 3000, "days": 12}
PREPARE = {"source": {"kind": "simulated"}, "split": {"kind": "global_time", "validation": "2d", "test": "2d"}}
AGGREGATES = [{"by": ["item"], "what": "mean", "feedback": "click"}, {"by": ["user"]}]


@pytest.fixture
def distillation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module; it is no part of a package."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import distillation

    yield distillation
    for name in ("distillation", "distillation_data", "quality", "record"):
        sys.modules.pop(name, None)


def test_costs_of_a_log_and_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distillation: Any) -> None:
    import distillation_data

    monkeypatch.setattr(distillation, "_TURNS", 2)
    monkeypatch.setattr(distillation, "_REQUESTS", 10)
    examples = {"kind": "log", "label": "click", "aggregates": AGGREGATES}
    sets, log, aggregates = distillation_data._of_log(tmp_path, {"simulate": SERVICE, "prepare": PREPARE}, examples)
    settings: dict[str, Any] = {
        "folds": [sets],
        "teacher": {"kind": "boosted", "trees": 5, "least_in_leaf": 20},
        "teacher_order": [{"kind": "label_pairs"}],
        "members": 2,
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


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_single_feature_is_found_whichever_way_it_points(distillation: Any, sign: int) -> None:
    sets = planted(num_sets=120)
    signal = sets.features["signal"]
    turned = replace(sets, features={**sets.features, "signal": FlatColumn(sign * signal.values, signal.observed)})
    tested = distillation.part_of(turned, 2)
    said = distillation.best_feature(distillation.part_of(turned, 1), tested)
    order = np.argsort(sign * tested.features["signal"].values, kind="stable")
    np.testing.assert_array_equal(np.argsort(said, kind="stable"), order)
    # Calibrated on the validation part, its level is right on the test part too, but for the chance of 120 labels.
    assert (1 / (1 + np.exp(-said))).mean() == pytest.approx(tested.is_positive.mean(), abs=0.1)


def test_shares_of_the_gain_by_hand(distillation: Any) -> None:
    def run(ndcg: float) -> list[dict[str, float]]:
        return [{"ndcg": ndcg, "random_ndcg": 0.5}]

    (found,) = distillation.with_shares(run(0.85), run(0.8), run(0.7), run(0.9))
    shares = found["gain_kept"], found["gain_kept_over_feature"], found["gap_closed"]
    assert shares == pytest.approx((0.35 / 0.4, 0.15 / 0.2, 0.05 / 0.1))


def test_everybody_is_measured(distillation: Any) -> None:
    data = distillation.Data(
        "planted",
        "planted",
        "none",
        [planted(num_sets=48)],
        {"kind": "boosted", "trees": 3, "least_in_leaf": 5},
        [{"kind": "label_list"}],
        members=2,
        num_folds=2,
        student={"kind": "linear"},
        training={"epochs": 1},
        share=0.9,
        choosing=0.9,
    )
    chosen = distillation.choose_weights(data)
    assert set(chosen) == set(distillation.WAYS) - {distillation.ALONE}
    runs = [distillation.one_seed(data, seed, chosen) for seed in (0, 1)]
    costs = {who: {"p50_ms": cost} for who, cost in (("teacher", 8.0), (distillation.ALONE, 2.0))}
    rows = distillation.as_rows(data, runs, [0, 1], chosen, costs)
    of = {(row["model"], row["metric"]): row for row in rows}
    everybody = {"teacher", "pointwise teacher", distillation.FEATURE, *distillation.WAYS}
    assert {model for model, metric in of if metric in METRICS} == everybody
    assert of[distillation.ALONE, "latency_share"]["value"] == 0.25
    assert of["teacher", "gain_kept_over_feature"]["value"] == pytest.approx(1)
    assert of[distillation.FEATURE, "gain_kept_over_feature"]["value"] == pytest.approx(0)
