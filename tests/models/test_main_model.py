"""The main model: what each sub-model reads, and that serving answers what training computed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_argus import INPUTS, V, batch_of, catalogue, events
from upnext.base.batches import CORE, Candidates, Column, ItemTable, Request, SequenceBatch
from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact, BadBatch, BadConfig
from upnext.base.ids import UNKNOWN, item_hash
from upnext.base.protocols import Link, Ranker
from upnext.models.build import load_any, load_model, save_model
from upnext.models.main_model import MainModel, MainModelConfig
from upnext.models.ranker_inputs import RankerInputs, known_values

B, C = 4, 5
RANKER_INPUTS = RankerInputs(
    events=INPUTS,
    user_features={"age": "numeric", "genres": "multi", "taste": "vector"},
    user_vector_widths={"taste": 2},
    numbers=["item.count"],
    predicted={"like": "binary", "seconds": "amount"},
)
USERS = {
    "age": Column(torch.rand(8), torch.arange(8) > 3),
    "genres": Column(torch.arange(16).reshape(8, 2), torch.rand(8, 2) > 0.3),
    "taste": Column(torch.rand(8, 2), torch.arange(8) > 2),
}
SHAPE: dict[str, Any] = {
    "width": 8,
    "max_length": 6,
    "time": ["hour", "weekday", "gap"],
    "aggregates": [{"by": ["item"]}],
    "aggregators": {
        "liked": {"kind": "self_attention", "view": "liked", "length": 4},
        "all": {"kind": "sum_pooling", "length": 5},
    },
    "joining": {"kind": "mlp", "hidden": [12, 6]},
    "embeddings": {"kind": "hashed", "rows": 64},
}


def make(inputs: RankerInputs = RANKER_INPUTS, **changes: Any) -> MainModel:
    torch.manual_seed(0)
    config = parse_config(MainModelConfig, SHAPE | changes, "test")
    bounds = torch.linspace(0, 9, 7).expand(len(inputs.numbers), -1)
    items = catalogue()
    model = MainModel(config, inputs, items, bounds, known_values(inputs, items, USERS))
    for parameter in model.parameters():  # larger than at the start, so that differences show
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(params=["mlp", "dcn_v2"])
def model(request: pytest.FixtureRequest) -> MainModel:
    return make(joining={"kind": request.param, "hidden": [12, 6]})


def pasts() -> SequenceBatch:
    rows = [events(1, [0, 1, 1, 2, 3, 4, 5]), events(2, []), events(3, [0, 1, 2]), events(4, [0])]
    batch = batch_of(*rows)
    liked = batch.columns["feedback.like"].values >= 0.5
    return replace(batch, views={"liked": liked & batch.mask})


def request(size: int = B) -> Request:
    context = {
        "context.surface": Column(torch.arange(size) % 3 + 1, torch.arange(size) != 2),
        "context.hour": Column(torch.arange(size) * 3.0, torch.arange(size) != 1),
    }
    user = torch.arange(size) + 2
    features = {name: column.take(user) for name, column in USERS.items()}
    return Request(torch.arange(size) * 10**8 + 10**9, user, context, features)


def candidates(size: int = B, seed: int = 0) -> Candidates:
    g = torch.Generator().manual_seed(seed)
    item = torch.randint(2, V, (size, C), generator=g)
    counts = Column(torch.rand(size, C, generator=g) * 10, torch.rand(size, C, generator=g) > 0.2)
    return Candidates(item, catalogue().item_hash[item], torch.ones(size, C, dtype=torch.bool), {"item.count": counts})


def answer(model: Ranker, past: SequenceBatch, ask: Request, shown: Candidates) -> Tensor:
    with torch.inference_mode():
        return torch.stack(list(model.predict(model.encode(past), ask, shown).values()))


def one(batch: SequenceBatch, row: int) -> SequenceBatch:
    """A row alone, without padding."""
    length = int(batch.lengths[row])

    def pick(tensor: Tensor) -> Tensor:
        return tensor[row : row + 1, :length]

    return SequenceBatch(
        lengths=batch.lengths[row : row + 1],
        **{name: pick(getattr(batch, name)) for name in CORE},
        columns={name: Column(pick(c.values), pick(c.observed)) for name, c in batch.columns.items()},
        views={name: pick(view) for name, view in batch.views.items()},
    )


def some(shown: Candidates, rows: Tensor, order: Tensor) -> Candidates:
    features = {n: Column(c.values[rows][:, order], c.observed[rows][:, order]) for n, c in shown.features.items()}
    item, hashes, mask = (part[rows][:, order] for part in (shown.item, shown.item_hash, shown.mask))
    return Candidates(item, hashes, mask, features)


def test_it_is_a_ranker(model):
    assert isinstance(model, Ranker)
    assert model.components == {"like": Link.SIGMOID, "seconds": Link.EXP}
    outputs = model.predict(model.encode(pasts()), request(), candidates())
    assert {name: tuple(out.shape) for name, out in outputs.items()} == {"like": (B, C), "seconds": (B, C)}
    assert torch.isfinite(torch.stack(list(outputs.values()))).all()


def test_a_batch_of_one_answers_as_a_batch_of_many_and_candidates_may_be_swapped(model):
    found, shown = answer(model, pasts(), request(), candidates()), candidates()
    order = torch.tensor([3, 0, 4, 1, 2])
    for row in range(B):
        rows = torch.tensor([row])
        alone = answer(model, one(pasts(), row), request().take(rows), some(shown, rows, order))
        torch.testing.assert_close(alone[:, 0], found[:, row][:, order], atol=1e-5, rtol=1e-5)


def test_states_can_be_stored_selected_and_joined(model):
    found = answer(model, pasts(), request(), candidates())
    with torch.inference_mode():
        state = model.encode(pasts())
        joined = type(state).concatenate([model.encode(one(pasts(), row)) for row in range(B)])
        for name, tensor in state.tensors.items():
            torch.testing.assert_close(joined.tensors[name], tensor, atol=1e-5, rtol=1e-5)
        rows = torch.tensor([2, 0, 2])
        shown = some(candidates(), rows, torch.arange(C))
        again = torch.stack(list(model.predict(state.take(rows), request().take(rows), shown).values()))
    torch.testing.assert_close(again, found[:, rows], atol=1e-5, rtol=1e-5)


def test_training_computes_what_serving_answers(model):
    known = pasts()
    place = torch.zeros_like(known.item).index_put((torch.tensor([0]), torch.tensor([3])), torch.tensor(1)) > 0
    stranger = torch.from_numpy(item_hash(["somebody new"]))
    strange = replace(
        known, item=known.item.masked_fill(place, 1), item_hash=torch.where(place, stranger, known.item_hash)
    )
    served = [answer(model, past, request(), candidates()) for past in (known, strange)]
    assert not torch.allclose(served[0], served[1])
    model.train()
    for past, expected in zip((known, strange), served, strict=True):
        trained = torch.stack(list(model.predict(model.encode(past), request(), candidates()).values()))
        torch.testing.assert_close(trained, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("user", lambda ask: replace(ask, features=request(B + 1).take(torch.tensor([4, 1, 2, 3])).features)),
        ("the clock", lambda ask: replace(ask, time_ms=ask.time_ms + 5 * 3_600_000)),
        ("the place", lambda ask: replace(ask, context=request(B + 1).take(torch.tensor([4, 1, 2, 3])).context)),
    ],
)
def test_what_is_known_of_a_request_counts(model, part, change):
    before, after = (answer(model, pasts(), ask, candidates()) for ask in (request(), change(request())))
    assert not torch.allclose(before[:, 0], after[:, 0]), part


def test_events_count_by_their_view_and_only_the_last_ones(model):
    past = pasts()
    found = answer(model, past, request(), candidates())
    older = past.item.clone()
    older[0, 0] = 2 + (older[0, 0] - 1) % (V - 2)  # seven events, and it reads six
    hashes = catalogue().item_hash[older]
    torch.testing.assert_close(
        answer(model, replace(past, item=older, item_hash=hashes), request(), candidates()), found
    )
    liked = replace(past, views={"liked": past.mask & ~past.views["liked"]})
    assert not torch.allclose(answer(model, liked, request(), candidates())[:, 0], found[:, 0])


def test_new_items_are_known_by_what_they_bring(model):
    shown = candidates()
    known = answer(model, pasts(), request(), shown)
    table = catalogue()
    brought = {name: Column(c.values[shown.item], c.observed[shown.item]) for name, c in table.features.items()}
    new = replace(shown, item=torch.full_like(shown.item, UNKNOWN), features={**brought, **shown.features})
    torch.testing.assert_close(answer(model, pasts(), request(), new), known, atol=1e-5, rtol=1e-5)
    stranger = replace(new, item_hash=new.item_hash + 1)
    assert not torch.allclose(answer(model, pasts(), request(), stranger), known)


@pytest.mark.parametrize("changes", [{}, {"embeddings": {"kind": "plain"}}, {"joining": {"kind": "dcn_v2"}}])
def test_it_comes_back_from_disk_as_it_was_for_a_larger_catalogue(tmp_path, changes):
    model = make(**changes)
    save_model(model, tmp_path)
    items = catalogue()
    more = ItemTable(
        torch.arange(V + 1),
        torch.cat([items.item_hash, torch.from_numpy(item_hash(["new"]))]),
        {n: Column(*(torch.cat([p, p[:1]]) for p in (c.values, c.observed))) for n, c in items.features.items()},
    )
    loaded = load_any(tmp_path, more)
    assert isinstance(loaded, MainModel)
    before, after = (answer(one, pasts(), request(), candidates()) for one in (model, loaded))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)
    with pytest.raises(BadArtifact, match="a ranker, which retrieves nothing"):
        load_model(tmp_path, more)


def test_every_parameter_learns():
    model = make(joining={"kind": "dcn_v2"}, embeddings={"kind": "plain"}).train()
    outputs = model.predict(model.encode(pasts()), request(), candidates())
    torch.autograd.backward(torch.stack(list(outputs.values())).square().sum())
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()}
    assert idle <= {"item_encoder.numbers.column_length.missing"}  # the length of every item here is known


def test_a_number_that_candidates_lack_is_named(model):
    with pytest.raises(BadBatch, match=r"reads 'item.count'; the candidates have"):
        model.predict(model.encode(pasts()), request(), replace(candidates(), features={}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aggregators": {}}, "aggregators"),
        ({"aggregators": {"a": {"kind": "mean"}}}, "self_attention"),
        (
            {"aggregators": {"a": {"kind": "self_attention", "heads": 3}}},
            "width 8 is no multiple of aggregators.a.heads 3",
        ),
        ({"aggregators": {"a": {"kind": "sum_pooling", "length": 9}}}, "aggregators.a.length 9 is above max_length 6"),
        ({"aggregates": [{"by": ["item"]}, {"by": ["item"]}]}, "'item.count' is declared twice"),
        ({"joining": {"kind": "sum"}}, "dcn_v2"),
        ({"time": ["minute"]}, "hour"),
    ],
)
def test_bad_settings_are_explained(changes, words):
    with pytest.raises(BadConfig, match=words):
        parse_config(MainModelConfig, SHAPE | changes, "test")
