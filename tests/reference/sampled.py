"""Sampled softmax losses as plain loops over positions and draws, with their gradients."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Result:
    """The sum of losses, and its gradients."""

    loss: float
    d_queries: Array
    d_items: Array


def sampled_softmax_loss(
    queries: Array,
    items: Array,
    targets: list[int],
    draws: list[int],
    q: Array,
    correction: str,
    mask_hits: bool = True,
) -> Result:
    """`draws` are rows of `items`, repeats included; `q` (V,) is the probability of each item in one draw."""
    result = Result(0.0, np.zeros_like(queries), np.zeros_like(items))
    n = len(draws)
    for row, target in enumerate(targets):
        used = [item for item in draws if not (mask_hits and item == target)]
        if not used:
            continue
        logit = {item: float(queries[row] @ items[item]) for item in {*used, target}}
        if correction == "corrected":
            loss, errors = _corrected(logit, target, used, q)
        else:
            bias = {item: -math.log(n * q[item]) if correction == "standard" else 0.0 for item in logit}
            loss, errors = _cross_entropy({item: logit[item] + bias[item] for item in logit}, target, used)
        result.loss += loss
        for item, error in errors:
            result.d_queries[row] += error * items[item]
            result.d_items[item] += error * queries[row]
    return result


def _cross_entropy(logit: dict[int, float], target: int, used: list[int]) -> tuple[float, list[tuple[int, float]]]:
    normaliser = math.exp(logit[target]) + sum(math.exp(logit[item]) for item in used)
    errors = [(item, math.exp(logit[item]) / normaliser) for item in used]
    errors.append((target, math.exp(logit[target]) / normaliser - 1))
    return math.log(normaliser) - logit[target], errors


def _corrected(
    logit: dict[int, float], target: int, used: list[int], q: Array
) -> tuple[float, list[tuple[int, float]]]:
    weights = [math.exp(logit[item]) / (q[item] / (1 - q[target])) for item in used]
    p = math.exp(logit[target]) / (math.exp(logit[target]) + sum(weights) / len(used))
    loss = (1 - p) * (-logit[target] + math.log(sum(weights)))
    errors = [(item, (1 - p) * weight / sum(weights)) for item, weight in zip(used, weights, strict=True)]
    errors.append((target, -(1 - p)))
    return loss, errors
