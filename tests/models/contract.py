"""What every retriever promises. A model's test file calls `check_retriever`."""

import torch

from tests.models.histories import histories, request
from upnext.base.batches import ItemTable
from upnext.base.ids import FIRST
from upnext.base.protocols import Retriever, VectorRetriever, offsets_of

ITEMS = [[2, 5, 3], [], [10, 4, 4, 6, 2], [7]]


def check_retriever(model: Retriever, num_items: int, table: ItemTable | None = None) -> None:
    """`table` is the catalogue of a model that reads more of an item than its dense id."""
    assert isinstance(model, Retriever)
    batch = histories(ITEMS)
    state, ask = model.encode(batch), request(len(ITEMS))
    assert len(state) == len(ITEMS)
    everything = torch.arange(num_items)[None]
    scores = model.score(state, ask, everything)
    assert scores.shape == (len(ITEMS), num_items)
    assert scores.dtype == torch.float32
    assert not torch.isnan(scores).any()

    # A batch of one answers as a batch of many, and padding changes nothing.
    for row, items in enumerate(ITEMS):
        alone = model.score(model.encode(histories([items])), request(1), everything)
        torch.testing.assert_close(alone[0], scores[row], atol=1e-5, rtol=1e-5)

    # Swapping candidates swaps scores; candidates per row score as the shared row does.
    order = torch.randperm(num_items)
    torch.testing.assert_close(model.score(state, ask, order[None]), scores[:, order], atol=1e-5, rtol=1e-5)
    per_row = torch.stack([torch.randperm(num_items)[:5] for _ in ITEMS])
    torch.testing.assert_close(model.score(state, ask, per_row), scores.gather(1, per_row), atol=1e-5, rtol=1e-5)

    # A state can be stored, selected and joined.
    rows = torch.tensor([2, 0, 2])
    picked = model.score(state.take(rows), request(3), everything)
    torch.testing.assert_close(picked, scores[rows], atol=1e-5, rtol=1e-5)
    _check_top_k(model, num_items)
    if isinstance(model, VectorRetriever):
        _check_vectors(model, table or ItemTable(torch.arange(num_items), torch.arange(num_items)))


def _check_top_k(model: Retriever, num_items: int) -> None:
    state, ask = model.encode(histories(ITEMS)), request(len(ITEMS))
    scores = model.score(state, ask, torch.arange(num_items)[None])
    allowed = torch.rand(len(ITEMS), num_items, generator=torch.Generator().manual_seed(0)) < 0.5
    for k in (1, 3, num_items + 4):
        items, best = model.top_k(state, ask, k, allowed)
        assert items.shape == best.shape == (len(ITEMS), k)
        for row in range(len(ITEMS)):
            can = [i for i in range(FIRST, num_items) if allowed[row, i] and scores[row, i] > -torch.inf]
            of = scores[row].tolist()
            expected = sorted(can, key=of.__getitem__, reverse=True)[:k]  # stable: ties by the lower id
            assert items[row].tolist() == expected + [0] * (k - len(expected))
            assert (best[row, len(expected) :] == -torch.inf).all()
            torch.testing.assert_close(best[row, : len(expected)], scores[row, expected])


def _check_vectors(model: VectorRetriever, table: ItemTable) -> None:
    state, ask = model.encode(histories(ITEMS)), request(len(ITEMS))
    can = model.can_score(table)
    dots = model.query_vectors(state, ask) @ model.item_vectors(table).T
    if (offsets := offsets_of(model, state, ask)) is not None:
        assert offsets.shape in ((1, len(table)), (len(ITEMS), len(table)))
        dots = dots + offsets
    scores = model.score(state, ask, table.item[None])
    torch.testing.assert_close(dots[:, can], scores[:, can], atol=1e-5, rtol=1e-5)
    assert (scores[:, ~can] == -torch.inf).all()
    assert (model.item_vectors(table)[~can] == 0).all()
