"""Masked training: what it learns from, what it cannot see, and that nothing of it is served."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_argus import V, catalogue
from tests.models.test_main_model import B, C, answer, candidates, make, pasts, request
from upnext.base.batches import Column, SequenceBatch
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.models.build import load_any, save_model
from upnext.models.main_model import MainModel, MainModelConfig
from upnext.objectives.feedback import FeedbackLosses
from upnext.objectives.masked import MaskedConfig, MaskedTraining, masked_aggregators
from upnext.objectives.ranking import PointwiseRanking, RankingBatch

COUNTS = torch.cat([torch.zeros(2, dtype=torch.int64), torch.arange(1, V - 1)])
BOTH = {
    "liked": {"kind": "self_attention", "view": "liked", "length": 4},
    "all": {"kind": "self_attention", "length": 5},
}
EMBEDDINGS = ("shared", "per_position", "random", "fixed")


def objective(settings: dict[str, Any] | None = None, counts: Tensor = COUNTS) -> MaskedTraining:
    model = make(aggregators=BOTH)
    losses = FeedbackLosses(model.inputs.predicted, {}, {"seconds": 20.0})
    config = parse_config(MaskedConfig, {"rate": 0.5, "weight": 2.0, **(settings or {})}, "test")
    torch.manual_seed(5)
    return MaskedTraining(PointwiseRanking(model, losses), config, counts).train()


def batch(histories: SequenceBatch | None = None) -> RankingBatch:
    g = torch.Generator().manual_seed(1)
    feedback = {
        "like": Column(torch.randint(0, 2, (B, C), generator=g).float(), torch.rand(B, C, generator=g) > 0.2),
        "seconds": Column(torch.rand(B, C, generator=g) * 40, torch.rand(B, C, generator=g) > 0.2),
    }
    return RankingBatch(histories or pasts(), torch.arange(B), request(), candidates(), feedback)


def masks(training: MaskedTraining, seed: int, histories: SequenceBatch | None = None) -> dict[str, Tensor]:
    """Which positions a seed masks: what `forward` draws first."""
    torch.manual_seed(seed)
    behaviours = training.model.behaviours(training.model.read(histories or pasts()))
    return {name: training._choose(behaviour, None) for name, behaviour in behaviours.items()}


def values(terms: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    return {name: total.item() for name, (total, _) in terms.items()}


@pytest.mark.parametrize("kind", ["full", "max_margin", "same_sequence", "sampled"])
def test_the_terms_are_the_losses_of_masked_positions(kind):
    training = objective({"compare": {"kind": kind}})
    chosen = masks(training, 7)
    torch.manual_seed(7)
    terms = training(batch(), 0)
    assert terms.keys() == {"masked.liked", "masked.all", "feedback.like", "feedback.seconds"}
    for name in ("liked", "all"):
        assert terms[f"masked.{name}"][1].item() == chosen[name].sum().item() > 0
    if kind == "sampled":
        return
    model = training.model
    with torch.no_grad():
        table = model.vectors_of(torch.arange(V))
        for number, (name, behaviour) in enumerate(model.behaviours(model.read(pasts())).items()):
            put = training.mask[str(number)](torch.zeros(1, dtype=torch.int64))
            x = torch.where(chosen[name][..., None], put, behaviour.x)
            features = model.features(name, replace(behaviour, x=x))
            expected = 0.0
            for row, position in chosen[name].nonzero().tolist():
                items = behaviour.events.item[row, : int(behaviour.events.lengths[row])].tolist()
                own = items[position]
                # of a sequence, an item that stands twice counts twice
                others = [i for i in (items if kind == "same_sequence" else range(2, V)) if i != own]
                scores = table[[own, *others]] @ features[row, position]
                if kind == "max_margin":
                    expected += max(0.0, (1 + scores[1:].max() - scores[0]).item())
                else:
                    expected += (scores.logsumexp(0) - scores[0]).item()
            assert values(terms)[f"masked.{name}"] == pytest.approx(2.0 * expected, rel=1e-4)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_masked_position_carries_nothing_of_what_was_there(embedding):
    training = objective({"embedding": embedding})
    chosen = masks(training, 3)["all"]
    row, position = chosen.nonzero()[0].tolist()
    past = pasts()
    shift = max(0, int(past.lengths[row]) - 5)  # it reads the last five
    place = position + shift
    other = 2 + (int(past.item[row, place]) - 1) % (V - 2)
    item, hashes = past.item.clone(), past.item_hash.clone()
    item[row, place], hashes[row, place] = other, catalogue().item_hash[other]
    columns = {name: Column(c.values.clone(), c.observed.clone()) for name, c in past.columns.items()}
    for name, column in columns.items():  # with all that is known of the event
        column.observed[row, place] = ~column.observed[row, place]
        if name == "feedback.like":
            column.values[row, place] = 1 - column.values[row, place]
    changed = replace(past, item=item, item_hash=hashes, columns=columns)
    features = []
    for histories in (past, changed):
        torch.manual_seed(3)
        behaviours = training.model.behaviours(training.model.read(histories))
        features.append(training._masked(behaviours, None)[1]["all"])
    assert torch.equal(features[0], features[1])
    with torch.no_grad():
        before, after = (training.model.features("all", training.model.behaviours(h)["all"]) for h in (past, changed))
    assert not torch.allclose(before, after)


def test_only_masked_positions_contribute():
    training = objective({"mode": "only"})
    torch.manual_seed(3)
    model, put = training.model, {}
    behaviours = model.behaviours(model.read(pasts()))
    plain = model.features

    def kept(name: str, behaviour: Any) -> Tensor:
        put[name] = plain(name, behaviour)
        put[name].retain_grad()
        return put[name]

    model.features = kept  # type: ignore[method-assign]
    terms, _ = training._masked(behaviours, None)
    torch.autograd.backward(torch.stack([total for total, _ in terms.values()]).sum())
    chosen = masks(training, 3)
    for name, features in put.items():
        assert features.grad is not None
        assert (features.grad.abs().sum(2) > 0).tolist() == chosen[name].tolist()


@pytest.mark.parametrize("kind", ["full", "sampled", "max_margin", "same_sequence"])
def test_nothing_masked_costs_nothing(kind):
    training = objective({"rate": 1e-9, "compare": {"kind": kind}})
    terms = training(batch(), 0)
    assert [value for name, value in values(terms).items() if name.startswith("masked")] == [0, 0]
    assert all(weight.item() == 0 for name, (_, weight) in terms.items() if name.startswith("masked"))
    plain = values(training.ranking(batch(), 0))
    assert {name: value for name, value in values(terms).items() if name in plain} == pytest.approx(plain)


def test_the_main_output_of_one_pass_is_computed_from_the_masked_features():
    training = objective()
    torch.manual_seed(1)
    terms = values(training(batch(), 0))
    plain = values(training.ranking(batch(), 0))
    assert all(terms[name] != pytest.approx(value, rel=1e-6) for name, value in plain.items())
    torch.autograd.backward(sum(total for total, _ in training(batch(), 0).values()))
    reached = {name for name, p in training.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"mask.0.weight", "mask.1.weight"} < reached


def test_modes_take_turns_or_leave_the_ranking_out():
    turns = objective({"mode": "in_turn"})
    names = [sorted({name.split(".")[0] for name in turns(batch(), step)}) for step in range(4)]
    assert names == [["feedback"], ["masked"]] * 2
    assert values(turns(batch(), 0)) == pytest.approx(values(turns.ranking(batch(), 0)))
    only = objective({"mode": "only"})
    assert {name.split(".")[0] for name in only(batch(), 0)} == {"masked"}
    held = [values(only.held_out(batch(), torch.Generator().manual_seed(4))) for _ in range(2)]
    assert held[0] == held[1]
    together = objective()
    assert values(together.held_out(batch(), torch.Generator())) == pytest.approx(values(together.ranking(batch(), 0)))


def test_exactly_one_of_each_sequence_and_never_what_was_not_trained():
    counts = COUNTS.clone()
    counts[int(pasts().item[3, 0])] = 0
    training = objective({"rate": "one"}, counts)
    chosen = masks(training, 0)["all"]
    assert chosen.sum(1).tolist() == [1, 0, 1, 0]
    trained = counts[pasts().last(5).item] > 0
    assert not (chosen & ~trained).any()


def test_nothing_of_it_is_served(tmp_path):
    with_masks, without = objective().model, make(aggregators=BOTH)
    assert with_masks.state_dict().keys() == without.state_dict().keys()
    shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (with_masks, without)]
    assert shapes[0] == shapes[1]
    save_model(with_masks.eval(), tmp_path)
    loaded = load_any(tmp_path, catalogue())
    assert isinstance(loaded, MainModel)
    torch.manual_seed(0)
    first = answer(loaded, pasts(), request(), candidates())
    torch.manual_seed(1)
    assert torch.equal(answer(loaded, pasts(), request(), candidates()), first)
    assert graph(with_masks) == graph(without.eval())


def graph(model: MainModel) -> str:
    """The operations of one answer, in their order, with their shapes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as recorded:
        answer(model, pasts(), request(), candidates())
    return "\n".join(f"{event.name} {event.input_shapes}" for event in recorded.events() if "aten" in event.name)


