"""The report of an evaluation as data; `render.py` turns it into pages."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """Everything a report page shows.

    `rows` are tidy: one figure each, with the keys model, history_removed, metric, k, value, low, high, cases, users.
    `protocol` and `log` are statements in reading order; `audit` holds findings; `curves` a list of epochs per model;
    `models` the cost and configuration of each.
    """

    title: str
    primary_history_removed: bool
    rows: list[dict[str, Any]]
    protocol: dict[str, str]
    log: dict[str, str]
    audit: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]
    models: dict[str, dict[str, Any]]
