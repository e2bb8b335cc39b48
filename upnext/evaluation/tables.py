"""The tables of a report: what stands in their cells, in words and figures, whatever page they are put on.

Models come in one order everywhere: the best NDCG at the first k first, the oracle last.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from upnext.evaluation.insights import BASELINES, ORACLE, shown_models
from upnext.evaluation.plots import Dot
from upnext.evaluation.report import Report
from upnext.evaluation.segments import FEWEST_USERS
from upnext.evaluation.utility import UTILITY

__all__ = [
    "TREATMENTS",
    "Cell",
    "Figures",
    "Table",
    "costs",
    "difference_table",
    "feedback_tables",
    "label",
    "next_item_tables",
    "popularity_table",
    "segment_tables",
    "short",
    "signed",
    "stage_table",
]

TREATMENTS = {True: "History removed from the ranking", False: "History kept in the ranking"}
_METRICS = {"hr": "HR", "ndcg": "NDCG", "mrr": "MRR", "recall": "Recall", "coverage": "Coverage"}
_COSTS = {
    "parameters": "Parameters",
    "seed": "Seed",
    "epochs": "Epochs",
    "seconds": "Training, seconds",
    "events_per_s": "Events/s",
    "rank_seconds": "Ranking, seconds",
}
_FEEDBACK = {
    "normalised_entropy": "Normalised entropy",
    "log_loss": "Log-loss",
    "auc": "AUC",
    "user_auc": "AUC within users",
    "mae": "Absolute error",
    "rmse": "Root mean squared error",
    "calibration": "Predicted / observed",
    "calibration_error": "Calibration error",
    "pair_accuracy": "Pair accuracy",
    "user_pair_accuracy": "Pair accuracy, mean of users",
    "utility_ndcg": "NDCG",
    "behind": "Behind the best",
    "ndcg_behind": "Behind in NDCG",
}
_STAGES = {
    "retrieved_ndcg": "NDCG@{k} as found",
    "ndcg": "NDCG@{k} as ranked",
    "lift": "Lift",
    "possible_ndcg": "NDCG@{k} that could be",
}
_NOTHING = "–"
_TOO_FEW = "too few users"


@dataclass(frozen=True)
class Cell:
    """A figure as text, its interval as text or empty, and whether it is the best of those it competes with."""

    value: str
    interval: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """A heading, a note, and lines of cells, each with a name; `first` is the heading of the names."""

    heading: str
    note: str
    first: str
    columns: list[str]
    lines: list[tuple[str, list[Cell]]]


class Figures:
    """The report's rows by what they measure, and the order of models and of k."""

    def __init__(self, report: Report) -> None:
        self._rows = {(row["model"], row["history_removed"], row["metric"], row["k"]): row for row in report.rows}
        self.ks = list(dict.fromkeys(row["k"] for row in report.rows))
        primary = report.primary_history_removed
        others = [removed for _, removed, _, _ in self._rows if removed != primary]
        self.treatments = list(dict.fromkeys([primary, *others]))
        names = list(dict.fromkeys(row["model"] for row in report.rows))

        def rank(name: str) -> tuple[bool, float]:
            value = self.get(name, primary, "ndcg", self.ks[0])[0]
            return name == ORACLE, math.inf if math.isnan(value) else -value

        self.models = sorted(names, key=rank)
        kinds = {name: entry.get("config", {}).get("model", {}).get("kind") for name, entry in report.models.items()}
        self.baselines = [name for name in self.models if kinds.get(name) in BASELINES]

    @property
    def shown(self) -> list[str]:
        """The models that plots show."""
        return shown_models([name for name in self.models if name != ORACLE], self.baselines)

    def get(self, model: str, removed: bool, metric: str, k: int) -> tuple[float, float | None, float | None]:
        """A value, NaN where there is none, and the ends of its interval, None where there is none."""
        return _ends(self._rows.get((model, removed, metric, k), {}))

    def dots(self, removed: bool, metric: str, k: int) -> list[Dot]:
        """One metric of every model that has it, ready to draw."""
        found = [(name, *self.get(name, removed, metric, k)) for name in self.models]
        best = max((value for name, value, _, _ in found if name != ORACLE and not math.isnan(value)), default=None)
        return [
            Dot(name, value, low, high, "oracle" if name == ORACLE else "best" if value == best else "model")
            for name, value, low, high in found
            if not math.isnan(value)
        ]

    def table(self, removed: bool, k: int) -> Table:
        """Models by metrics."""
        rows = [row for (_, treatment, _, row_k), row in self._rows.items() if (treatment, row_k) == (removed, k)]
        metrics = [metric for metric in _METRICS if any(row["metric"] == metric for row in rows)]
        columns = [
            _compared([(name, *self.get(name, removed, metric, k)) for name in self.models]) for metric in metrics
        ]
        counts = [f"{row[count]:,} {count}" for row in rows[:1] for count in ("cases", "users") if count in row]
        return Table(
            f"Top {k}",
            ", ".join([TREATMENTS[removed], *counts]),
            "Model",
            [f"{_METRICS[metric]}@{k}" for metric in metrics],
            [(label(name), [column[row] for column in columns]) for row, name in enumerate(self.models)],
        )


