"""Rankers that only order: sets that lie in several rows of requests are one, and losses are those of slow loops."""

from dataclasses import replace

import pytest
import torch

from tests.models.test_main_model import RANKER_INPUTS, candidates, pasts, request
from tests.models.test_main_model import make as make_main
from tests.models.test_youtube import make
from tests.reference import orders
from upnext.base.batches import Column
from upnext.models.main_model import MainModel
from upnext.models.youtube import YouTubeRanker
from upnext.objectives.ranking import OrderRanking, RankingBatch

WEIGHTS = {"like": 1.0, "seconds": 0.5, "dislike": -2.0}
ORDERS = RANKER_INPUTS.model_copy(update={"predicted": {}, "orders": True})


def shown() -> RankingBatch:
    """Four rows of requests in three sets: the first two rows are one set; the past of each row's set."""
    g = torch.Generator().manual_seed(4)
    offered, past = candidates(), pasts()
    mask = torch.ones_like(offered.mask)
    mask[1, 3:], mask[3, 1:] = False, False
    feedback = {
        name: Column(torch.randint(0, 3, mask.shape, generator=g).float(), (torch.rand(mask.shape, generator=g) < 0.8))
        for name in WEIGHTS
    }
    of_sets = past.lengths[[0, 2, 3]]
    histories = replace(
        past,
        lengths=of_sets,
        **{name: getattr(past, name)[[0, 2, 3]] for name in ("item", "item_hash", "time_ms", "order", "request")},
        columns={name: column.take(torch.tensor([0, 2, 3])) for name, column in past.columns.items()},
        views={name: view[[0, 2, 3]] for name, view in past.views.items()},
    )
    return RankingBatch(histories, torch.tensor([0, 0, 1, 2]), request(), replace(offered, mask=mask), feedback)


@pytest.fixture(params=["youtube", "main"])
def model(request: pytest.FixtureRequest) -> MainModel | YouTubeRanker:
    return make(ORDERS) if request.param == "youtube" else make_main(ORDERS)


@pytest.mark.parametrize(("form", "slow"), [("pairwise", orders.pairwise), ("listwise", orders.listwise)])
def test_a_set_is_ordered_as_one_whatever_rows_it_lies_in(model, form, slow):
    batch = shown()
    terms = OrderRanking(model, form, WEIGHTS)(batch, 0)
    ((loss, weight),) = terms.values()
    with torch.inference_mode():
        scores = model.predict(model.encode(batch.histories).take(batch.set), batch.request, batch.candidates)
    expected = torch.zeros(2)
    for number in range(3):
        here = (batch.set == number)[:, None] & batch.candidates.mask
        utility = torch.zeros(int(here.sum()))
        for name, weight_of in WEIGHTS.items():
            column = batch.feedback[name]
            utility += weight_of * (column.values * column.observed)[here]
        expected += torch.tensor(slow(scores["utility"][here].tolist(), utility.tolist()))
    torch.testing.assert_close(torch.stack([loss, weight]).detach(), expected, atol=1e-5, rtol=1e-5)
    assert expected[1] > 0
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("form", ["pairwise", "listwise"])
def test_what_was_not_shown_counts_nowhere(model, form):
    batch = shown()
    objective = OrderRanking(model, form, WEIGHTS)
    ((loss, _),) = objective(batch, 0).values()
    outside = ~batch.candidates.mask
    feedback = {
        name: Column(torch.where(outside, 100.0, column.values), column.observed | outside)
        for name, column in batch.feedback.items()
    }
    ((again, _),) = objective(replace(batch, feedback=feedback), 0).values()
    torch.testing.assert_close(again, loss)
