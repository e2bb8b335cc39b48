import math

import numpy as np
import pytest
import torch

from upnext.losses.pointwise import (
    binary_cross_entropy,
    poisson_deviance,
    squared_probability_error,
    weighted_logistic_loss,
)

LOSSES = {
    "bce": lambda z, y: -y * math.log(1 / (1 + math.exp(-z))) - (1 - y) * math.log(1 - 1 / (1 + math.exp(-z))),
    "squared": lambda z, y: (1 / (1 + math.exp(-z)) - y) ** 2,
    "poisson": lambda z, y: (math.exp(z) - y * z) / 3,
    "weighted": lambda z, y: (y * math.log(1 + math.exp(-z)) + math.log(1 + math.exp(z))) / (1 + 3),
}
OURS = {
    "bce": binary_cross_entropy,
    "squared": squared_probability_error,
    "poisson": lambda z, y: poisson_deviance(z, y, torch.tensor(3.0, dtype=torch.float64)),
    "weighted": lambda z, y: weighted_logistic_loss(z, y, torch.tensor(3.0, dtype=torch.float64)),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_equals_the_formula_with_its_gradient(kind):
    z = np.linspace(-4, 4, 9)
    y = np.array([0, 1, 0.5, 0.2, 1, 0, 0.9, 1, 0]) * (20 if kind in ("poisson", "weighted") else 1)
    logits = torch.tensor(z, requires_grad=True)
    losses = OURS[kind](logits, torch.tensor(y))
    losses.sum().backward()
    reference = LOSSES[kind]
    np.testing.assert_allclose(losses.detach(), [reference(a, b) for a, b in zip(z, y, strict=True)], atol=1e-8)
    step = 1e-6
    slopes = [(reference(a + step, b) - reference(a - step, b)) / (2 * step) for a, b in zip(z, y, strict=True)]
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad, slopes, atol=1e-6)


@pytest.mark.parametrize("kind", ["poisson", "weighted"])
def test_amounts_are_learnt_as_their_mean(kind):
    """At e^z = mean(y) the mean gradient is zero."""
    y = torch.tensor([0.0, 3.0, 0.0, 12.0, 1.0], dtype=torch.float64)
    z = torch.full((5,), math.log(3.2), dtype=torch.float64, requires_grad=True)
    OURS[kind](z, y).sum().backward()
    assert z.grad is not None
    assert z.grad.sum().item() == pytest.approx(0, abs=1e-12)


def test_huge_logits_stay_finite():
    z = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(binary_cross_entropy(z, torch.tensor([1.0, 0.0]))).all()
    assert torch.isfinite(weighted_logistic_loss(z, torch.tensor([5.0, 0.0]), torch.tensor(1.0))).all()