def difference_table(report: Report) -> Table | None:
    """Each model less the best baseline, metric by metric."""
    rows = report.insights.differences
    if not rows:
        return None
    metrics, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("metric", "model"))
    by_key = {(row["model"], row["metric"]): row for row in rows}

    def cell(row: dict[str, Any]) -> Cell:
        value, low, high = _ends(row)
        ends = "" if low is None or high is None else f"[{signed(low)}, {signed(high)}]"
        return Cell(_NOTHING if math.isnan(value) else signed(value), ends)

    return Table(
        f"Difference to {rows[0]['baseline']}",
        "The same cases for both, drawn together: what makes a user hard for both cancels",
        "Model",
        [f"{_METRICS[metric]}@{rows[0]['k']}" for metric in metrics],
        [(name, [cell(by_key[name, metric]) for metric in metrics]) for name in names],
    )


def segment_tables(report: Report, figures: Figures, metric: str = "ndcg") -> list[Table]:
    """One table per dimension: segments by models."""
    rows = [row for row in report.insights.segments if row["metric"] == metric]
    tables = []
    for dimension in dict.fromkeys(row["dimension"] for row in rows):
        of = {(row["segment"], row["model"]): row for row in rows if row["dimension"] == dimension}
        models = [name for name in figures.models if any(model == name for _, model in of)]
        lines = []
        for segment in dict.fromkeys(segment for segment, _ in of):
            found = [of[segment, name] for name in models]
            counts = [Cell(f"{found[0][count]:,}") for count in ("cases", "users")]
            if found[0]["users"] < FEWEST_USERS:
                lines.append((segment, [*counts, *[Cell(_TOO_FEW)] * len(models)]))
            else:
                cells = _compared([(name, *_ends(row)) for name, row in zip(models, found, strict=True)])
                lines.append((segment, [*counts, *cells]))
        note = report.insights.segment_notes.get(dimension, "")
        tables.append(Table(dimension, note, "Segment", ["Cases", "Users", *models], lines))
    return tables


def popularity_table(report: Report, figures: Figures) -> Table | None:
    """What people chose and what each model recommends: how popular, how evenly."""
    rows = {row["model"]: row for row in report.insights.popularity}
    if not rows:
        return None
    tenth, coverage = "From the most popular tenth", "Share of the catalogue"
    lines = [
        (
            "what people chose" if name is None else label(name),
            [
                Cell(_percent(rows[name]["shares"][0])),
                Cell(_number(rows[name]["popularity_rank"], 0)),
                Cell(_number(rows[name]["gini"], 3)),
                Cell(_percent(rows[name]["coverage"])),
            ],
        )
        for name in (None, *figures.models)
        if name in rows
    ]
    k = next(iter(rows.values()))["k"]
    note = f"The first {k} of every list; popularity is the number of training events"
    return Table("By model", note, "Of", [tenth, "Average popularity rank", "Gini index", coverage], lines)


def costs(report: Report, figures: Figures) -> Table | None:
    """What each model took, in the order of the tables; columns that no model fills are left out."""
    names = sorted(report.models, key=lambda name: figures.models.index(name) if name in figures.models else math.inf)
    entries = {name: report.models[name] | {"seed": _seed(report.models[name])} for name in names if name != ORACLE}
    keys = [key for key in _COSTS if any(entry.get(key) is not None for entry in entries.values())]

    def shown(entry: dict[str, Any], key: str) -> Cell:
        value = entry.get(key)
        return Cell(_number(value, 1 if key.endswith("seconds") and (value or 0) < 100 else 0))

    note = "What training took, and the ranking of all cases; what is only counted is not trained"
    lines = [(name, [shown(entry, key) for key in keys]) for name, entry in entries.items()]
    return Table("Cost", note, "Model", [_COSTS[key] for key in keys], lines) if keys else None


def short(value: float) -> str:
    """A figure for a sentence."""
    return f"{value:.3f}" if abs(value) >= 0.00995 or value == 0 else f"{value:.5f}"


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def label(model: str) -> str:
    """A model's name for a reader."""
    return "oracle (the simulation's truth)" if model == ORACLE else model


def _compared(found: Iterable[tuple[str, float, float | None, float | None]]) -> list[Cell]:
    """Figures of several models: name, value, low, high. The best are marked, all that print alike."""
    found = list(found)
    widths = [high - low for _, _, low, high in found if low is not None and high is not None]
    digits = 3 if min(widths, default=1.0) >= 0.005 else 4  # more where three would hide the width
    values = [_number(value, 4) for _, value, _, _ in found]
    rivals = {text for (name, *_), text in zip(found, values, strict=True) if name != ORACLE} - {_NOTHING}
    best = max(rivals - {_number(0.0, 4)}, key=float, default=None)  # nobody is best at nothing
    return [
        Cell(
            text,
            "" if low is None else f"[{_number(low, digits)}, {_number(high, digits)}]",
            name != ORACLE and text == best,
        )
        for text, (name, _, low, high) in zip(values, found, strict=True)
    ]


