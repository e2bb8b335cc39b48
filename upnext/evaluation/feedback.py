"""How well a ranker foresees feedback: each held-out event is predicted from what lay before its request.

Shape letters: N events.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Column, FlatColumn
from upnext.base.protocols import Link, Ranker, expectation
from upnext.base.schema import feedback_column
from upnext.evaluation.asking import Asked, ask_about_rows
from upnext.evaluation.gaps import gaps
from upnext.evaluation.rates import Rates, RatesConfig
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN
from upnext.metrics.calibration import calibration_error
from upnext.metrics.classification import auc, log_loss, normalised_entropy, per_user_auc
from upnext.metrics.intervals import Interval, bootstrap_over_users

__all__ = [
    "Foreseen",
    "evaluate_feedback",
    "expectations",
    "feedback_figures",
    "foresee",
    "mean_of",
    "predict_feedback",
]

_CPU = torch.device("cpu")


def predict_feedback(
    model: Ranker,
    log: EventLog,
    rows: NDArray[np.int64],
    features: Mapping[str, FlatColumn] | None = None,
    device: torch.device = _CPU,
    known_at: NDArray[np.int64] | None = None,
    users: Mapping[str, Column] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Predict what came of events, as the server would have when they were shown.

    Args:     as for `ask_about_rows`.
    Returns:  per component (N,): the expectation, in the order of `rows`.
    """
    blocks = ask_about_rows(model, log, rows, features, device, known_at, users)
    return expectations(model, blocks, len(rows))


def expectations(model: Ranker, blocks: Iterable[Asked], count: int) -> dict[str, NDArray[np.float64]]:
    """What a model expects of everything that it is asked about: per component (N,)."""
    answers = {name: np.zeros(count) for name in model.components}
    for block in blocks:
        with torch.inference_mode():
            outputs = model.predict(block.state, block.request, block.candidates)
        for name, link in model.components.items():
            answers[name][block.place[block.mask]] = expectation(outputs[name], link).cpu().numpy()[block.mask]
    return answers


@dataclass(frozen=True)
class Foreseen:
    """What somebody expected of the test events: per component its link and its expectations, (N,)."""

    components: Mapping[str, Link]
    predicted: Mapping[str, NDArray[np.float64]]


def foresee(
    rankers: Mapping[str, Ranker],
    log: EventLog,
    part: NDArray[np.int8],
    num_items: int,
    features: Mapping[str, Mapping[str, FlatColumn]],
    users: Mapping[str, Column],
    known_at: NDArray[np.int64] | None = None,
) -> dict[str, Foreseen]:
    """What each model expects of every test event; after them the mean of all, and of each item.

    Args:     features: by model that reads any, those of the test events as candidates; users, known_at: as for
              `predict_feedback`.
    """
    trained, rows = part == TRAIN, np.flatnonzero(part == TEST)
    feedback = {name: log.rows.columns[feedback_column(name)] for name in log.schema.feedback}
    counted = {name: FlatColumn(column.values[trained], column.observed[trained]) for name, column in feedback.items()}
    items = log.rows.item[trained]
    baselines = {
        name: Rates.fit(config, log.schema.feedback, items, counted, num_items)
        for name, config in (("mean", RatesConfig(prior=None)), ("item rates", RatesConfig()))
    }
    return {
        name: Foreseen(model.components, predict_feedback(model, log, rows, features.get(name), _CPU, known_at, users))
        for name, model in {**rankers, **baselines}.items()
    }


def evaluate_feedback(
    foreseen: Mapping[str, Foreseen], log: EventLog, part: NDArray[np.int8], num_samples: int
) -> list[dict[str, Any]]:
    """How well the feedback of every test event was foreseen; of who only orders, how well the order tells it.

    Returns:  tidy rows: model, feedback, metric, value, low, high.
    """
    rows, trained = np.flatnonzero(part == TEST), np.flatnonzero(part == TRAIN)
    rates = {name: mean_of(log.rows.columns[feedback_column(name)], trained) for name in log.schema.feedback}
    found = []
    for name, one in foreseen.items():
        figures = feedback_figures(log, rows, one.predicted, rates, num_samples)
        if list(one.components.values()) == [Link.ORDER_ONLY]:
            (scores,) = one.predicted.values()
            figures += order_figures(log, rows, scores, num_samples)
        found += [{"model": name} | row for row in figures]
    return found + _gaps(foreseen, log, rows, rates, num_samples)