def test_a_model_learns_what_stands_at_masked_positions():
    torch.manual_seed(0)
    training = objective({"mode": "only", "rate": "one", "embedding": "per_position"})
    optimizer = torch.optim.Adam(training.parameters(), lr=0.01)
    first = last = 0.0
    for step in range(150):
        terms = training(batch(), step)
        loss = sum(total / weight.clamp(min=1) for total, weight in terms.values())
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        for parameter in training.parameters():
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.to_dense()
        optimizer.step()
        first, last = (loss.item() if step < 10 else first), loss.item()
    assert last < 0.5 * first


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": -0.1}, r"weight: Input should be greater than or equal to 0 \(found -0.1\)"),
        ({"rate": 0.0}, "rate"),
        ({"rate": 1.0}, "rate"),
        ({"rate": "two"}, "one"),
        ({"embedding": "zeros"}, "per_position"),
        ({"mode": "first"}, "in_turn"),
        ({"compare": {"kind": "hinge"}}, "max_margin"),
        ({"compare": {"kind": "max_margin", "margin": 0}}, "margin"),
    ],
)
def test_bad_settings_are_explained(settings, words):
    with pytest.raises(BadConfig, match=words):
        parse_config(MaskedConfig, settings, "test")


@pytest.mark.parametrize(
    ("aggregators", "named", "words"),
    [
        ({"a": {"kind": "sum_pooling"}}, None, r"'a': its kind is sum_pooling.*remove \[masked\]"),
        (BOTH | {"sum": {"kind": "sum_pooling"}}, None, r"set masked.aggregators = \['liked', 'all'\]"),
        (BOTH, ["x"], r"names 'x'; the model has \['all', 'liked'\]"),
        (BOTH, [], "leaves nothing to mask"),
    ],
)
def test_only_attention_can_be_masked(aggregators, named, words):
    lengths = {name: {**one, "length": 4} for name, one in aggregators.items()}
    shape = parse_config(MainModelConfig, {"aggregators": lengths, "max_length": 5}, "test")
    config = parse_config(MaskedConfig, {} if named is None else {"aggregators": named}, "test")
    with pytest.raises(BadConfig, match=words):
        masked_aggregators(config, shape)
    mixed = parse_config(MainModelConfig, {"aggregators": BOTH | {"sum": {"kind": "sum_pooling"}}}, "test")
    assert masked_aggregators(parse_config(MaskedConfig, {"aggregators": ["all"]}, "test"), mixed) == ["all"]
