"""Runs answer as a loop over all events does, however the events are spread over them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.test_aggregates import AGGREGATES, keys
from tests.reference.aggregates import slow_aggregate
from upnext.base.batches import FlatColumn
from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact, BadConfig
from upnext.features.aggregates import Aggregate, Past, Questions
from upnext.features.online_aggregates import Asked, Run, answer

MORE = [{"by": ["item"], "what": "mean", "feedback": "like", "window": "9ms"}, {"by": ["item"], "what": "recency"}]
DECLARED = [*AGGREGATES, *(parse_config(Aggregate, data, "test") for data in MORE)]


def past_of(g: np.random.Generator, num_events: int, like_always: bool) -> Past:
    like = FlatColumn(g.random(num_events).astype(np.float32), (g.random(num_events) < 0.7) | like_always)
    chosen = {"chosen": g.random(num_events) < 0.5}
    return Past(keys(g, num_events), g.integers(0, 20, num_events), {"like": like}, chosen)


def of_rows(past: Past, rows: Any) -> Past:
    feedback = {name: FlatColumn(c.values[rows], c.observed[rows]) for name, c in past.feedback.items()}
    views = {name: view[rows] for name, view in past.views.items()}
    return Past({name: key[rows] for name, key in past.keys.items()}, past.time_ms[rows], feedback, views)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(1, 3), st.booleans())
def test_equals_a_loop(seed, num_events, num_runs, like_always):
    g = np.random.default_rng(seed)
    past = past_of(g, num_events, like_always)
    where = g.integers(0, num_runs, num_events)
    runs = [Run.of(DECLARED, of_rows(past, where == number)) for number in range(num_runs)]
    B, C = 3, 5
    user, moment = g.integers(0, 4, (B, 1)), g.integers(0, 25, B)
    asked = {"user": user, "item": 2**60 + g.integers(0, 5, (B, C)), "author": g.integers(-2, 2, (B, C))}
    answers = answer(DECLARED, runs, Asked(asked, moment))
    flat = {name: np.broadcast_to(key, (B, C)).flatten() for name, key in asked.items()}
    questions = Questions(flat, np.repeat(moment, C))
    for aggregate in DECLARED:
        expected = np.array([slow_aggregate(aggregate, past, questions, n) for n in range(B * C)], np.float32)
        found = np.broadcast_to(answers[aggregate.name], (B, C)).flatten()
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=aggregate.name)


def test_what_all_candidates_share_is_answered_once():
    past = past_of(np.random.default_rng(0), 20, True)
    shared, each = np.zeros((2, 1), np.int64), np.zeros((2, 7), np.int64)
    asked = Asked({"user": shared, "item": each, "author": each}, np.array([9, 9]))
    answers = answer(DECLARED, [Run.of(DECLARED, past)], asked)
    assert answers["user.count"].shape == (2, 1)
    assert answers["item.age"].shape == (2, 7)


def test_the_same_events_are_kept_once():
    always = Run.of(DECLARED, past_of(np.random.default_rng(0), 20, True))
    sometimes = Run.of(DECLARED, past_of(np.random.default_rng(0), 20, False))
    assert len(sometimes.series) == len(always.series) + 1  # items with their feedback are not all items then


def test_it_comes_back_from_disk(tmp_path):
    g = np.random.default_rng(1)
    run = Run.of(DECLARED, past_of(g, 25, False))
    run.save(tmp_path / "run")
    asked = Asked(
        {"user": np.array([[1]]), "item": 2**60 + np.arange(5)[None], "author": np.array([[0]])}, np.array([15])
    )
    loaded = Run.load(tmp_path / "run")
    for name, values in answer(DECLARED, [run], asked).items():
        np.testing.assert_array_equal(answer(DECLARED, [loaded], asked)[name], values)
    (tmp_path / "run" / "times_ms.npy").write_bytes(b"no array")
    with pytest.raises(BadArtifact, match="run publish again"):
        Run.load(tmp_path / "run")


def test_bad_declarations_are_refused():
    past = past_of(np.random.default_rng(0), 5, True)
    with pytest.raises(BadConfig, match="no by 'door'"):
        Run.of([parse_config(Aggregate, {"by": ["door"]}, "t")], past)
    wide = {f"k{number}": np.arange(2**16) for number in range(4)}
    many = Past(wide, np.zeros(2**16, int), {}, {})
    with pytest.raises(BadConfig, match="too many possible keys"):
        Run.of([parse_config(Aggregate, {"by": sorted(wide)}, "t")], many)
