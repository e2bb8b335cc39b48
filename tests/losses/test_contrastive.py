"""Noise-contrastive estimation by ranking: the slow loop, what it learns, and what it tends to."""

import numpy as np
import torch

from tests.reference.recent import ranking_nce as slow
from upnext.losses.contrastive import ranking_nce_loss

N, V, D, DRAWN = 5, 7, 3, 4


def test_equals_the_slow_loop():
    generator = np.random.default_rng(0)
    queries, items = generator.normal(size=(N, D)), generator.normal(size=(V, D))
    targets, drawn = generator.integers(V, size=N), generator.integers(V, size=(N, DRAWN))
    drawn[0, 1] = targets[0]  # a draw of the target itself is kept
    expected = slow(queries, items, targets.tolist(), drawn.tolist())
    query, table = torch.tensor(queries, requires_grad=True), torch.tensor(items, requires_grad=True)
    loss = ranking_nce_loss(query, table[torch.from_numpy(targets)], table, torch.from_numpy(drawn))
    loss.backward()
    assert query.grad is not None
    assert table.grad is not None
    np.testing.assert_allclose(loss.item(), expected[0], rtol=1e-5)  # logits are float32
    np.testing.assert_allclose(query.grad.numpy(), expected[1], atol=1e-5)
    np.testing.assert_allclose(table.grad.numpy(), expected[2], atol=1e-5)


def test_no_positions_add_nothing():
    nothing = torch.zeros(0, D)
    assert ranking_nce_loss(nothing, nothing, torch.zeros(V, D), torch.zeros(0, DRAWN).long()).item() == 0


def test_what_is_learnt_is_the_log_ratio_to_the_proposal():
    """With one or several draws alike: s = log P - log Q, up to a constant."""
    torch.manual_seed(0)
    p, q = torch.tensor([0.5, 0.2, 0.2, 0.05, 0.05]), torch.tensor([0.1, 0.1, 0.4, 0.2, 0.2])
    for num_drawn in (1, 5):
        s = torch.zeros(5, 1, requires_grad=True)
        optimizer = torch.optim.Adam([s], lr=0.05)
        for step in range(600):
            if step == 400:
                optimizer.param_groups[0]["lr"] = 0.005
            targets = torch.multinomial(p, 2000, replacement=True)
            drawn = torch.multinomial(q, 2000 * num_drawn, replacement=True).reshape(2000, num_drawn)
            loss = ranking_nce_loss(torch.ones(2000, 1), s[targets], s, drawn) / 2000
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        learnt, wanted = s.detach()[:, 0], (p / q).log()
        # 0.05 is noise of the last steps; log P alone would differ by up to 1.8
        torch.testing.assert_close(learnt - learnt.mean(), wanted - wanted.mean(), atol=0.05, rtol=0)


def test_its_gradient_tends_to_that_of_the_full_softmax_with_the_prior():
    torch.manual_seed(0)
    q, query, target = torch.softmax(torch.randn(V), 0), torch.randn(1, D), torch.tensor([3])
    items = torch.randn(V, D, requires_grad=True)
    (exact,) = torch.autograd.grad(torch.nn.functional.cross_entropy(query @ items.T + q.log(), target), items)
    apart = []
    for num_drawn in (20, 20_000):
        drawn = torch.multinomial(q, num_drawn, replacement=True)[None]
        (found,) = torch.autograd.grad(ranking_nce_loss(query, items[target], items, drawn), items)
        apart.append(float((found - exact).norm() / exact.norm()))
    assert apart[1] < 0.05 < apart[0]
