import math

import pytest
import torch

from tests.models.histories import histories
from upnext.base.batches import SequenceBatch
from upnext.base.views import TARGET
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.objectives.next_item import NextItemPrediction

V = 11


@pytest.fixture(scope="module")
def model() -> SASRec:
    torch.manual_seed(0)
    trained = torch.arange(V) >= 2
    trained[8] = False
    made = SASRec(SASRecConfig(width=8, layers=1, heads=2, max_length=6, dropout=0.0), trained)
    for parameter in made.parameters():
        parameter.data.mul_(5)
    return made


def with_targets(batch: SequenceBatch, target: torch.Tensor) -> SequenceBatch:
    return SequenceBatch(**(vars(batch) | {"views": {TARGET: target}}))


ITEMS = [[2, 5, 3, 4], [], [10, 4, 6], [7]]
REQUESTS = [[0, 1, 1, 2], [], [3, 3, 3], [4]]


def test_equals_one_encoding_per_target(model):
    batch = histories(ITEMS, REQUESTS)
    target = batch.mask.clone()
    target[2, 1] = False
    (loss, weight) = NextItemPrediction(model)(with_targets(batch, target), 0)["next_item"]
    expected, count = 0.0, 0
    with torch.no_grad():
        for row, (items, requests) in enumerate(zip(ITEMS, REQUESTS, strict=True)):
            for event, item in enumerate(items):
                if not target[row, event]:
                    continue
                before = [i for i, r in zip(items, requests, strict=True) if r < requests[event]]
                state = model.encode(histories([before])).tensors["hidden"][0]
                logits = {i: float(state @ model.item_embedding.weight[i]) for i in range(2, V) if i != 8}
                expected += math.log(sum(math.exp(logit) for logit in logits.values())) - logits[item]
                count += 1
    assert weight.item() == count == 7
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_longest_history_that_is_served_is_trained(model):
    chunk = histories([[2, 3, 4, 5, 6, 7, 9]])  # one event more than the model reads
    (loss, weight) = NextItemPrediction(model)(with_targets(chunk, chunk.mask), 0)["next_item"]
    model.zero_grad()
    loss.backward()
    assert weight.item() == 7
    assert (model.positions.grad.abs().sum(1) > 0).all()


def test_a_sibling_never_changes_a_prediction(model):
    objective = NextItemPrediction(model)
    target = torch.tensor([[False, True, False]])
    requests = [[0, 1, 1]]
    losses = [
        objective(with_targets(histories([[2, 5, sibling]], requests), target), 0)["next_item"][0].item()
        for sibling in (3, 9)
    ]
    flipped = [
        objective(with_targets(histories([[2, sibling, 5]], requests), target.roll(1, 1)), 0)["next_item"][0].item()
        for sibling in (3, 9)
    ]
    assert losses[0] == losses[1]
    assert flipped == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_two_halves_add_up_to_the_whole(model):
    objective = NextItemPrediction(model)
    batch = histories(ITEMS, REQUESTS)
    whole = objective(with_targets(batch, batch.mask), 0)["next_item"]
    parts = []
    for rows in ([0, 1], [2, 3]):
        half = histories([ITEMS[row] for row in rows], [REQUESTS[row] for row in rows])
        parts.append(objective(with_targets(half, half.mask), 0)["next_item"])
    assert sum(part[0].item() for part in parts) == pytest.approx(whole[0].item(), rel=1e-5)
    assert sum(part[1].item() for part in parts) == whole[1].item()
