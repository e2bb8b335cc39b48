"""Losses of masked positions as plain loops, with their gradients."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Result:
    """The sum of losses, and its gradients in features and in the rows that they are compared with."""

    loss: float
    d_features: Array
    d_rows: Array


def max_margin(features: Array, table: Array, targets: list[int], margin: float) -> Result:
    """Every position against its nearest rival."""
    result = Result(0.0, np.zeros_like(features), np.zeros_like(table))
    for n, target in enumerate(targets):
        scores = [float(features[n] @ row) for row in table]
        rivals = [row for row in range(len(table)) if row != target]
        if not rivals:
            continue
        rival = max(rivals, key=lambda row: scores[row])
        loss = margin + scores[rival] - scores[target]
        if loss > 0:
            result.loss += loss
            result.d_features[n] += table[rival] - table[target]
            result.d_rows[rival] += features[n]
            result.d_rows[target] -= features[n]
    return result


def same_sequence(features: Array, inputs: Array, items: list[list[int]], places: list[tuple[int, int]]) -> Result:
    """`inputs` (B, L, D), `items` their ids, 0 where there is none; `places` (row, position) of each masked one."""
    result = Result(0.0, np.zeros_like(features), np.zeros_like(inputs))
    for n, (row, position) in enumerate(places):
        own = items[row][position]
        compared = [at for at, item in enumerate(items[row]) if item and (at == position or item != own)]
        scores = {at: float(features[n] @ inputs[row, at]) for at in compared}
        normaliser = sum(math.exp(score) for score in scores.values())
        result.loss += math.log(normaliser) - scores[position]
        for at, score in scores.items():
            error = math.exp(score) / normaliser - (at == position)
            result.d_features[n] += error * inputs[row, at]
            result.d_rows[row, at] += error * features[n]
    return result
