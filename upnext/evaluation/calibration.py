"""Reliability curves of what was foreseen: what came of test events, by what was predicted of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.schema import feedback_column
from upnext.evaluation.feedback import Foreseen
from upnext.events.log import EventLog
from upnext.metrics.calibration import reliability

__all__ = ["calibration_rows"]


def calibration_rows(
    foreseen: Mapping[str, Foreseen], log: EventLog, rows: NDArray[np.int64], num_samples: int
) -> list[dict[str, Any]]:
    """A row per model, feedback and bin of equal mass; only events where the feedback was observed count.

    Args:     rows: (N,) the events that were foreseen.
    Returns:  tidy rows: model, feedback, bin from 0 up, share of the events, mean predicted, mean observed, low, high;
              an end is None where the bootstrap says nothing.
    """
    found = []
    for model, one in foreseen.items():
        for name in [name for name in log.schema.feedback if name in one.predicted]:
            column = log.rows.columns[feedback_column(name)]
            seen = column.observed[rows]
            target, users = column.values[rows][seen].astype(np.float64), log.rows.user[rows][seen]
            curve = reliability(one.predicted[name][seen], target, users, num_samples=num_samples)
            for number in range(len(curve.predicted)):
                low, high = float(curve.low[number]), float(curve.high[number])
                found.append(
                    {
                        "model": model,
                        "feedback": name,
                        "bin": number,
                        "share": float(curve.share[number]),
                        "predicted": float(curve.predicted[number]),
                        "observed": float(curve.observed[number]),
                        "low": None if np.isnan(low) else low,
                        "high": None if np.isnan(high) else high,
                    }
                )
    return found
