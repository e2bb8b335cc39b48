"""ARGUS in both forms: what each prediction may see, and that serving answers what training computed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.models.contract import check_retriever
from tests.models.histories import request
from upnext.base.batches import Candidates, Column, Events, FlatColumn, ItemTable, Request, SequenceBatch
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.base.ids import item_hash
from upnext.base.protocols import Link, Ranker
from upnext.models import argus
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.nn.encoders import Inputs

V, M = 11, 3
FORMS = ("simplified", "attending", "full")
"""Attending is simplified, with target attention."""
INPUTS = Inputs(
    has_times=True,
    contexts={"surface": 4, "hour": 0},
    feedback={"like": "binary", "played": "fraction", "seconds": "amount"},
    item_features={"author": "categorical", "tags": "multi", "length": "numeric", "image": "vector"},
    vector_widths={"image": 2},
)


def catalogue() -> ItemTable:
    g = torch.Generator().manual_seed(1)
    real = torch.arange(V) >= 2
    observed = (torch.rand(V, generator=g) < 0.8) & real
    tags = (torch.rand(V, M, generator=g) < 0.6) & real[:, None]
    hashes = torch.from_numpy(np.concatenate([[0, 0], item_hash(range(2, V))]))
    return ItemTable(
        torch.arange(V),
        hashes,
        {
            "author": Column(torch.randint(-(2**62), 2**62, (V,), generator=g) * observed, observed),
            "tags": Column(torch.randint(-(2**62), 2**62, (V, M), generator=g) * tags, tags),
            "length": Column(torch.rand(V, generator=g) * observed, observed),
            "image": Column(torch.randn(V, 2, generator=g) * observed[:, None], observed),
        },
    )


def make(form: str, inputs: Inputs = INPUTS, **settings: object) -> ARGUS:
    torch.manual_seed(0)
    trained = torch.arange(V) >= 2
    trained[8] = False
    size = {"width": 8, "layers": 2, "heads": 2, "max_length": 7, "embeddings": {"kind": "hashed", "rows": 64}}
    kind = {"form": "simplified", "target_attention": True} if form == "attending" else {"form": form}
    config = parse_config(ARGUSConfig, {**kind, **size, **settings}, "test")
    model = ARGUS(config, inputs, catalogue(), trained)
    for parameter in model.parameters():  # larger than at the start, so that differences show
        parameter.data.mul_(3)
    return model.eval()


@pytest.fixture(scope="module", params=FORMS)
def model(request: pytest.FixtureRequest) -> ARGUS:
    return make(request.param)


def columns(g: np.random.Generator, n: int) -> dict[str, FlatColumn]:
    values: dict[str, NDArray[Any]] = {
        "context.surface": g.integers(1, 4, n),
        "context.hour": g.random(n).astype(np.float32) * 24,
        "feedback.like": g.integers(0, 2, n).astype(np.float32),
        "feedback.played": g.random(n).astype(np.float32),
        "feedback.seconds": g.exponential(50, n).astype(np.float32),
    }
    return {name: FlatColumn(part, g.random(n) < 0.8) for name, part in values.items()}


def events(seed: int, groups: list[int]) -> Events:
    """A history with these sibling groups, rising; siblings share a time."""
    g, n = np.random.default_rng(seed), len(groups)
    items = g.integers(2, V, n)
    times = np.cumsum(g.integers(1, 10**7, max(groups, default=0) + 1))[np.array(groups, np.int64)]
    return Events(items, item_hash(items.tolist()), times, np.arange(n), np.array(groups, np.int64), columns(g, n))


def batch_of(*rows: Events) -> SequenceBatch:
    ends = np.cumsum([len(row) for row in rows])
    return Events.concatenate(rows).batch(ends - [len(row) for row in rows], ends)


def request_at(event: Events, row: int) -> Request:
    """The request that the row of a history belongs to: its time and its context."""
    context = {
        name: Column(torch.from_numpy(part.values[[row]]), torch.from_numpy(part.observed[[row]]))
        for name, part in event.columns.items()
        if name.startswith("context.")
    }
    return Request(torch.from_numpy(event.time_ms[[row]]), torch.tensor([2]), context)


def outputs(model: ARGUS, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        return model.moments(batch, batch.mask)


@pytest.mark.parametrize("form", FORMS)
def test_keeps_the_contract(form):
    bare = Inputs(has_times=True, contexts={}, feedback={}, item_features={})
    model = make(form, bare)
    model.items = ItemTable(model.items.item, model.items.item_hash)
    with torch.inference_mode():
        check_retriever(model, V, model.items)


@pytest.mark.parametrize("embeddings", [{"kind": "hashed", "rows": 64}, {"kind": "plain"}])
def test_columns_may_be_called_as_they_like(embeddings):
    """KuaiRand has a feedback `forward`, which is also what a module calls its own computation."""

    def called(old: dict[str, Any]) -> dict[str, Any]:
        return {f"{name}.of" if n else "forward": value for n, (name, value) in enumerate(old.items())}

    inputs = Inputs(
        has_times=True,
        contexts=called(INPUTS.contexts),
        feedback=called(INPUTS.feedback),
        item_features=called(INPUTS.item_features),
        vector_widths={"image.of": 2},
    )
    table = catalogue()
    items = ItemTable(table.item, table.item_hash, called(dict(table.features)))
    config = parse_config(ARGUSConfig, {"width": 8, "layers": 1, "max_length": 7, "embeddings": embeddings}, "test")
    model = ARGUS(config, inputs, items, torch.arange(V) >= 2).eval()
    past = events(0, [0, 1, 2])
    old: dict[str, dict[str, Any]] = {"context": INPUTS.contexts, "feedback": dict(INPUTS.feedback)}
    columns = {
        f"{kind}.{new}": past.columns[f"{kind}.{name}"]
        for kind, names in old.items()
        for name, new in zip(names, called(names), strict=True)
    }
    batch = batch_of(replace(past, columns=columns))
    queries, logits = outputs(model, batch)
    assert torch.isfinite(queries).all()
    assert logits.shape == (3, 3)
    again = ARGUS.from_tensors(config, inputs, items, model.state_dict())
    torch.testing.assert_close(outputs(again, batch)[1], logits)


def test_is_a_ranker_with_declared_links(model):
    assert isinstance(model, Ranker)
    assert model.components == {"like": Link.SIGMOID, "played": Link.SIGMOID, "seconds": Link.EXP}


groups = st.lists(st.booleans(), min_size=2, max_size=6).map(lambda new: np.cumsum(new).tolist())


@settings(deadline=None, max_examples=40)
@given(groups, st.integers(0, 99), st.data())
def test_nothing_but_the_past_and_its_own_request_is_seen(model, groups, seed, data):
    """Change one event's item, context or feedback: what earlier events, siblings and itself may not see stays."""
    history = events(seed, groups)
    at = data.draw(st.integers(0, len(groups) - 1))
    what = data.draw(st.sampled_from(("item", "context", "feedback")))
    changed = _change(history, at, what)
    (queries, logits), (queries2, logits2) = outputs(model, batch_of(history)), outputs(model, batch_of(changed))
    for event, group in enumerate(groups):
        blind = group < groups[at] or (group == groups[at] and event != at)
        if blind or (event == at and what != "context"):  # an event's query sees neither its item nor its feedback
            torch.testing.assert_close(queries[event], queries2[event], atol=1e-5, rtol=1e-5)
        if blind or (event == at and what == "feedback"):
            torch.testing.assert_close(logits[event], logits2[event], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("what", ["item", "context", "feedback"])
def test_the_past_is_seen(model, what):
    history = events(3, [0, 1, 2, 3])
    changed = _change(history, 1, what)
    (queries, logits), (queries2, logits2) = outputs(model, batch_of(history)), outputs(model, batch_of(changed))
    for later in (2, 3):
        assert not torch.allclose(queries[later], queries2[later], rtol=0, atol=2e-6)
        assert not torch.allclose(logits[later], logits2[later], rtol=0, atol=2e-6)
    if what == "context":
        assert not torch.allclose(queries[1], queries2[1], atol=1e-4)
    if what != "feedback":
        assert not torch.allclose(logits[1], logits2[1], atol=1e-4)


def _change(history: Events, at: int, what: str) -> Events:
    if what == "item":
        items = history.item.copy()
        items[at] = (items[at] - 1) % (V - 2) + 2
        return replace(history, item=items, item_hash=item_hash(items.tolist()))
    changed = {}
    for name, part in history.columns.items():
        values, observed = part.values.copy(), part.observed.copy()
        if name.startswith(what):
            values[at] = {"context.surface": 3 - values[at] % 2, "feedback.like": 1 - values[at]}.get(
                name, (values[at] + 1) / 3
            )
            observed[at] = True
        changed[name] = FlatColumn(values, observed)
    return replace(history, columns=changed)


@settings(deadline=None, max_examples=30)
@given(groups, st.integers(0, 99))
def test_serving_answers_what_training_computed(model, groups, seed):
    """State, then query and feedback under the request, equals the one pass over the chunk, at every event."""
    history = events(seed, groups)
    queries, logits = outputs(model, batch_of(history))
    for row, group in enumerate(groups):
        before = history.take(slice(0, groups.index(group)))
        ask = request_at(history, row)
        candidates = Candidates(
            torch.from_numpy(history.item[[row]])[None],
            torch.from_numpy(history.item_hash[[row]])[None],
            torch.ones(1, 1, dtype=torch.bool),
        )
        with torch.inference_mode():
            state = model.encode(batch_of(before))
            query = model.query_vectors(state, ask)
            predicted = model.predict(state, ask, candidates)
        torch.testing.assert_close(query[0], queries[row], atol=1e-5, rtol=1e-4)
        for number, name in enumerate(model.components):
            torch.testing.assert_close(predicted[name][0, 0], logits[row, number], atol=1e-5, rtol=1e-4)


def test_items_looked_up_for_an_answer_are_those_encoded_for_training(model):
    """Without gradients, items of the past are rows of the catalogue's vectors; strangers are encoded as ever."""
    history = events(4, [0, 1, 2, 3, 3])
    strange = replace(history, item=history.item.copy(), item_hash=history.item_hash.copy())
    strange.item[2], strange.item_hash[2] = 1, item_hash(["somebody new"])[0]
    for past in (history, strange):
        batch = batch_of(past, events(5, [0]))
        taught, answered = model.states(batch).detach(), outputs(model, batch)
        with torch.inference_mode():
            torch.testing.assert_close(model.states(batch), taught, atol=1e-5, rtol=1e-4)
        assert all(torch.isfinite(one).all() for one in answered)
    with torch.inference_mode():
        assert not torch.allclose(model.states(batch_of(history)), model.states(batch_of(strange)))


def test_padding_and_neighbours_change_nothing(model):
    rows = [events(1, [0, 1, 1, 2]), events(2, [0, 1, 2, 3, 3, 4]), events(3, [0])]
    together, parts = outputs(model, batch_of(*rows)), [outputs(model, batch_of(row)) for row in rows]
    for number in range(2):
        torch.testing.assert_close(together[number], torch.cat([part[number] for part in parts]), atol=1e-5, rtol=1e-4)


def test_candidates_do_not_see_each_other(model, monkeypatch):
    history = batch_of(events(5, [0, 1, 2, 3]), events(6, [0, 1]))
    surface = Column(torch.tensor([1, 2]), torch.tensor([True, True]))
    hour = Column(torch.tensor([3.0, 0.0]), torch.tensor([True, False]))
    ask = Request(torch.full((2,), 10**9), torch.tensor([2, 3]), {"context.surface": surface, "context.hour": hour})
    items = torch.tensor([[2, 3, 4, 5], [6, 7, 8, 2]])
    everyone = Candidates(items, model.items.item_hash[items], torch.ones_like(items, dtype=torch.bool))
    order = torch.tensor([3, 1, 0, 2])
    swapped = Candidates(items[:, order], model.items.item_hash[items[:, order]], everyone.mask)
    with torch.inference_mode():
        state = model.encode(history)
        scores, permuted = model.predict(state, ask, everyone), model.predict(state, ask, swapped)
        for column in range(4):
            only = slice(column, column + 1)
            one = Candidates(items[:, only], everyone.item_hash[:, only], everyone.mask[:, only])
            alone = model.predict(state, ask, one)
            for name in model.components:
                torch.testing.assert_close(alone[name][:, 0], scores[name][:, column], atol=1e-5, rtol=1e-4)
        monkeypatch.setattr(argus, "_CANDIDATES", 3)
        in_parts = model.predict(state, ask, everyone)
    for name in model.components:
        torch.testing.assert_close(permuted[name], scores[name][:, order], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(in_parts[name], scores[name], atol=1e-5, rtol=1e-4)


def test_an_item_outside_the_vocabulary_has_a_vector_and_a_prediction(model):
    history = batch_of(events(5, [0, 1, 2]))
    stranger = torch.from_numpy(item_hash(["somebody new"]))
    unseen = torch.zeros(1, dtype=torch.bool)
    features = {
        name: Column(part.values[:1], unseen if part.observed.dim() == 1 else torch.zeros(1, M, dtype=torch.bool))
        for name, part in model.items.features.items()
    }
    features["author"] = Column(model.items.features["author"].values[3:4], torch.tensor([True]))
    table = ItemTable(torch.tensor([1]), stranger, features)
    with torch.inference_mode():
        assert model.can_score(table).tolist() == [True]
        assert (model.item_vectors(table) != 0).any()
        one = Candidates(torch.tensor([[1]]), stranger[None], torch.tensor([[True]]))
        two = Candidates(torch.tensor([[1]]), stranger[None] + 1, torch.tensor([[True]]))
        state, ask = model.encode(history), request_at(events(5, [0, 1, 2]), 2)
        assert model.predict(state, ask, one)["like"] != model.predict(state, ask, two)["like"]


def test_ids_above_2_to_the_53_are_told_apart(model):
    a, b = 2**60, 2**60 + 1
    rows = model.item_encoder.embeddings.rows("item", torch.tensor([a, b]))
    assert rows[0].tolist() != rows[1].tolist()


def test_plain_tables_serve_as_well():
    model = make("simplified", embeddings={"kind": "plain"})
    history = events(2, [0, 1, 2])
    assert torch.isfinite(outputs(model, batch_of(history))[0]).all()
    known = model.item_encoder.embeddings.rows("item", model.items.item_hash)
    assert known[:2].tolist() == [0, 0]
    assert known[2:].unique().numel() == V - 2


def test_states_of_different_lengths_can_be_joined(model):
    rows = [events(1, [0]), events(2, [0, 1, 2, 3, 4])]
    ask = request(1)
    ask = replace(ask, context=request_at(rows[0], 0).context)
    with torch.inference_mode():
        states = [model.encode(batch_of(row)) for row in rows]
        joined = type(states[0]).concatenate(states)
        for number in range(2):
            expected = model.query_vectors(states[number], ask)
            torch.testing.assert_close(
                model.query_vectors(joined.take(torch.tensor([number])), ask), expected, atol=1e-5, rtol=1e-4
            )


def test_named_sizes_and_their_contradictions():
    assert (parse_config(ARGUSConfig, {"size": "mini"}, "x").layers, ARGUSConfig().width) == (4, 64)
    with pytest.raises(BadConfig, match="width = 64 contradicts size = 'mini'"):
        parse_config(ARGUSConfig, {"size": "mini", "width": 64}, "x")
    with pytest.raises(BadConfig, match="no multiple of heads"):
        parse_config(ARGUSConfig, {"width": 9, "heads": 2}, "x")
    with pytest.raises(BadConfig, match="target_attention has no effect"):
        parse_config(ARGUSConfig, {"form": "full", "target_attention": True}, "x")


def test_weights_come_back(model):
    again = ARGUS.from_tensors(model.config, INPUTS, model.items, model.state_dict())
    history = batch_of(events(4, [0, 1, 1, 2]))
    for a, b in zip(outputs(model, history), outputs(again, history), strict=True):
        torch.testing.assert_close(a, b)
