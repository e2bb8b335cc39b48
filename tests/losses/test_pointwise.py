import math

import numpy as np
import pytest
import torch

from upnext.losses.pointwise import (
    approximate_weighted_logistic_loss,
    binary_cross_entropy,
    poisson_deviance,
    squared_probability_error,
    weighted_logistic_loss,
)

LOSSES = {
    "bce": lambda z, y: -y * math.log(1 / (1 + math.exp(-z))) - (1 - y) * math.log(1 - 1 / (1 + math.exp(-z))),
    "squared": lambda z, y: (1 / (1 + math.exp(-z)) - y) ** 2,
    "poisson": lambda z, y: (math.exp(z) - y * z) / 3,
    "weighted": lambda z, y: 2 * (y / 3 * math.log(1 + 3 * math.exp(-z)) + math.log(1 + math.exp(z) / 3)),
    "weighted_approximate": lambda z, y: (
        2 * (y / 3 * math.log(1 + 3 * math.exp(-z)) if y > 0 else math.log(1 + math.exp(z) / 3))
    ),
}
OURS = {
    "bce": binary_cross_entropy,
    "squared": squared_probability_error,
    "poisson": lambda z, y: poisson_deviance(z, y, torch.tensor(3.0, dtype=torch.float64)),
    "weighted": lambda z, y: weighted_logistic_loss(z, y, torch.tensor(3.0, dtype=torch.float64)),
    "weighted_approximate": lambda z, y: approximate_weighted_logistic_loss(
        z, y, torch.tensor(3.0, dtype=torch.float64)
    ),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_equals_the_formula_with_its_gradient(kind):
    z = np.linspace(-4, 4, 9)
    y = np.array([0, 1, 0.5, 0.2, 1, 0, 0.9, 1, 0]) * (1 if kind in ("bce", "squared") else 20)
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


@pytest.mark.parametrize(
    ("kind", "odds"),
    [
        # Watched for 30 and 6 of 12 impressions; for 1 of 4; not at all of 3 (the limit of both forms is 0).
        ("weighted", [36 / 12, 1 / 4, 0]),
        ("weighted_approximate", [36 / 10, 1 / 3, 0]),
    ],
)
def test_the_odds_of_a_planted_table(kind, odds):
    """Newton's steps on a logit for each of three titles end at E[T], and at E[T] / (1 - P) in the published form."""
    title = torch.tensor([0] * 12 + [1] * 4 + [2] * 3)
    watched = torch.tensor([30.0, 6] + [0] * 10 + [1] + [0] * 3 + [0] * 3, dtype=torch.float64)
    z = torch.zeros(3, dtype=torch.float64)
    for _ in range(30):
        leaf = z.clone().requires_grad_()
        losses = OURS[kind](leaf[title], watched)
        (slope,) = torch.autograd.grad(losses.sum(), leaf, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), leaf)
        z = (z - (slope / bend).detach().clamp(-2, 2)).clamp(min=-30)
    np.testing.assert_allclose(z.exp(), odds, atol=1e-10)


@pytest.mark.parametrize("mean", [0.01, 1.0, 3600.0])
@pytest.mark.parametrize("kind", [weighted_logistic_loss, poisson_deviance])
def test_losses_of_amounts_bend_alike_in_every_unit(kind, mean):
    """At e^z = mean(y) the mean second derivative is 1, in hours as in seconds."""
    y = torch.tensor([0.0, 0, 0, 3, 1, 2], dtype=torch.float64) * mean
    z = torch.tensor(math.log(mean), dtype=torch.float64, requires_grad=True)
    loss = kind(z.expand(6), y, torch.tensor(mean, dtype=torch.float64)).mean()
    (slope,) = torch.autograd.grad(loss, z, create_graph=True)
    (bend,) = torch.autograd.grad(slope, z)
    assert bend.item() == pytest.approx(1)


@pytest.mark.parametrize("loss", [weighted_logistic_loss, approximate_weighted_logistic_loss])
def test_weighted_losses_are_the_same_in_hours_and_seconds(loss):
    z, y = torch.linspace(-3, 3, 6, dtype=torch.float64), torch.tensor([0.0, 2, 0, 1, 0.1, 7], dtype=torch.float64)
    in_hours, in_seconds = (
        loss(z + math.log(unit), y * unit, torch.tensor(1.5 * unit, dtype=torch.float64)) for unit in (1.0, 3600.0)
    )
    np.testing.assert_allclose(in_hours, in_seconds, atol=1e-12)


def test_the_published_form_can_order_two_titles_wrongly():
    """Nine in ten watch one for 4 seconds, one in ten the other for 60: the means are 3.6 and 6."""
    means, shares = np.array([3.6, 6.0]), np.array([0.9, 0.1])
    odds = []
    for mean, share in zip(means, shares, strict=True):
        watched = torch.zeros(10, dtype=torch.float64)
        watched[: round(10 * share)] = mean / share
        z = torch.tensor(math.log(mean / (1 - share)), dtype=torch.float64, requires_grad=True)
        approximate_weighted_logistic_loss(z.expand(10), watched, torch.tensor(1.0)).sum().backward()
        assert z.grad is not None
        assert z.grad.item() == pytest.approx(0, abs=1e-12)
        odds.append(z.exp().item())
    assert odds[0] > odds[1]


def test_huge_logits_stay_finite():
    z = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(binary_cross_entropy(z, torch.tensor([1.0, 0.0]))).all()
    for weighted in (weighted_logistic_loss, approximate_weighted_logistic_loss):
        assert torch.isfinite(weighted(z, torch.tensor([5.0, 0.0]), torch.tensor(1.0))).all()
