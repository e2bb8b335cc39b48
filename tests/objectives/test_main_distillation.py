"""A main model as a student: every loss over its sets, which may lie in several rows, is that of plain padded sets."""

from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from tests.models.test_main_model import RANKER_INPUTS
from tests.models.test_main_model import make as make_main
from tests.objectives.test_ranking import shown
from upnext.base.batches import Column
from upnext.base.example_sets import SetBatch
from upnext.objectives.distillation import LABEL, SAID, AnyTerm, Distillation, MainDistillation
from upnext.objectives.ranking import RankingBatch

INPUTS = RANKER_INPUTS.model_copy(update={"predicted": {"like": "binary"}})
KINDS = [
    *("label", "label_pairs", "label_list", "multi_positive"),
    *("scores", "differences", "pair_probabilities", "list_probabilities", "ranks", "rank_steps"),
]


def taught() -> RankingBatch:
    batch, g = shown(), torch.Generator().manual_seed(9)
    mask = batch.candidates.mask
    beside = {
        LABEL: Column(torch.randint(0, 2, mask.shape, generator=g).double(), torch.ones_like(mask)),
        SAID: Column(torch.randn(mask.shape, generator=g).double(), torch.rand(mask.shape, generator=g) < 0.8),
    }
    return replace(batch, candidates=replace(batch.candidates, features={**batch.candidates.features, **beside}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_of_a_main_model_is_that_of_its_sets(kind):
    batch, model = taught(), make_main(INPUTS)
    term: AnyTerm = TypeAdapter(AnyTerm).validate_python({"kind": kind, "weight": 0.5})
    ((loss, weight),) = MainDistillation(model, [term], 1.0)(batch, 0).values()
    with torch.inference_mode():
        scores = model.predict(model.encode(batch.histories).take(batch.set), batch.request, batch.candidates)["like"]
    found = torch.zeros(4, 3, 9, dtype=torch.float64)  # score, label, what is said, whether it is: of three sets
    mask = torch.zeros(3, 9, dtype=torch.bool)
    features = batch.candidates.features
    for number in range(3):
        here = (batch.set == number)[:, None] & batch.candidates.mask
        size = int(here.sum())
        mask[number, :size] = True
        for place, part in enumerate(
            (scores, features[LABEL].values, features[SAID].values, features[SAID].observed.double())
        ):
            found[place, number, :size] = part[here].double()
    sets = SetBatch((found[0],), mask, found[1], Column(found[2], found[3].bool()))
    ((expected, count),) = Distillation(nn.Identity(), [term], 1.0)(sets, 0).values()
    torch.testing.assert_close(loss.double().detach(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weight.double(), count.double())
    assert count > 0
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_it_reads_neither_what_came_of_candidates_nor_what_is_said_of_them():
    batch, model = taught(), make_main(INPUTS).eval()
    without = replace(
        batch.candidates, features={k: v for k, v in batch.candidates.features.items() if k in INPUTS.reads}
    )
    with torch.inference_mode():
        state = model.encode(batch.histories).take(batch.set)
        found = [model.predict(state, batch.request, of)["like"] for of in (batch.candidates, without)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
