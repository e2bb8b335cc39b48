"""The losses of what was shown together: equal to slow loops, with gradients, and blind to what is not there."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.reference import orders
from upnext.losses.listwise import listwise_softmax_loss
from upnext.losses.pairwise import request_pairwise_loss

Loss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Slow = Callable[[Sequence[float], Sequence[float]], tuple[float, float]]
BOTH = pytest.mark.parametrize(
    ("fast", "slow"),
    [(request_pairwise_loss, orders.pairwise), (listwise_softmax_loss, orders.listwise)],
    ids=["pairwise", "listwise"],
)


def shown() -> tuple[Tensor, Tensor, Tensor]:
    """Five requests of up to four candidates: a full one, one of equals, a single one, an empty one, one with a gap."""
    g = np.random.default_rng(3)
    scores = torch.from_numpy(g.normal(size=(5, 4)))
    utility = torch.tensor([[0.0, 1, -2, 1], [1, 1, 1, 9], [3, 9, 9, 9], [0, 0, 0, 0], [0, 9, 2, 0.5]]).double()
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 1, 1]]).bool()
    return scores, utility, mask


def total(slow: Slow, scores: Tensor, utility: Tensor, mask: Tensor) -> tuple[float, float]:
    rows = [slow(s[m].tolist(), u[m].tolist()) for s, u, m in zip(scores, utility, mask, strict=True) if bool(m.any())]
    return sum(loss for loss, _ in rows), sum(weight for _, weight in rows)


@BOTH
def test_equals_a_slow_loop_with_its_gradient(fast: Loss, slow: Slow):
    scores, utility, mask = shown()
    leaf = scores.clone().requires_grad_()
    loss, weight = fast(leaf, utility, mask)
    loss.backward()
    expected = total(slow, scores, utility, mask)
    assert [loss.item(), weight.item()] == pytest.approx(expected)
    slopes = torch.zeros_like(scores)
    for place in np.ndindex(*scores.shape):
        step = torch.zeros_like(scores)
        step[place] = 1e-6
        ends = [total(slow, scores + sign * step, utility, mask)[0] for sign in (1, -1)]
        slopes[place] = (ends[0] - ends[1]) / 2e-6
    torch.testing.assert_close(leaf.grad, slopes, atol=1e-7, rtol=1e-6)


@BOTH
def test_a_level_of_a_request_and_what_is_outside_the_mask_change_nothing(fast: Loss, slow: Slow):
    scores, utility, mask = shown()
    loss, _ = fast(scores, utility, mask)
    level = torch.tensor([[5.0], [-3], [1], [2], [0.5]])
    other = torch.where(mask, scores + level, torch.inf)
    torch.testing.assert_close(fast(other, torch.where(mask, utility, 1e6), mask)[0], loss)


@BOTH
def test_nothing_to_order_costs_nothing(fast: Loss, slow: Slow):
    for size in (0, 3):
        scores = torch.zeros(2, size, requires_grad=True)
        loss, weight = fast(scores, torch.ones(2, size), torch.ones(2, size).bool())
        loss.backward()
        assert (loss.item(), weight.item()) == (0, 0)
        assert scores.grad is not None
        assert not scores.grad.any()


def test_by_hand():
    mask, equal = torch.ones(1, 3).bool(), torch.zeros(1, 3)
    assert request_pairwise_loss(equal, torch.tensor([[0.0, 2, 3]]), mask)[0].item() == pytest.approx(6 * math.log(2))
    assert listwise_softmax_loss(equal, torch.tensor([[1.0, 0, 0]]), mask)[0].item() == pytest.approx(math.log(3))
    # Two of three chosen alike: the least loss is that of their shares, log 2, at scores that leave out the third.
    far = torch.tensor([[20.0, 20, -20]])
    assert listwise_softmax_loss(far, torch.tensor([[1.0, 1, 0]]), mask)[0].item() == pytest.approx(math.log(2))
