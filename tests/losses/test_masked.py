import numpy as np
import pytest
import torch

from tests.reference.masked import max_margin, same_sequence
from upnext.losses.masked import max_margin_loss, same_sequence_loss


def tensors(*arrays):
    return tuple(torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays)


def test_max_margin_is_the_loop_with_gradients():
    g = np.random.default_rng(0)
    features, table = g.normal(size=(30, 4)), g.normal(size=(7, 4))
    targets = g.integers(0, 7, 30).tolist()
    expected = max_margin(features, table, targets, 0.3)
    f, t = tensors(features, table)
    loss = max_margin_loss(f.float(), t.float(), torch.tensor(targets), 0.3)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected.loss, rel=1e-5)
    assert 0 < sum(bool(row.any()) for row in expected.d_features) < 30  # some are ahead by the margin
    np.testing.assert_allclose(f.grad, expected.d_features, atol=1e-5)
    np.testing.assert_allclose(t.grad, expected.d_rows, atol=1e-5)


def test_max_margin_by_hand():
    table = torch.tensor([[1.0], [0.7], [-5.0]])
    assert max_margin_loss(torch.ones(1, 1), table, torch.tensor([0]), 1.0).item() == pytest.approx(0.7)
    assert max_margin_loss(torch.ones(1, 1), table[:1], torch.tensor([0]), 1.0).item() == 0
    assert max_margin_loss(torch.ones(0, 1), table, torch.tensor([], dtype=torch.int64), 1.0).item() == 0


def test_same_sequence_is_the_loop_with_gradients():
    g = np.random.default_rng(1)
    items = [[3, 5, 3, 4], [6, 0, 0, 0], [2, 7, 0, 0]]
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 1)]
    features, inputs = g.normal(size=(5, 4)), g.normal(size=(3, 4, 4))
    expected = same_sequence(features, inputs, items, places)
    f, x = tensors(features, inputs)
    row, position = torch.tensor(places).T
    ids = torch.tensor(items)[row]
    own = torch.tensor([items[r][p] for r, p in places])
    at = torch.arange(4)
    compared = (ids > 0) & ((ids != own[:, None]) | (at == position[:, None]))
    loss = same_sequence_loss(f.float(), x.float()[row], compared, position)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected.loss, rel=1e-5)
    np.testing.assert_allclose(f.grad, expected.d_features, atol=1e-5)
    np.testing.assert_allclose(x.grad, expected.d_rows, atol=1e-5)
    assert not expected.d_features[3].any()  # alone in its sequence


def test_nothing_masked_costs_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    loss = same_sequence_loss(torch.zeros(0, 4), torch.zeros(0, 3, 4), torch.zeros(0, 3, dtype=torch.bool), none)
    assert loss.item() == 0
