"""The prior of what was chosen lately: what it counts, what it never sees, and what becomes of strangers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.contract import check_retriever
from tests.models.histories import histories, request
from tests.reference.recent import Event, prior
from upnext.base.batches import Column, Events, FlatColumn, ItemTable, Request
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.base.ids import item_hash
from upnext.base.schema import LAST_ITEM
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.build import load_model, save_model
from upnext.models.recent import RecentConfig, RecentPrior
from upnext.models.stream import follow, following
from upnext.models.two_towers import TwoTowersConfig
from upnext.nn.encoders import Inputs

V = 9
WITHIN = ["place", "device"]
SETTINGS: dict[str, Any] = {"window": 7, "others": 0.1, "shrinkage": 3.0}


def as_events(stream: list[Event], num_contexts: int = 2) -> Events:
    items, times = (np.array([event[place] for event in stream], np.int64) for place in (0, 1))
    contexts = np.array([event[2] for event in stream], np.int64).reshape(len(stream), num_contexts)
    steps = np.arange(len(stream))
    columns = {
        f"context.{name}": FlatColumn(contexts[:, place], np.ones(len(stream), bool))
        for place, name in enumerate(WITHIN[:num_contexts])
    }
    last = np.array([event[3] for event in stream], np.int64)
    columns[LAST_ITEM] = FlatColumn(last, last > 0)
    return Events(items, item_hash(items.tolist()), times, steps, steps, columns)


def ask(times: list[int], contexts: list[tuple[int, ...]]) -> Request:
    columns = {
        f"context.{name}": Column(torch.tensor([of[place] for of in contexts]), torch.ones(len(times)).bool())
        for place, name in enumerate(WITHIN)
    }
    return Request(torch.tensor(times), torch.zeros(len(times), dtype=torch.int64), columns)


contexts = st.tuples(st.integers(0, 2), st.integers(0, 2))
events = st.lists(
    st.tuples(st.integers(2, V - 1), st.integers(0, 30), contexts, st.sampled_from([0, 2, 3])), max_size=25
)
questions = st.lists(st.tuples(st.integers(-1, 35), contexts), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(events, questions), min_size=1, max_size=4), st.booleans())
def test_equals_a_slow_count_while_events_arrive_early_and_late(steps, follows):
    counted = RecentPrior(RecentConfig(within=WITHIN, follows=follows, **SETTINGS), "all", 5, V)
    stream: list[Event] = []
    for arrived, asked in steps:
        counted.observe(as_events(arrived))
        stream += arrived
        times, places = [time for time, _ in asked], [of for _, of in asked]
        last = [(0, 2, 3, 4)[row % 4] for row in range(len(asked))]
        found = counted.log_q(ask(times, places), torch.tensor(last)).expand(len(asked), -1)
        expected = [
            prior(stream, time, of, V, num_alike=5, last_item=one if follows else None, **SETTINGS)
            for (time, of), one in zip(asked, last, strict=True)
        ]
        np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-5)


@settings(deadline=None)
@given(events, events, st.integers(0, 31), contexts)
def test_what_comes_at_the_request_or_later_changes_nothing(stream, future, time, of):
    counted = RecentPrior(RecentConfig(within=WITHIN, **SETTINGS), "all", 5, V)
    counted.observe(as_events(stream))
    before = counted.log_q(ask([time], [of]))
    counted.observe(as_events([(item, max(at, time), place, last) for item, at, place, last in future]))
    assert torch.equal(counted.log_q(ask([time], [of])), before)


def test_one_row_stands_for_requests_of_one_instant():
    counted = RecentPrior(RecentConfig(), "all", 5, V)
    counted.observe(as_events([(2, 10, (), 0), (3, 20, (), 0)], 0))
    assert counted.log_q(request(3)).shape == (1, V)
    assert counted.log_q(Request(torch.tensor([11, 21]), torch.zeros(2, dtype=torch.int64))).shape == (2, V)
    assert counted.log_q(request(0)).shape == (0, V)


def test_items_that_come_later_are_covered():
    counted = RecentPrior(RecentConfig(others=0.1), "all", 5, V)
    counted.observe(as_events([(2, 10, (), 0)], 0))
    first = counted.log_q(request(1))
    counted.cover(V + 2)
    assert counted.log_q(request(1)).shape == (1, V + 2)
    assert torch.equal(counted.log_q(request(1))[:, :V], first)
    counted.observe(as_events([(V + 4, 11, (), 0)], 0))
    assert counted.log_q(request(1))[0, V + 4].exp().item() == pytest.approx(0.9 / 2 + 0.02)


def test_a_checkpoint_keeps_the_last_window():
    config = RecentConfig(within=WITHIN, **SETTINGS)
    whole, part = (RecentPrior(config, "all", 5, V) for _ in range(2))
    whole.observe(as_events([(2, 1, (0, 1), 0), (3, 20, (1, 1), 0), (4, 22, (1, 0), 0), (4, 22, (0, 1), 0)]))
    part.load(whole.tensors())
    assert len(whole.tensors()["recent.items"]) == 3
    for time in (23, 100):
        later = ask([time] * 2, [(0, 1), (1, 0)])
        torch.testing.assert_close(part.log_q(later), whole.log_q(later))


# A model with the prior.

INPUTS = Inputs(has_times=True, contexts={"place": 3, "device": 3}, feedback={}, item_features={})


def test_the_last_item_of_a_history_is_what_others_are_asked_to_have_come_from():
    model = make(Inputs(has_times=True, contexts={}, feedback={}, item_features={}), follows=True, shrinkage=0.1)
    follow(model, as_events([(6, 30, (0, 0), 3), (7, 31, (0, 0), 4)]))
    asked = request(3)
    prior_of = model.offsets(model.encode(histories([[2, 3], [3, 4], []])), asked)
    assert prior_of is not None
    assert prior_of.argmax(1)[:2].tolist() == [6, 7]
    check_retriever(model, V, model.items)


def make(inputs: Inputs = INPUTS, **keys: object) -> ARGUS:
    torch.manual_seed(0)
    trained = torch.arange(V) >= 2
    trained[8] = False
    table = ItemTable(torch.arange(V), torch.from_numpy(np.concatenate([[0, 0], item_hash(range(2, V))])))
    size = {"width": 8, "layers": 1, "max_length": 7, "recent": {"window": 50, "others": 0.1} | keys}
    model = ARGUS(parse_config(ARGUSConfig, size, "test"), inputs, table, trained)
    for parameter in model.parameters():
        parameter.data.mul_(5)
    following(model, as_events([(5, 10, (1, 2), 0), (8, 20, (1, 1), 0), (8, 21, (2, 1), 0)]), V)
    return model.eval()


def test_keeps_the_contract_and_adds_its_prior():
    model = make(Inputs(has_times=True, contexts={}, feedback={}, item_features={}))
    check_retriever(model, V, model.items)
    state, asked = model.encode(histories([[2, 5, 3], []])), request(2)
    prior_of = model.recent.log_q(asked) if model.recent else torch.empty(0)
    expected = model.query_vectors(state, asked) @ model.item_vectors(model.items).T + prior_of
    scores = model.score(state, asked, torch.arange(V)[None])
    torch.testing.assert_close(scores[:, 2:], expected[:, 2:])
    assert (scores[:, :2] == -torch.inf).all()
    assert scores[0, 8] > -torch.inf, "an item without a training event has its prior"


def test_strangers_are_alike_and_their_ids_say_nothing():
    model = make()
    table = model.items
    new = ItemTable(torch.tensor([8, 1, V + 3]), torch.from_numpy(item_hash([8, 99, 77])))
    vectors = model.item_vectors(new)
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], model.item_vectors(table)[5])
    batch = histories([[2, 8]])
    renamed = replace(batch, item_hash=torch.where(batch.item == 8, 12345, batch.item_hash))
    columns = {f"context.{name}": Column(torch.zeros(1, 2).long(), torch.ones(1, 2).bool()) for name in WITHIN}
    found = [model.encode(replace(one, columns=columns)).tensors["hidden"] for one in (batch, renamed)]
    assert torch.equal(*found)


def test_a_new_event_moves_the_next_score_and_a_saved_model_knows_it(tmp_path):
    model = make(within=WITHIN)
    asked, everything = ask([100, 100], [(1, 2), (2, 1)]), torch.arange(V)[None]
    columns = {f"context.{name}": Column(torch.zeros(2, 0).long(), torch.ones(2, 0).bool()) for name in WITHIN}
    state = model.encode(replace(histories([[], []]), columns=columns))
    before = model.score(state, asked, everything)
    follow(model, as_events([(6, 90, (1, 2), 0)]))
    after = model.score(state, asked, everything)
    assert (after[:, 6] > before[:, 6]).all()
    assert (after[:, 7] <= before[:, 7]).all()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, model.items)
    torch.testing.assert_close(loaded.score(state, asked, everything), after)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"window": 0}, "window"),
        ({"others": 0}, "others"),
        ({"strangers": 1}, "strangers"),
        ({"shrinkage": 0}, "shrinkage"),
        ({"within": ["a", "b", "c", "d"]}, "within"),
        ({"windows": "1h"}, "windows"),
    ],
)
def test_settings_out_of_range_are_refused(table, told):
    with pytest.raises(BadConfig, match=told):
        parse_config(ARGUSConfig, {"recent": table}, "test")


def test_two_towers_have_no_prior():
    with pytest.raises(BadConfig, match="'recent' has no effect in an encoder"):
        parse_config(TwoTowersConfig, {"encoder": {"kind": "argus", "recent": {}}}, "test")
