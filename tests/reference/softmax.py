"""The full softmax loss as plain loops, with its gradients."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def full_softmax_loss(queries: Array, items: Array, targets: list[int]) -> tuple[float, Array, Array]:
    """Loss, gradient of the queries, gradient of the items."""
    loss, d_queries, d_items = 0.0, np.zeros_like(queries), np.zeros_like(items)
    for n, target in enumerate(targets):
        logits = [float(queries[n] @ item) for item in items]
        normaliser = sum(math.exp(logit) for logit in logits)
        loss += math.log(normaliser) - logits[target]
        for v, logit in enumerate(logits):
            error = math.exp(logit) / normaliser - (v == target)
            d_queries[n] += error * items[v]
            d_items[v] += error * queries[n]
    return loss, d_queries, d_items
