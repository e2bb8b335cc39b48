"""How a loss falls with size and with history: every model on the same held-out cases, and lines through the figures.

Shape letters: K cases, T targets, N events, P points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import Column
from upnext.base.protocols import Ranker, Retriever
from upnext.base.schema import feedback_column
from upnext.base.views import ALL
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.feedback import feedback_figures, mean_of, predict_feedback
from upnext.evaluation.next_item import NextItemLosses
from upnext.evaluation.ranking import Histories, rank_cases, retriever_scores
from upnext.events.log import EventLog
from upnext.events.split import TRAIN
from upnext.metrics.intervals import bootstrap_over_users
from upnext.metrics.ranking import ndcg

__all__ = ["Fit", "HeldOut", "fit_line", "held_out", "lines_through", "loss_rows", "measure"]


@dataclass(frozen=True)
class HeldOut:
    """What every point is measured on: cases whose targets are predicted, and rows (N,) whose feedback is."""

    cases: Cases
    rows: NDArray[np.int64]
    trained: NDArray[np.int64]
    """(V,) training events of the cases' view per dense id: the softmax goes over items that have some."""


def held_out(log: EventLog, part: NDArray[np.int8], which: int, view: str, num_cases: int, num_items: int) -> HeldOut:
    """Draw up to `num_cases` requests with a target of the view, and as many whose feedback is predicted, once."""
    cases, shown = (_some(find_cases(log, part, which, one), num_cases) for one in (view, ALL))
    requests = np.unique(log.events.request[shown.first_target])
    rows = np.flatnonzero((part == which) & np.isin(log.events.request, requests))
    in_view, events = log.in_view(view)
    trained = np.bincount(events.item[part[in_view] == TRAIN], minlength=num_items)
    return HeldOut(cases, rows, trained)


def _some(cases: Cases, count: int) -> Cases:
    return cases.take(np.sort(np.random.default_rng(0).permutation(len(cases))[:count]))


def measure(
    model: Retriever,
    log: EventLog,
    part: NDArray[np.int8],
    held: HeldOut,
    view: str,
    temperature: float,
    user_features: Mapping[str, Column],
    num_samples: int,
) -> tuple[NDArray[np.float64], list[dict[str, Any]]]:
    """Losses of one model: the next-item loss of each target (T,), and rows of metric, value, low, high.

    The rows are NDCG@10, `log_loss.NAME` of each binary feedback and fraction, and `fp_loss`, their sum: amounts have
    no log-loss and stay out of it.
    """
    num_items, histories = len(held.trained), Histories(log, view)
    losses = NextItemLosses(held.cases, held.trained)
    scores = losses.listen(
        "model", retriever_scores(model, log, held.cases, num_items, user_features=user_features), temperature
    )
    (ranking,) = rank_cases(
        scores, held.cases, histories, num_items, k=10, remove_history=(False,), max_length=max(1, model.max_length)
    )
    values = ndcg(ranking.ranks, held.cases.case, len(held.cases), 10)
    found = bootstrap_over_users(values, held.cases.user, num_samples=num_samples)
    rows = [{"metric": "ndcg@10", "value": found.value, "low": found.low, "high": found.high}]
    if isinstance(model, Ranker):
        rows += _foreseen(model, log, part, held.rows, num_samples)
    return losses.losses["model"], rows


def _foreseen(
    model: Ranker, log: EventLog, part: NDArray[np.int8], rows: NDArray[np.int64], num_samples: int
) -> list[dict[str, Any]]:
    trained = np.flatnonzero(part == TRAIN)
    base_rates = {name: mean_of(log.rows.columns[feedback_column(name)], trained) for name in log.schema.feedback}
    figures = feedback_figures(log, rows, predict_feedback(model, log, rows), base_rates, num_samples)
    found = [
        {"metric": f"log_loss.{row['feedback']}"} | {name: row[name] for name in ("value", "low", "high")}
        for row in figures
        if row["metric"] == "log_loss"
    ]
    if found:
        found.append({"metric": "fp_loss", "value": sum(row["value"] for row in found), "low": None, "high": None})
    return found


def loss_rows(losses: Sequence[NDArray[np.float64]], cases: Cases, num_samples: int) -> list[dict[str, Any]]:
    """The next-item loss of each of P points, over the targets that all of them have one of.

    Args:     losses: per point (T,), NaN where the target is not trained, inf where the point cannot score it.
    Returns:  per point metric, value, low, high, and how many targets count.
    """
    common = np.isfinite(np.stack(losses)).all(0)
    users = cases.user[cases.case[common]]
    found = [bootstrap_over_users(one[common], users, num_samples=num_samples) for one in losses]
    return [
        {"metric": "nip_loss", "value": one.value, "low": one.low, "high": one.high, "targets": int(common.sum())}
        for one in found
    ]


@dataclass(frozen=True)
class Fit:
    """The line loss = intercept + slope · x by least squares, over so many points.

    `r2` is the share of the variance that it explains, `residual` the root of the mean squared distance.
    """

    intercept: float
    slope: float
    r2: float
    residual: float
    points: int


def fit_line(x: Sequence[float], y: Sequence[float]) -> Fit | None:
    """Fit a line; None for fewer than two different x.

    Points (0, 3), (1, 1), (2, 2): slope -1/2, intercept 5/2, residuals 1/2, -1, 1/2; r² = 1 - 1.5/2 = 1/4.
    """
    if len(set(x)) < 2:
        return None
    at, values = np.array(x, np.float64), np.array(y, np.float64)
    deviation = at - at.mean()
    slope = float(deviation @ (values - values.mean()) / (deviation @ deviation))
    intercept = float(values.mean() - slope * at.mean())
    left = values - intercept - slope * at
    spread = float(((values - values.mean()) ** 2).sum())
    r2 = 1 - float((left**2).sum()) / spread if spread else 1.0
    return Fit(intercept, slope, r2, float(np.sqrt((left**2).mean())), len(x))


def lines_through(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines through the points of a scaling run: losses against log10(encoder parameters), and log2(history length).

    Args:     rows: of a run, each with point, series ("size" or "length"), part, metric, value and what x is made of.
    Returns:  rows of series, part, metric and the fields of `Fit`.
    """
    x_of = {"size": ("encoder_parameters", np.log10), "length": ("length", np.log2)}
    found = []
    for series, (key, scale) in x_of.items():
        for part in dict.fromkeys(row["part"] for row in rows):
            for metric in ("nip_loss", "fp_loss"):
                some = [r for r in rows if series in r["series"] and (r["part"], r["metric"]) == (part, metric)]
                fit = fit_line([float(scale(row[key])) for row in some], [row["value"] for row in some])
                if fit is not None:
                    found.append({"series": series, "part": part, "metric": metric} | vars(fit))
    return found
