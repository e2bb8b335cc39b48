"""Embeddings: what optimisers and checkpoints must know of them."""

import pytest
import torch

from upnext.nn.embeddings import HashedConfig, HashedEmbeddings, PlainEmbeddings
from upnext.training.memory import need_of
from upnext.training.optimizers import adamw

VALUES = torch.tensor([[3], [2**60 + 7], [-5]])


def hashed(*, sparse: bool = False) -> HashedEmbeddings:
    torch.manual_seed(0)
    return HashedEmbeddings(HashedConfig(rows=16, sparse=sparse), 4)


@pytest.mark.parametrize("embeddings", [hashed(), hashed(sparse=True), PlainEmbeddings({"item": VALUES[:2, 0]}, 4)])
def test_tables_do_not_decay(embeddings):
    decayed, rest = (group["params"] for group in adamw(embeddings, 0.1, 0.5).param_groups)
    assert not decayed
    assert len(rest) == 1


def test_sparse_gradients_are_those_of_dense_ones_and_move_the_same_rows():
    dense, sparse = hashed(), hashed(sparse=True)
    before = dense.table.weight.detach().clone()
    for embeddings in (dense, sparse):
        embeddings("item", VALUES).square().sum().backward()
    gradient = sparse.table.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    torch.testing.assert_close(gradient.to_dense(), dense.table.weight.grad)
    for embeddings in (dense, sparse):
        adamw(embeddings, 0.1, 0.5).step()
    torch.testing.assert_close(sparse.table.weight, dense.table.weight)
    read = dense.rows("item", VALUES).unique()
    moved = (dense.table.weight != before).any(1).nonzero().squeeze(1)
    assert moved.tolist() == read.tolist()


def test_what_is_read_several_times_has_one_part_of_a_sparse_gradient():
    dense, sparse = hashed(), hashed(sparse=True)
    words = torch.tensor([[3, 3, 8], [8, 5, 3], [5, 0, 0]])
    observed = torch.tensor([[True, True, True], [True, True, True], [True, False, False]])
    lookups = [("item", VALUES, None), ("words", words, observed)]
    found = [embeddings.sum_of(lookups) for embeddings in (dense, sparse)]
    assert torch.equal(*found)
    for out in found:
        (out * torch.arange(12.0).reshape(3, 4)).sum().backward()
    gradient = sparse.table.weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient.to_dense(), dense.table.weight.grad)
    read = torch.cat([dense.rows(name, values).flatten() for name, values, _ in lookups])
    assert gradient._nnz() == len(read.unique())


def test_the_memory_of_sparse_gradients_is_not_counted_twice():
    assert need_of(hashed(sparse=True), 0, 0).sparse == 16 * 4
    assert need_of(hashed(), 0, 0).sparse == 0


def test_a_plain_table_is_read_back_for_a_catalogue_that_has_grown():
    old = PlainEmbeddings({"item": VALUES[:2, 0], "genre": torch.tensor([9])}, 4)
    new = PlainEmbeddings({"item": VALUES[:, 0], "genre": torch.tensor([9, 8, 7])}, 4)
    new.load_state_dict(old.state_dict())
    torch.testing.assert_close(new("item", VALUES), old("item", VALUES))
    unknown = old("item", torch.tensor([[0]]))[0]  # no hash is 0
    torch.testing.assert_close(new("item", VALUES)[2], unknown)
    assert unknown.abs().sum() > 0
