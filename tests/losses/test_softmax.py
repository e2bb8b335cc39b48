import numpy as np
import pytest
import torch

from tests.reference.softmax import full_softmax_loss as slow
from upnext.losses import softmax
from upnext.losses.softmax import full_softmax_loss


@pytest.mark.parametrize("rows", [1, 2, 256])
def test_equals_the_slow_loop_with_gradients(rows, monkeypatch):
    monkeypatch.setattr(softmax, "BLOCK", rows)
    generator = np.random.default_rng(0)
    queries, items = generator.normal(size=(5, 8)), generator.normal(size=(11, 8))
    targets = [3, 0, 10, 3, 7]
    q = torch.tensor(queries, requires_grad=True)
    e = torch.tensor(items, requires_grad=True)
    loss = full_softmax_loss(q, e, torch.tensor(targets))
    (2.5 * loss).backward()
    expected, d_queries, d_items = slow(queries, items, targets)
    assert loss.item() == pytest.approx(expected, abs=1e-10)
    torch.testing.assert_close(q.grad, torch.tensor(2.5 * d_queries), atol=1e-10, rtol=0)
    torch.testing.assert_close(e.grad, torch.tensor(2.5 * d_items), atol=1e-10, rtol=0)


def test_huge_logits_stay_finite():
    queries = torch.full((2, 4), 1e4, requires_grad=True)
    items = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]], requires_grad=True)
    loss = full_softmax_loss(queries, items, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == 0.0
    assert queries.grad is not None
    assert bool(torch.isfinite(queries.grad).all())


def test_no_positions_cost_nothing():
    queries, items = torch.zeros(0, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    loss = full_softmax_loss(queries, items, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
    assert items.grad is not None
    assert items.grad.abs().sum() == 0


def test_without_gradients_the_loss_is_the_same():
    queries, items, targets = torch.randn(7, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    expected = torch.nn.functional.cross_entropy(queries @ items.T, targets, reduction="sum")
    assert full_softmax_loss(queries, items, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_under_autocast_products_are_in_its_type_and_the_rest_is_not():
    generator = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(n, 8, generator=generator) for n in (300, 11))
    targets = torch.randint(0, 11, (300,), generator=generator)
    expected = [
        torch.tensor(value) for value in slow(queries.double().numpy(), items.double().numpy(), targets.tolist())
    ]
    q, e = queries.clone().requires_grad_(), items.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = full_softmax_loss(q, e, targets)
    loss.backward()
    assert q.grad is not None
    assert e.grad is not None
    for found, right in zip((loss.detach(), q.grad, e.grad), expected, strict=True):
        assert found.dtype == torch.float32
        # bfloat16 has 8 bits: 0.4 % a number
        error = ((found - right).norm() / right.norm()).item()
        assert 1e-6 < error < 1e-2
