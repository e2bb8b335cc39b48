"""The sampled softmax losses: against plain loops, at their edges, and what they tend to."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.reference.sampled import sampled_softmax_loss as slow
from tests.reference.softmax import full_softmax_loss as full
from upnext.losses import sampled
from upnext.losses.sampled import Drawn, sampled_softmax_loss
from upnext.sampling.negatives import Negatives

V, D = 11, 8
VARIANTS: list[Any] = [
    ("none", True),
    ("none", False),
    ("standard", True),
    ("standard", False),
    ("corrected", True),
]


def probabilities(seed: int = 0) -> np.ndarray:
    q = np.random.default_rng(seed).random(V) + 0.05
    return np.asarray(q / q.sum())


def fast(
    queries: np.ndarray, items: np.ndarray, targets: list[int], draws: list[int], q: np.ndarray, *form: Any
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss and gradients by the fast code, draws merged as the objective does."""
    query = torch.tensor(queries, requires_grad=True)
    item = torch.tensor(items, requires_grad=True)
    target, log_q = torch.tensor(targets, dtype=torch.int64), torch.tensor(q).log()
    ids = torch.tensor(draws, dtype=torch.int64)
    distinct = Negatives(ids, log_q[ids], log_q[target]).distinct(target)
    drawn = Drawn(item[distinct.ids], distinct.count, distinct.log_q, log_q[target], distinct.hit)
    loss = sampled_softmax_loss(query, item[target], drawn, *form)
    loss.backward()
    assert query.grad is not None
    assert item.grad is not None
    return loss.item(), query.grad.numpy(), item.grad.numpy()


@pytest.mark.parametrize("rows", [1, 2, 256])
@pytest.mark.parametrize(("correction", "mask_hits"), VARIANTS)
def test_equals_the_slow_loop_with_gradients(correction, mask_hits, rows, monkeypatch):
    monkeypatch.setattr(sampled, "BLOCK", rows)
    generator = np.random.default_rng(1)
    queries, items = generator.normal(size=(5, D)), generator.normal(size=(V, D))
    targets, draws = [3, 0, 10, 3, 7], [3, 5, 5, 5, 0, 1, 3, 9]  # repeats, hits of three positions, misses of two
    q = probabilities()
    expected = slow(queries, items, targets, draws, q, correction, mask_hits)
    loss, d_queries, d_items = fast(queries, items, targets, draws, q, correction, mask_hits)
    assert loss == pytest.approx(expected.loss, abs=1e-10)
    np.testing.assert_allclose(d_queries, expected.d_queries, atol=1e-10)
    np.testing.assert_allclose(d_items, expected.d_items, atol=1e-10)


@pytest.mark.parametrize("correction", ["none", "standard", "corrected"])
@pytest.mark.parametrize("draws", [[], [3, 3, 3]])
def test_a_position_without_negatives_costs_nothing(correction, draws):
    queries, items = np.ones((1, D)), np.eye(V, D)
    loss, d_queries, d_items = fast(queries, items, [3], draws, probabilities(), correction)
    assert loss == 0.0
    assert not d_queries.any()
    assert not d_items.any()


def test_no_positions_cost_nothing():
    for correction in ("none", "standard", "corrected"):
        loss, _, d_items = fast(np.ones((0, D)), np.ones((V, D)), [], [2, 4], probabilities(), correction)
        assert loss == 0.0
        assert not d_items.any()


