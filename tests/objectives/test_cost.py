"""FLOPs by formula against torch's own counter, forward and with the backward pass; parameters add up."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.models.histories import histories
from upnext.base.batches import Column, ItemTable, SequenceBatch
from upnext.base.configuration import parse_config
from upnext.base.schema import FeatureKind, FeedbackKind
from upnext.base.views import TARGET
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.nn.encoders import Inputs
from upnext.objectives.argus import ARGUSObjective, TaskConfig
from upnext.objectives.cost import Flops, StepShape, flops_of, parameters_of
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.softmax import (
    CatalogueSoftmax,
    FullSoftmax,
    FullSoftmaxConfig,
    SampledSoftmaxConfig,
    make_softmax,
)

V, B, L, D = 400, 5, 24, 16
SHAPE = StepShape(rows=B, length=L, predicted=B * L, asked=B * L, items=0)
FEEDBACK: dict[str, FeedbackKind] = {"like": "binary", "played": "fraction"}
FEATURES: dict[str, FeatureKind] = {"tags": "multi", "image": "vector"}


def batch() -> SequenceBatch:
    g = torch.Generator().manual_seed(0)
    items = torch.randint(2, V, (B, L), generator=g).tolist()
    seen = torch.ones(B, L, dtype=torch.bool)
    columns = {f"feedback.{name}": Column(torch.rand(B, L, generator=g).round(), seen) for name in FEEDBACK}
    columns |= {"context.surface": Column(torch.randint(1, 4, (B, L), generator=g), seen)}
    columns |= {"context.hour": Column(24 * torch.rand(B, L, generator=g), seen)}
    whole = histories(items)
    return SequenceBatch(**(vars(whole) | {"columns": columns, "views": {TARGET: whole.mask}}))


def argus(form: str, softmax: CatalogueSoftmax, **settings: Any) -> ARGUSObjective:
    torch.manual_seed(0)
    size = {"form": form, "width": D, "layers": 2, "heads": 2, "max_length": L, "embeddings": {"kind": "hashed"}}
    inputs = Inputs(
        has_times=True,
        contexts={"surface": 4, "hour": 0},
        feedback=FEEDBACK,
        item_features=FEATURES,
        vector_widths={"image": 6},
    )
    features = {
        "tags": Column(torch.randint(1, 99, (V, 3)), torch.ones(V, 3, dtype=torch.bool)),
        "image": Column(torch.randn(V, 6), torch.ones(V, dtype=torch.bool)),
    }
    items = ItemTable(torch.arange(V), torch.arange(V) * 7919, features)
    model = ARGUS(parse_config(ARGUSConfig, size | settings, "test"), inputs, items, torch.arange(V) >= 2)
    return ARGUSObjective(model, softmax, TaskConfig(), {})


def sasrec(softmax: CatalogueSoftmax) -> NextItemPrediction:
    return NextItemPrediction(SASRec(SASRecConfig(width=D, layers=3, max_length=L), torch.arange(V) >= 2), softmax)


SAMPLED = SampledSoftmaxConfig(negatives="uniform", num_drawn=20)
MAKERS: dict[str, Callable[[CatalogueSoftmax], NextItemPrediction | ARGUSObjective]] = {
    "sasrec": sasrec,
    "simplified": lambda softmax: argus("simplified", softmax),
    "attending": lambda softmax: argus("simplified", softmax, target_attention=True),
    "full": lambda softmax: argus("full", softmax),
}


def softmax_of(kind: str) -> CatalogueSoftmax:
    if kind == "full":
        return FullSoftmax(FullSoftmaxConfig(), V - 2)
    return make_softmax(SAMPLED, torch.ones(V - 2, dtype=torch.int64))


def counted(objective: NextItemPrediction | ARGUSObjective, *, backward: bool) -> int:
    """What torch counts; it counts every pair of tokens, so attention has to be computed pair by pair."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        with torch.set_grad_enabled(backward):
            terms = objective(batch(), 0)
        if backward:
            torch.autograd.backward(torch.stack([total for total, _ in terms.values()]).sum())
    return int(counter.get_total_flops())


@pytest.mark.parametrize("softmax", ["full", "sampled"])
@pytest.mark.parametrize("kind", list(MAKERS))
def test_the_formula_is_what_torch_counts(kind: str, softmax: str) -> None:
    objective = MAKERS[kind](softmax_of(softmax))
    items = len(batch().item.unique())
    flops = flops_of(objective, StepShape(B, L, B * L, B * L, items))
    T = 3 * L + 1 if kind == "full" else L
    above_the_diagonal = flops.attention * (T - 1) // (T + 1)
    assert flops.forward + above_the_diagonal == pytest.approx(counted(objective, backward=False), rel=0.02)
    assert flops.training + 3 * above_the_diagonal == pytest.approx(counted(objective, backward=True), rel=0.03)


def test_by_hand() -> None:
    flops = flops_of(sasrec(softmax_of("full")), SHAPE)
    assert flops.encoder == B * L * 3 * 24 * D * D
    assert flops.attention == B * 3 * 4 * D * L * (L + 1) // 2
    assert (flops.inputs, flops.heads) == (0, 0)
    assert flops.softmax == 2 * D * B * L * (V - 2)
    assert flops.training == 3 * flops.forward
    assert Flops(1, 2, 3, 4, 5) + Flops(encoder=1) == Flops(2, 2, 3, 4, 5)


def test_what_is_not_asked_for_costs_nothing() -> None:
    objective = argus("simplified", softmax_of("full"))
    assert flops_of(objective, StepShape(B, L, B * L, 0, 9)).softmax == 0


@pytest.mark.parametrize("kind", list(MAKERS))
def test_parameters_add_up(kind: str) -> None:
    objective = MAKERS[kind](make_softmax(FullSoftmaxConfig(temperature="learned"), torch.ones(V - 2).long()))
    found = parameters_of(objective)
    assert sum(found.values()) == sum(parameter.numel() for parameter in objective.parameters())
    per_layer = 12 * D * D + 9 * D + 4 * D  # weights, biases, two norms
    assert found["encoder"] == len(objective.model.layers) * per_layer + 2 * D
    assert found["heads"] > 0 if kind != "sasrec" else found["heads"] == 1


def test_the_published_sizes() -> None:
    for layers, width, expected in ((4, 256, 3.2), (6, 512, 18.9)):
        embeddings = {"kind": "hashed", "rows": 8}
        sizes = {"layers": layers, "width": width, "heads": width // 64, "embeddings": embeddings}
        found = parameters_of(argus("full", softmax_of("full"), **sizes))
        assert round(found["encoder"] / 1e6, 1) == expected
