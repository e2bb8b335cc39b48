"""YouTube's ranker: equal to one concatenation per candidate, and a ranker like the others."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_argus import V, catalogue
from tests.models.test_main_model import RANKER_INPUTS, USERS, B, C, answer, candidates, one, pasts, request, some
from upnext.base.batches import Candidates, Column, ItemTable, Request, SequenceBatch
from upnext.base.configuration import parse_config
from upnext.base.errors import BadBatch, BadConfig
from upnext.base.ids import UNKNOWN, item_hash
from upnext.base.protocols import Link, Ranker
from upnext.models.build import load_any, save_model
from upnext.models.ranker_inputs import RankerInputs, known_values
from upnext.models.youtube import YouTubeRanker, YouTubeRankerConfig

SHAPE: dict[str, Any] = {
    "view": "liked",
    "width": 8,
    "max_length": 3,
    "aggregates": [{"by": ["item"]}],
    "hidden": [12, 6],
    "embeddings": {"kind": "hashed", "rows": 64},
}


def make(inputs: RankerInputs = RANKER_INPUTS, **changes: Any) -> YouTubeRanker:
    torch.manual_seed(0)
    config = parse_config(YouTubeRankerConfig, SHAPE | changes, "test")
    counts = torch.linspace(0, 9, 7).expand(len(inputs.numbers), -1)
    bounds = torch.cat([counts, torch.linspace(0, 12, 7)[None]])  # of item.count, of the hour
    items = catalogue()
    model = YouTubeRanker(config, inputs, items, bounds, known_values(inputs, items, USERS))
    for parameter in model.parameters():  # larger than at the start, so that differences show
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(params=["hashed", "plain"])
def model(request: pytest.FixtureRequest) -> YouTubeRanker:
    embeddings = {"kind": "hashed", "rows": 64} if request.param == "hashed" else {"kind": "plain"}
    return make(embeddings=embeddings)


def test_it_is_a_ranker(model):
    assert isinstance(model, Ranker)
    assert model.components == {"like": Link.SIGMOID, "seconds": Link.EXP}
    outputs = model.predict(model.encode(pasts()), request(), candidates())
    assert {name: tuple(out.shape) for name, out in outputs.items()} == {"like": (B, C), "seconds": (B, C)}
    order = make(RANKER_INPUTS.model_copy(update={"predicted": {}, "orders": True}))
    assert order.components == {"utility": Link.ORDER_ONLY}
    assert order.predict(order.encode(pasts()), request(), candidates()).keys() == {"utility"}


def rank_and_powers(column: Column, row: int, bounds: Tensor) -> list[float]:
    if not column.observed[row]:
        return [0, 0, 0, 1]
    value = column.values[row].item()
    r = sum((bound < value) + (bound <= value) for bound in bounds.tolist()) / 2 / (len(bounds) + 1)
    return [r, r**2, r**0.5, 0]


def slow(model: YouTubeRanker, past: SequenceBatch, ask: Request, shown: Candidates, row: int, place: int) -> Tensor:
    """One user, one candidate: everything side by side, through the tower."""
    scale, embed = 8**0.5, model.embeddings
    watched = [past.item_hash[row, n] for n in range(int(past.lengths[row])) if past.views["liked"][row, n]][-3:]
    vectors = [embed("item", one.reshape(1, 1))[0] for one in watched]
    x = [torch.stack(vectors).mean(0) * scale if vectors else torch.zeros(8)]

    def features(kinds: dict[str, str], columns: dict[str, Column], of: int, prefix: str) -> list[Tensor]:
        parts = []
        for name, kind in kinds.items():
            values, observed = columns[name].values[of], columns[name].observed[of]
            if kind == "numeric":
                r = values.item() if observed else 0.0
                parts.append(torch.tensor([r, r**2, r**0.5, float(not observed)]))
            elif kind == "vector":
                parts.append(values if observed else torch.zeros_like(values))
            else:
                known = values.reshape(-1)[observed.reshape(-1)]
                every = [embed(prefix + name, one.reshape(1, 1))[0] for one in known]
                parts.append(torch.stack(every).mean(0) * scale if every else torch.zeros(8))
        return parts

    inputs = model.inputs
    x += features(dict(inputs.user_features), dict(ask.features), row, "user.")
    surface = ask.context["context.surface"]
    assert model.place is not None
    table = next(iter(model.place.codes.values()))
    code = surface.values[row] if surface.observed[row] else torch.tensor(0)
    x.append((table(code) + model.place.bias) * scale)
    x.append(torch.tensor(rank_and_powers(ask.context["context.hour"], row, model.moments.bounds[0])))
    item = shown.item[row, place]
    of_item = [embed("item", shown.item_hash[row, place].reshape(1, 1))[0] * scale]
    of_item += features(dict(inputs.events.item_features), dict(model.items.features), int(item), "")
    counts = Column(shown.features["item.count"].values[row], shown.features["item.count"].observed[row])
    told = torch.tensor(rank_and_powers(counts, place, model.numbers.bounds[0]))
    assert model.told is not None
    weight = torch.cat([model.request.weight, model.item.weight, model.told.weight], dim=1)
    hidden = (weight @ torch.cat([*x, *of_item, told]) + model.request.bias).relu()
    outputs: Tensor = model.output(model.layers[0](hidden).relu())
    return outputs


def test_equals_one_concatenation_per_candidate_with_gradients(model):
    past, ask, shown = pasts(), request(), candidates()
    model.train()
    results = []
    for is_slow in (False, True):
        model.zero_grad()
        if is_slow:
            out = torch.stack([torch.stack([slow(model, past, ask, shown, b, c) for c in range(C)]) for b in range(B)])
            out = out.permute(2, 0, 1)
        else:
            out = torch.stack(list(model.predict(model.encode(past), ask, shown).values()))
        torch.autograd.backward(out.square().sum())
        results.append((out.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (fast, gradients), (expected, gradients2) = results
    torch.testing.assert_close(fast, expected, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == gradients2.keys()
    for name, gradient in gradients.items():  # sums over all candidates, in another order
        torch.testing.assert_close(gradient, gradients2[name], atol=1e-4, rtol=1e-4, msg=name)


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
        torch.testing.assert_close(joined.tensors["watched"], state.tensors["watched"])
        rows = torch.tensor([2, 0, 2])
        shown = some(candidates(), rows, torch.arange(C))
        again = torch.stack(list(model.predict(state.take(rows), request().take(rows), shown).values()))
    torch.testing.assert_close(again, found[:, rows], atol=1e-5, rtol=1e-5)


def test_the_order_of_watches_does_not_count_and_what_was_not_watched_neither(model):
    past = pasts()
    liked = past.views["liked"] & past.mask
    found = answer(model, past, request(), candidates())
    other = torch.where(liked, past.item, 2)
    unwatched = replace(past, item=other, item_hash=catalogue().item_hash[other])
    torch.testing.assert_close(answer(model, unwatched, request(), candidates()), found)
    places = liked[0].nonzero()[-3:, 0]
    assert len(places) > 1
    item = past.item.clone()
    item[0, places] = past.item[0, places.flip(0)]
    turned = replace(past, item=item, item_hash=catalogue().item_hash[item])
    torch.testing.assert_close(answer(model, turned, request(), candidates()), found, atol=1e-5, rtol=1e-5)
    item[0, places[-1]] = 2 + (item[0, places[-1]] - 1) % (V - 2)
    changed = replace(past, item=item, item_hash=catalogue().item_hash[item])
    assert not torch.allclose(answer(model, changed, request(), candidates())[:, 0], found[:, 0])


def test_new_items_are_known_by_what_they_bring(model):
    shown = candidates()
    known = answer(model, pasts(), request(), shown)
    table = catalogue()
    brought = {name: Column(c.values[shown.item], c.observed[shown.item]) for name, c in table.features.items()}
    new = replace(shown, item=torch.full_like(shown.item, UNKNOWN), features={**brought, **shown.features})
    torch.testing.assert_close(answer(model, pasts(), request(), new), known, atol=1e-5, rtol=1e-5)


def test_it_comes_back_from_disk_as_it_was_for_a_larger_catalogue(model, tmp_path):
    save_model(model, tmp_path)
    items = catalogue()
    more = ItemTable(
        torch.arange(V + 1),
        torch.cat([items.item_hash, torch.from_numpy(item_hash(["new"]))]),
        {n: Column(*(torch.cat([p, p[:1]]) for p in (c.values, c.observed))) for n, c in items.features.items()},
    )
    loaded = load_any(tmp_path, more)
    assert isinstance(loaded, YouTubeRanker)
    before, after = (answer(one, pasts(), request(), candidates()) for one in (model, loaded))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)


def test_features_can_be_left_out():
    events = RANKER_INPUTS.events.model_copy(update={"item_features": {}, "vector_widths": {}, "contexts": {}})
    bare = RANKER_INPUTS.model_copy(
        update={"events": events, "user_features": {}, "user_vector_widths": {}, "numbers": []}
    )
    config = parse_config(YouTubeRankerConfig, SHAPE | {"aggregates": []}, "test")
    model = YouTubeRanker(config, bare, catalogue(), torch.zeros(0, 7), {}).eval()
    shown = replace(candidates(), features={})
    empty = pasts().first(0)
    for past in (pasts(), empty):
        assert torch.isfinite(answer(model, past, replace(request(), context={}, features={}), shown)).all()


def test_it_begins_with_the_means():
    model = make()
    for parameter in model.output.parameters():
        parameter.data.zero_()
    model.begin_with({"like": 0.25, "seconds": 30.0})
    like, seconds = answer(model, pasts(), request(), candidates())
    assert like.sigmoid().flatten().tolist() == pytest.approx([0.25] * B * C)
    assert seconds.exp().flatten().tolist() == pytest.approx([30.0] * B * C)


def test_a_number_that_candidates_lack_is_named(model):
    with pytest.raises(BadBatch, match=r"reads 'item.count'; the candidates have"):
        model.predict(model.encode(pasts()), request(), replace(candidates(), features={}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": []}, "hidden"),
        ({"width": 0}, "width"),
        ({"aggregates": [{"by": ["item"]}, {"by": ["item"]}]}, "'item.count' is declared twice"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_bad_settings_are_explained(changes, words):
    with pytest.raises(BadConfig, match=words):
        parse_config(YouTubeRankerConfig, SHAPE | changes, "test")


def test_what_was_watched_has_to_be_named():
    with pytest.raises(BadConfig, match="view"):
        parse_config(YouTubeRankerConfig, {name: value for name, value in SHAPE.items() if name != "view"}, "test")
