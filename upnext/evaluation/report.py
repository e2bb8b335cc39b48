"""The report of an evaluation as data; `render.py` turns it into pages."""

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from upnext.base.artifacts import code_version
from upnext.evaluation.insights import Insights

__all__ = ["IMPORTANCE", "Report", "versions", "write_figures"]

IMPORTANCE = "importance.json"
"""The file of a ranker, and of a report, with what each input is worth: the share of all that the splits of trees
gained, or by how much a network's loss rises, as a share of what it is, when that input is permuted."""


@dataclass(frozen=True)
class Report:
    """Everything a report page shows; what is empty has no section.

    `rows` are tidy: one figure each, with the keys model, history_removed, metric, k, value, low, high, cases, users.
    `protocol` and `log` are statements in reading order; `audit` holds findings; `curves` a list of epochs per model;
    `models` the cost and configuration of each; `feedback` how well feedback was foreseen, with the keys model,
    feedback, metric, value, low, high; `calibration` the rows of `calibration_rows`; `importance` what inputs are
    worth, with the keys model, output, input, value; `uplift` those of `uplift_rows`; `stages` those of
    `pair_figures`, with the pair they are of; `next_item` those of `NextItemLosses.figures`. `settings` are the
    resolved configurations of the other stages, `made_with` the versions.
    """

    title: str
    primary_history_removed: bool
    rows: list[dict[str, Any]]
    protocol: dict[str, str]
    log: dict[str, str]
    audit: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]
    models: dict[str, dict[str, Any]]
    insights: Insights = field(default_factory=Insights)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    calibration: list[dict[str, Any]] = field(default_factory=list)
    importance: list[dict[str, Any]] = field(default_factory=list)
    uplift: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    next_item: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)


def write_figures(folder: Path, report: Report) -> None:
    """Write every figure of a report as tidy JSON, a file for each part."""
    found = report.insights
    files = {
        "metrics": report.rows,
        "differences": found.differences,
        "segments": found.segments,
        "popularity": found.popularity,
        "feedback": report.feedback,
        "calibration": report.calibration,
        "uplift": report.uplift,
        "importance": report.importance,
        "stages": report.stages,
        "next_item": report.next_item,
    }
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=1))


def versions() -> dict[str, str]:
    """What computes here, with the hash of our own code."""
    return {
        "Upnext": code_version(),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "PyTorch": str(torch.__version__),
    }