def _seed(model: dict[str, Any]) -> int | None:
    """The seed of a trained model; what is counted has none, whatever its configuration says."""
    seed: int | None = model.get("config", {}).get("training", {}).get("seed")
    return seed if "epochs" in model else None


def _ends(row: dict[str, Any]) -> tuple[float, float | None, float | None]:
    value, low, high = (row.get(name) for name in ("value", "low", "high"))
    if value is None or low is None or high is None or math.isnan(low + high):
        low = high = None
    return math.nan if value is None else float(value), low, high


def _number(value: float | None, digits: int) -> str:
    return _NOTHING if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def _percent(share: float | None) -> str:
    return _NOTHING if share is None else f"{share:.1%}"


def feedback_tables(report: Report) -> list[Table]:
    """A table per feedback: a line per model, a column per metric that the feedback's kind has."""
    tables = []
    for name in dict.fromkeys(row["feedback"] for row in report.feedback):
        of = {(row["model"], row["metric"]): row for row in report.feedback if row["feedback"] == name}
        metrics = [metric for metric in _FEEDBACK if any(measured == metric for _, measured in of)]
        lines = [
            (model, [_feedback_cell(of.get((model, metric))) for metric in metrics])
            for model in dict.fromkeys(model for model, _ in of)
        ]
        note = (
            "What was shown together, in the order of the utility that is expected; the protocol says what that is"
            if name == UTILITY
            else "On every event of the test part where it was observed; smaller entropy, log-loss and error are better"
        )
        tables.append(Table(name, note, "Model", [_FEEDBACK[metric] for metric in metrics], lines))
    return tables


def next_item_tables(report: Report) -> list[Table]:
    """How probable models thought what was chosen: a line per model, then per context a line per value."""
    models = list(dict.fromkeys(row["model"] for row in report.next_item))
    if not models:
        return []
    of = {(row["dimension"], row["segment"], row["model"]): row for row in report.next_item}
    whole = [of[None, None, model] for model in models]
    left_out = f"{whole[0]['untrained']:,} targets without a training event are left out"
    if any(row["unscored"] for row in whole):
        left_out += ", and what a model cannot score"
    note = f"Mean of −log p, p the full softmax over items with a training event; smaller is better; {left_out}"
    lines = [
        (row["model"], [_loss_cell(row), Cell(_number(math.exp(row["value"]), 1)), Cell(f"{row['targets']:,}")])
        for row in whole
        if row["value"] is not None
    ]
    tables = [Table("Loss", note, "Model", ["Next-item loss", "As of so many equals", "Targets"], lines)]
    segments = dict.fromkeys((dimension, segment) for dimension, segment, _ in of if dimension is not None)
    for dimension in dict.fromkeys(dimension for dimension, _ in segments):
        cells = [
            (segment, [_loss_cell(of[dimension, segment, model]) for model in models])
            for one, segment in segments
            if one == dimension
        ]
        tables.append(Table(dimension, "Next-item loss by the request's context", "Segment", models, cells))
    return tables


def _loss_cell(row: dict[str, Any]) -> Cell:
    return _feedback_cell(None if row["value"] is None else row)


def _feedback_cell(row: dict[str, Any] | None) -> Cell:
    if row is None or math.isnan(row["value"]):
        return Cell(_NOTHING)
    interval = "" if row["low"] == row["high"] else f"[{row['low']:.4f}, {row['high']:.4f}]"
    return Cell(f"{row['value']:.4f}", interval)


def stage_table(report: Report) -> Table | None:
    """What a retriever finds and what a ranker makes of it: a line per pair."""
    pairs: dict[str, dict[str, dict[str, Any]]] = {}
    for row in report.stages:
        of = f"{row['retriever']} → {row['ranker']}, {row['candidates']:,} candidates"
        key = f"Recall@{row['k']}" if row["metric"] == "recall" else _STAGES[row["metric"]].format(k=row["k"])
        pairs.setdefault(of, {})[key] = row
    if not pairs:
        return None
    columns = sorted({key for found in pairs.values() for key in found if key.startswith("Recall@")}, key=_cutoff)
    columns += list(dict.fromkeys(key for found in pairs.values() for key in found if key not in columns))
    lines = [(pair, [_feedback_cell(found.get(column)) for column in columns]) for pair, found in pairs.items()]
    cases = report.stages[0]["cases"]
    note = (
        f"On {cases:,} cases. Recall is the ceiling: what is not found cannot be ranked; what could be has it all first"
    )
    return Table("Retriever and ranker", note, "Pair", columns, lines)


def _cutoff(column: str) -> int:
    return int(column.partition("@")[2])
