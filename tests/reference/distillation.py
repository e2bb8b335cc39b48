"""The losses of rank distillation as they are defined: plain loops over one set, pair by pair.

Student scores are 0-d tensors, so that automatic differentiation gives the definition's own gradient; labels, teacher
scores and weights are floats. Each returns the loss of the set and what it weighs.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

Scores = Sequence[Tensor]
Numbers = Sequence[float]
Loss = tuple[Tensor | float, float]
PairWeight = Callable[[int, int], float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def log_sigmoid(x: Tensor) -> Tensor:
    return -(1 + (-x).exp()).log()


def label_cross_entropy(s: Scores, y: Numbers) -> Loss:
    return sum(-b * log_sigmoid(a) - (1 - b) * log_sigmoid(-a) for a, b in zip(s, y, strict=True)), len(s)


def squared_probability(s: Scores, y: Numbers) -> Loss:
    return sum((1 / (1 + (-a).exp()) - b) ** 2 for a, b in zip(s, y, strict=True)), len(s)


def squared(s: Scores, t: Numbers, w: Numbers | None = None) -> Loss:
    w = [1.0] * len(t) if w is None else w
    return sum(c * (b - a) ** 2 for a, b, c in zip(s, t, w, strict=True)), sum(w)


def score_cross_entropy(s: Scores, t: Numbers) -> Loss:
    return label_cross_entropy(s, [sigmoid(b) for b in t])


def one(i: int, j: int) -> float:
    return 1.0


def differences(s: Scores, t: Numbers, w: PairWeight = one) -> Loss:
    pairs = list(combinations(range(len(t)), 2))
    loss = sum(w(i, j) * ((t[i] - t[j]) - (s[i] - s[j])) ** 2 for i, j in pairs)
    return loss, sum(w(i, j) for i, j in pairs)


def label_pairs(s: Scores, y: Numbers, keep_ties: bool, w: PairWeight = one) -> Loss:
    loss: Tensor | float = 0.0
    weight = 0.0
    for i, j in combinations(range(len(y)), 2):
        if y[i] == y[j] and not keep_ties:
            continue
        y_ij = 1.0 if y[i] > y[j] else 0.0 if y[i] < y[j] else 0.5
        loss = loss - w(i, j) * (y_ij * log_sigmoid(s[i] - s[j]) + (1 - y_ij) * log_sigmoid(s[j] - s[i]))
        weight += w(i, j)
    return loss, weight


def unconditional(s: Scores, t: Numbers, g: float = 1.0, power: int = 1) -> Loss:
    loss: Tensor | float = 0.0
    for i, j in combinations(range(len(t)), 2):
        y_ij, x = sigmoid((t[i] - t[j]) / g), (s[i] - s[j]) / g
        loss = loss - g**power * (y_ij * log_sigmoid(x) + (1 - y_ij) * log_sigmoid(-x))
    return loss, math.comb(len(t), 2)


def conditional(s: Scores, t: Numbers, g: float = 1.0) -> Loss:
    """Two terms: y_ij = q_i (1 - q_j) is the probability that i is positive and j is not."""
    q = [sigmoid(b / g) for b in t]
    loss: Tensor | float = 0.0
    weight = 0.0
    for i, j in combinations(range(len(t)), 2):
        y_ij, y_ji, x = q[i] * (1 - q[j]), q[j] * (1 - q[i]), (s[i] - s[j]) / g
        loss = loss + g * (-y_ij * log_sigmoid(x) - y_ji * log_sigmoid(-x))
        weight += y_ij + y_ji
    return loss, weight


def difference(s: Scores, t: Numbers, g: float = 1.0) -> Loss:
    """-(q_i - q_j) log σ(s_i - s_j) for q_i > q_j."""
    q = [sigmoid(b / g) for b in t]
    loss: Tensor | float = 0.0
    weight = 0.0
    for i in range(len(t)):
        for j in range(len(t)):
            if q[i] > q[j]:
                loss = loss - g * (q[i] - q[j]) * log_sigmoid((s[i] - s[j]) / g)
                weight += q[i] - q[j]
    return loss, weight


def tied(s: Scores, t: Numbers, g: float = 1.0) -> Loss:
    q = [sigmoid(b / g) for b in t]
    loss: Tensor | float = 0.0
    for i, j in combinations(range(len(t)), 2):
        y_ij, x = (1 + q[i] - q[j]) / 2, (s[i] - s[j]) / g
        loss = loss - g * (y_ij * log_sigmoid(x) + (1 - y_ij) * log_sigmoid(-x))
    return loss, math.comb(len(t), 2)


def log_softmax(s: Scores) -> list[Tensor]:
    normaliser = sum((a.exp() for a in s[1:]), s[0].exp()).log()
    return [a - normaliser for a in s]


def label_list(s: Scores, y: Numbers, keep_equal: bool) -> Loss:
    """Labels 0 and 1: 1/P on the positives, 1/N on all where they are equal."""
    if len(set(y)) == 1 and not (keep_equal and len(y) > 1):
        return 0.0, 0.0
    targets = [1.0] * len(y) if len(set(y)) == 1 else [float(b == 1) for b in y]
    return -sum(b / sum(targets) * a for a, b in zip(log_softmax(s), targets, strict=True)), 1.0


def multi_positive(s: Scores, y: Numbers) -> Loss:
    """-log( Σ_pos e^s / Σ_all e^s ), 0 if all labels are equal."""
    if len(set(y)) == 1:
        return 0.0, 0.0
    positive = torch.stack([a.exp() for a, b in zip(s, y, strict=True) if b == 1]).sum()
    return -(positive / torch.stack([a.exp() for a in s]).sum()).log(), 1.0


def list_probability(s: Scores, t: Numbers, g: float = 1.0, power: int = 1) -> Loss:
    if len(t) < 2:
        return 0.0, 0.0
    normaliser = sum(math.exp(b / g) for b in t)
    shares = [math.exp(b / g) / normaliser for b in t]
    losses = log_softmax([a / g for a in s])
    return -(g**power) * sum(q * a for q, a in zip(shares, losses, strict=True)), 1.0


def ranks(scores: Numbers) -> list[float]:
    """1 for the highest; those that tie share the average of their places."""
    return [1 + sum(b > a for b in scores) + (sum(b == a for b in scores) - 1) / 2 for a in scores]


def soft_ranks(s: Scores, width: float) -> list[Tensor | float]:
    """1 + Σ_j h(s_j - s_i), h a straight line from 0 at -width to 1 at width."""
    found = []
    for i, a in enumerate(s):
        rank: Tensor | float = 1.0
        for j, b in enumerate(s):
            if i != j:
                rank = rank + (0.5 + (b - a) / (2 * width)).clamp(0, 1)
        found.append(rank)
    return found


def rank_squares(s: Scores, t: Numbers, width: float = 1.0) -> Loss:
    loss = sum((u - r) ** 2 for u, r in zip(ranks(t), soft_ranks(s, width), strict=True))
    return loss, len(t) * (len(t) ** 2 - 1) / 6


def rank_steps(s: Scores, t: Numbers, sign: bool = False) -> Loss:
    loss: Tensor | float = 0.0
    for a, u, r in zip(s, ranks(t), ranks([a.item() for a in s]), strict=True):
        loss = loss + (math.copysign(float(u != r), u - r) if sign else u - r) * a
    return loss, len(t) if len(t) > 1 else 0


def pair_weight(scores: Numbers, form: str, exponent: float = 1.0) -> PairWeight:
    """Of a pair, by the ranks of its two candidates among these scores."""
    r = ranks(scores)

    def weight(i: int, j: int) -> float:
        if form == "reciprocal":
            return abs(1 / r[i] - 1 / r[j])
        if form == "reciprocal_log":
            return abs(1 / math.log(1 + r[i]) - 1 / math.log(1 + r[j]))
        if form == "distance":
            return 1.0 if r[i] == r[j] else 1 / abs(r[i] - r[j]) ** exponent
        return math.exp(scores[i] + scores[j]) / sum(math.exp(a) for a in scores) ** 2

    return weight