def _gaps(
    foreseen: Mapping[str, Foreseen],
    log: EventLog,
    rows: NDArray[np.int64],
    base_rates: Mapping[str, float],
    num_samples: int,
) -> list[dict[str, Any]]:
    """How far each model is behind the best: in normalised entropy, of amounts in absolute error."""
    found = []
    for feedback, kind in log.schema.feedback.items():
        column = log.rows.columns[feedback_column(feedback)]
        seen = column.observed[rows]
        target = column.values[rows][seen].astype(np.float64)
        predicted = {m: one.predicted[feedback][seen] for m, one in foreseen.items() if feedback in one.predicted}
        if kind == "amount":
            losses = {model: np.abs(values - target) for model, values in predicted.items()}
        else:
            rate = np.array([base_rates[feedback]])
            if not 0 < rate[0] < 1:
                continue  # there was nothing to learn
            losses = {model: log_loss(values, target) / log_loss(rate, rate) for model, values in predicted.items()}
        found += gaps(losses, np.ones(len(target)), log.rows.user[rows][seen], feedback, num_samples)
    return found


@dataclass(frozen=True)
class _Figure:
    metric: str
    interval: Interval

    def row(self, component: str) -> dict[str, Any]:
        return {
            "feedback": component,
            "metric": self.metric,
            "value": self.interval.value,
            "low": self.interval.low,
            "high": self.interval.high,
        }


def feedback_figures(
    log: EventLog,
    rows: NDArray[np.int64],
    predicted: Mapping[str, NDArray[np.float64]],
    base_rates: Mapping[str, float],
    num_samples: int,
) -> list[dict[str, Any]]:
    """Figures per feedback with 95 % intervals over users; only events where it was observed count.

    Binary: log-loss, normalised entropy, AUC, per-user AUC. Fractions: log-loss, normalised entropy, absolute error.
    Amounts: absolute error, root mean squared error, and the mean predicted over the mean observed (`calibration`).
    All: calibration error.

    Args:     base_rates: each feedback's mean over the training part.
    """
    users = log.rows.user[rows]
    figures = []
    for name, kind in log.schema.feedback.items():
        if name not in predicted:
            continue
        column = log.rows.columns[feedback_column(name)]
        seen = column.observed[rows]
        target, expected, user = column.values[rows][seen].astype(np.float64), predicted[name][seen], users[seen]
        if not len(target):
            continue
        if kind == "amount":
            found = [
                _Figure("mae", bootstrap_over_users(np.abs(expected - target), user, num_samples=num_samples)),
                _root(bootstrap_over_users((expected - target) ** 2, user, num_samples=num_samples)),
                _point("calibration", float(expected.mean() / target.mean()) if target.mean() else float("nan")),
            ]
        else:
            found = _probability_figures(target, expected, user, base_rates[name], num_samples, kind == "binary")
        found.append(_point("calibration_error", calibration_error(expected, target)))
        figures += [figure.row(name) for figure in found]
    return figures


def order_figures(
    log: EventLog, rows: NDArray[np.int64], scores: NDArray[np.float64], num_samples: int
) -> list[dict[str, Any]]:
    """How well an order tells binary feedback: AUC and per-user AUC, as in `feedback_figures`."""
    figures = []
    for name, kind in log.schema.feedback.items():
        column = log.rows.columns[feedback_column(name)]
        seen = column.observed[rows]
        if kind == "binary" and seen.any():
            positive, user = column.values[rows][seen] >= 0.5, log.rows.user[rows][seen]
            figures += [figure.row(name) for figure in _auc_figures(scores[seen], positive, user, num_samples)]
    return figures


def _auc_figures(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], users: NDArray[np.int64], num_samples: int
) -> list[_Figure]:
    values, owners = per_user_auc(scores, positive, users)
    within = _Figure("user_auc", bootstrap_over_users(values, owners, num_samples=num_samples))
    return [_point("auc", auc(scores, positive)), within]


def _probability_figures(
    target: NDArray[np.float64],
    expected: NDArray[np.float64],
    users: NDArray[np.int64],
    base_rate: float,
    num_samples: int,
    is_binary: bool,
) -> list[_Figure]:
    loss = bootstrap_over_users(log_loss(expected, target), users, num_samples=num_samples)
    entropy = normalised_entropy(expected, target, base_rate)
    scale = entropy / loss.value if loss.value else float("nan")
    figures = [
        _Figure("log_loss", loss),
        _Figure("normalised_entropy", Interval(entropy, loss.low * scale, loss.high * scale)),
    ]
    if not is_binary:
        return [
            *figures,
            _Figure("mae", bootstrap_over_users(np.abs(expected - target), users, num_samples=num_samples)),
        ]
    return [*figures, *_auc_figures(expected, target >= 0.5, users, num_samples)]


def _root(squared: Interval) -> _Figure:
    """The root of a mean squared error."""
    return _Figure("rmse", Interval(squared.value**0.5, squared.low**0.5, squared.high**0.5))


def _point(metric: str, value: float) -> _Figure:
    return _Figure(metric, Interval(value, value, value))


def mean_of(column: FlatColumn, rows: NDArray[np.int64]) -> float:
    """The mean of what was observed among some rows; NaN where nothing was."""
    values = column.values[rows][column.observed[rows]]
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")
