"""How far models are behind the best of them, on the same users: what makes a user hard for all cancels.

Shape letters: N events, P pairs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.metrics.intervals import bootstrap_ratio

__all__ = ["ORACLE", "gaps"]

ORACLE = "oracle"
"""Who knows the truth of a simulation is no rival."""


def gaps(
    losses: Mapping[str, NDArray[np.float64]],
    weights: NDArray[np.float64],
    users: NDArray[np.int64],
    feedback: str,
    num_samples: int,
    metric: str = "behind",
) -> list[dict[str, Any]]:
    """Each model's mean loss less that of the best, with a 95 % interval over users, drawn once for both.

    An interval that leaves out 0 shows that the model is behind.

    Args:     losses: (N,) by model; weights: (N,); users: (N,).
    Returns:  tidy rows, one for every model but the best and the oracle.
    """
    rivals = {name: values for name, values in losses.items() if name != ORACLE}
    if len(rivals) < 2 or not weights.sum():
        return []
    best = min(rivals, key=lambda name: float(np.average(rivals[name], weights=weights)))
    rows = []
    for name, values in rivals.items():
        if name != best:
            found = bootstrap_ratio(values - rivals[best], weights, users, num_samples=num_samples)
            rows.append({"model": name, "feedback": feedback, "metric": metric} | vars(found))
    return rows
