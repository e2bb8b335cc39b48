"""Lazy AdamW: AdamW on what is dense, rows that occur on what is sparse."""

import copy

import pytest
import torch
from torch import nn

from upnext.training.optimizers import adamw, clip_gradients

V, D = 7, 3


class Table(nn.Module):
    """A table and a matrix."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(V, D, sparse=sparse)
        self.matrix = nn.Parameter(torch.randn(D, D))

    def loss(self, rows: list[int], scale: float) -> torch.Tensor:
        vectors: torch.Tensor = self.table(torch.tensor(rows))
        return ((vectors @ self.matrix) ** 2).sum() * scale


def trained(sparse: bool, batches: list[list[int]], clip: float = 1e9) -> tuple[Table, torch.optim.Optimizer]:
    model = Table(sparse)
    optimizer = adamw(model, 0.05, 0.1)
    for step, rows in enumerate(batches):
        optimizer.zero_grad()
        model.loss(rows, 1.0 + step).backward()
        clip_gradients(model.parameters(), clip)
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("clip", [1e9, 0.5])
def test_equals_adamw_where_every_row_occurs(clip):
    batches = [[*range(V), 2, 2], [*range(V)], [5, *range(V)]]
    sparse, dense = trained(True, batches, clip)[0], trained(False, batches, clip)[0]
    torch.testing.assert_close(sparse.table.weight, dense.table.weight, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(sparse.matrix, dense.matrix, atol=1e-6, rtol=1e-5)


def test_absent_rows_keep_their_weights_and_moments():
    batches = [[*range(V)], [1, 4, 4]]
    before, first = trained(True, batches[:1])
    after, second = trained(True, batches)
    absent = [0, 2, 3, 5, 6]
    assert torch.equal(after.table.weight[absent], before.table.weight[absent])
    for name in ("exp_avg", "exp_avg_sq"):
        old, new = first.state[before.table.weight][name], second.state[after.table.weight][name]
        assert torch.equal(new[absent], old[absent])
        assert bool((new[[1, 4]] != old[[1, 4]]).all())
    dense = trained(False, batches)[0]
    torch.testing.assert_close(after.table.weight[[1, 4]], dense.table.weight[[1, 4]], atol=1e-6, rtol=1e-5)
    assert not torch.equal(dense.table.weight[absent], before.table.weight[absent])  # dense Adam moves them on


def test_a_row_of_late_is_corrected_for_all_steps_as_in_dense_adam():
    batches = [[1], [1], [1], [2]]
    sparse, dense = trained(True, batches)[0], trained(False, batches)[0]
    torch.testing.assert_close(sparse.table.weight[2], dense.table.weight[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("largest", [0.1, 1e9])
def test_clipping_counts_sparse_gradients_by_their_sums(largest):
    models = [Table(sparse) for sparse in (True, False)]
    for model in models:
        model.loss([1, 1, 3, 1], 1.0).backward()
    norm = clip_gradients(models[0].parameters(), largest)
    expected = nn.utils.clip_grad_norm_(models[1].parameters(), largest)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = [model.table.weight.grad for model in models]
    assert gradients[0] is not None
    assert gradients[1] is not None
    torch.testing.assert_close(gradients[0].to_dense(), gradients[1])
    torch.testing.assert_close(models[0].matrix.grad, models[1].matrix.grad)


def test_its_state_goes_on_where_it_was_saved():
    whole, _ = trained(True, [[1, 2], [2, 3], [3, 1]])
    part, optimizer = trained(True, [[1, 2], [2, 3]])
    other = adamw(part, 0.05, 0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other.zero_grad()
    part.loss([3, 1], 3.0).backward()
    clip_gradients(part.parameters(), 1e9)
    other.step()
    assert torch.equal(part.table.weight, whole.table.weight)
