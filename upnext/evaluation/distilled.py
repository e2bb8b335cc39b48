"""How well scores order example sets, and how well they tell the labels: teacher and students side by side.

Shape letters: I candidates, S sets.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.example_sets import ExampleSets
from upnext.evaluation.tables import Cell, Table
from upnext.events.impressions import pairs_within
from upnext.metrics.calibration import calibration_error
from upnext.metrics.classification import auc, log_loss, pair_accuracy
from upnext.metrics.intervals import bootstrap_over_users, bootstrap_ratio
from upnext.metrics.ranking import group_ndcg

__all__ = ["METRICS", "comparison_tables", "set_figures", "set_ndcg", "set_rows"]

METRICS = ("ndcg", "pair_accuracy", "auc", "log_loss", "calibration_error")
"""The figures, in the order in which they are shown; the last two need probabilities."""


def set_figures(sets: ExampleSets, scores: NDArray[np.float64], are_logits: bool) -> dict[str, float]:
    """NDCG, pair accuracy, AUC and, of logits, log-loss and calibration error.

    NDCG is the mean over the sets that have a label above the least of all, without a cut; a label y gains 2^y - 1.
    Pair accuracy is over all pairs of a set whose labels differ. The others are over all candidates, positive or not,
    those of sets without a positive one too.

    Args:     scores: (I,); are_logits: of the probability that a candidate is positive; else they only order.
    """
    pairs = pairs_within(sets.set, sets.label)
    ones, of_sets = np.ones(len(pairs)), set_ndcg(sets, scores)
    gaining = of_sets[~np.isnan(of_sets)]
    found = {
        "ndcg": float(gaining.mean()) if len(gaining) else float("nan"),
        "pair_accuracy": pair_accuracy(scores[pairs.better], scores[pairs.worse], ones),
        "auc": auc(scores, sets.is_positive),
    }
    if are_logits:
        probability, target = 1 / (1 + np.exp(-scores)), sets.is_positive.astype(np.float64)
        found["log_loss"] = float(log_loss(probability, target).mean())
        found["calibration_error"] = calibration_error(probability, target)
    return found


def set_ndcg(sets: ExampleSets, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) the NDCG of each set; NaN where nothing gains. A utility may be below 0, a gain not: the least has none."""
    least = sets.label.min(initial=0.0)
    return np.asarray(group_ndcg(scores, np.exp2(sets.label - least) - 1, sets.set))


def set_rows(
    sets: ExampleSets, scores: NDArray[np.float64], are_logits: bool, num_samples: int
) -> list[dict[str, Any]]:
    """The same as tidy rows: metric, value, low, high; 95 % intervals over owners where a figure is a mean."""
    figures = set_figures(sets, scores, are_logits)
    pairs = pairs_within(sets.set, sets.label)
    rightly = (scores[pairs.better] > scores[pairs.worse]) + 0.5 * (scores[pairs.better] == scores[pairs.worse])
    intervals = {
        "ndcg": bootstrap_over_users(set_ndcg(sets, scores), sets.owner, num_samples=num_samples),
        "pair_accuracy": bootstrap_ratio(
            rightly, np.ones(len(pairs)), sets.owner[sets.set[pairs.better]], num_samples=num_samples
        ),
    }
    if are_logits:
        losses = log_loss(1 / (1 + np.exp(-scores)), sets.is_positive.astype(np.float64))
        intervals["log_loss"] = bootstrap_over_users(losses, sets.owner[sets.set], num_samples=num_samples)
    return [
        {"metric": name, "value": value}
        | {end: getattr(intervals[name], end) if name in intervals else None for end in ("low", "high")}
        for name, value in figures.items()
    ]


_NAMES = {
    "ndcg": "NDCG",
    "pair_accuracy": "Pair accuracy",
    "auc": "AUC",
    "log_loss": "Log-loss",
    "calibration_error": "Calibration error",
}
_COSTS = {
    "parameters": ("Parameters", 1, 0),
    "size_bytes": ("Size, kB", 1e-3, 1),
    "p50_ms": ("Features there, ms, median", 1, 2),
    "p99_ms": ("99th percentile", 1, 2),
    "p50_computed_ms": ("Features computed, ms, median", 1, 2),
    "p99_computed_ms": ("99th percentile", 1, 2),
    "seconds": ("Training, seconds", 1, 1),
}


def comparison_tables(rows: Sequence[dict[str, Any]], costs: Mapping[str, Mapping[str, float]]) -> list[Table]:
    """Models by figures, and by what each costs.

    Args:     rows: of `set_rows`, with the model of each; costs: by model, those that are known.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    of = {(row["model"], row["metric"]): row for row in rows}

    def column(metric: str) -> list[Cell]:
        found = [of.get((model, metric), {"value": None, "low": None}) for model in models]
        values = [row["value"] for row in found if row["value"] is not None]
        best = (min if metric in ("log_loss", "calibration_error") else max)(values, default=None)
        return [
            Cell("–")
            if row["value"] is None
            else Cell(
                f"{row['value']:.4f}",
                "" if row["low"] is None else f"[{row['low']:.3f}, {row['high']:.3f}]",
                row["value"] == best,
            )
            for row in found
        ]

    columns = {metric: column(metric) for metric in METRICS}
    figures = Table(
        "Figures of the test part",
        "Brackets: 95 % intervals over owners. NDCG and pair accuracy are of the sets with different labels, the others"
        " of all candidates",
        "Model",
        [_NAMES[metric] for metric in METRICS],
        [(model, [columns[metric][row] for metric in METRICS]) for row, model in enumerate(models)],
    )
    lines = []
    for model in models:
        known = costs.get(model, {})
        cells = [Cell(f"{known[k] * by:,.{d}f}" if k in known else "–") for k, (_, by, d) in _COSTS.items()]
        lines.append((model, cells))
    note = (
        "One request for 500 candidates in the process that compares: with all that a model reads of them there, and,"
        " of a log, with the past read and encoded, aggregates counted and other models asked, as a server has it"
    )
    return [figures, Table("Cost", note, "Model", [name for name, _, _ in _COSTS.values()], lines)]