@pytest.mark.parametrize(("correction", "mask_hits"), VARIANTS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extreme_logits_stay_finite_in_float32(correction, mask_hits, sign):
    items = torch.tensor([[1.0] * 4, [-1.0] * 4, [0.5] * 4], requires_grad=True)
    queries = torch.full((3, 4), sign * 1e4, requires_grad=True)
    targets = torch.tensor([0, 1, 2])
    log_q = torch.tensor([1 - 2e-8, 1e-8, 1e-8]).log()  # 1 - Q is 0 in float32
    ids = torch.tensor([0, 0, 1, 2])
    distinct = Negatives(ids, log_q[ids], log_q[targets]).distinct(targets)
    drawn = Drawn(items[distinct.ids], distinct.count, distinct.log_q, log_q[targets], distinct.hit)
    loss = sampled_softmax_loss(queries, items[targets], drawn, correction, mask_hits)
    loss.backward()
    assert bool(torch.isfinite(loss))
    for tensor in (queries, items):
        assert tensor.grad is not None
        assert bool(torch.isfinite(tensor.grad).all())


def test_without_gradients_the_loss_is_the_same():
    generator = np.random.default_rng(3)
    queries, items, q = generator.normal(size=(4, D)), generator.normal(size=(V, D)), probabilities()
    expected, _, _ = fast(queries, items, [1, 2, 3, 4], [5, 6, 1], q, "corrected")
    with torch.no_grad():
        target, log_q, ids = torch.tensor([1, 2, 3, 4]), torch.tensor(q).log(), torch.tensor([1, 5, 6])
        hit = torch.tensor([0, -1, -1, -1])
        drawn = Drawn(torch.tensor(items)[ids], torch.ones(3), log_q[ids], log_q[target], hit)
        loss = sampled_softmax_loss(torch.tensor(queries), torch.tensor(items)[target], drawn)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("correction", "mask_hits"), VARIANTS)
def test_under_autocast_products_are_in_its_type_and_the_rest_is_not(correction, mask_hits):
    generator = np.random.default_rng(4)
    queries, items = (generator.normal(size=(n, D)).astype(np.float32) for n in (300, V))
    targets, draws = generator.integers(0, V, 300).tolist(), [3, 5, 5, 0, 1, 9]
    form = (targets, draws, probabilities().astype(np.float32), correction, mask_hits)
    expected = fast(queries, items, *form)
    with torch.autocast("cpu", torch.bfloat16):
        found = fast(queries, items, *form)
    for one, right in zip(found, expected, strict=True):
        a, b = np.asarray(one), np.asarray(right)
        assert 1e-6 < np.linalg.norm(a - b) / np.linalg.norm(b) < 1e-2  # bfloat16 has 8 bits: 0.4 % a number
    assert found[1].dtype == found[2].dtype == np.float32


def mean_gradient(correction: str, mask_hits: bool, n: int, repeats: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean over draws of the gradient of one position's query; the full softmax's; and its 1 - p."""
    generator = np.random.default_rng(n)
    query, items = np.random.default_rng(5).normal(size=(1, D)), np.random.default_rng(6).normal(size=(V, D))
    items *= 0.5
    others = np.log(np.exp(np.delete(items @ query[0], 2)).sum())
    items[2] += (others - items[2] @ query[0]) * query[0] / (query[0] @ query[0])  # p is one half
    q = probabilities(7)
    q[2] = 0.4
    q /= q.sum()
    target = 2
    total = np.zeros_like(query)
    for _ in range(repeats):
        draws = generator.choice(V, n, p=q).tolist()
        total += fast(query, items, [target], draws, q, correction, mask_hits)[1]
    loss, d_query, _ = full(query, items, [target])
    return total / repeats, d_query, 1 - float(np.exp(-loss))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(("correction", "mask_hits"), [("corrected", True), ("standard", False)])
def test_the_mean_gradient_tends_to_the_full_softmax(correction, mask_hits):
    errors = []
    for n, repeats in ((2, 800), (16, 300), (2000, 60)):
        mean, expected, _ = mean_gradient(correction, mask_hits, n, repeats)
        errors.append(distance(mean, expected))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_the_variants_keep_their_bias_however_many_are_drawn():
    few, expected, miss = mean_gradient("standard", True, 2000, 60)
    assert miss == pytest.approx(0.5)
    assert distance(few, expected) > 0.2
    assert distance(few * miss, expected) < 0.02  # with masked hits it tends to the gradient over 1 - p
    none, expected, _ = mean_gradient("none", True, 2000, 60)
    assert distance(none, expected) > 0.2


def test_the_corrected_loss_is_nearer_than_the_others_with_few_negatives():
    errors = {(name, masks): distance(*mean_gradient(name, masks, 16, 300)[:2]) for name, masks in VARIANTS}
    assert min(errors, key=errors.__getitem__) == ("corrected", True), errors
