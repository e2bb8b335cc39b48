import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.aggregates import slow_aggregate
from upnext.base.batches import FlatColumn
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.features.aggregates import Aggregate, Past, Questions, compute_aggregates

DECLARED = [
    {"by": ["user"]},
    {"by": ["item"], "window": "5ms"},
    {"by": ["item"], "what": "mean", "feedback": "like"},
    {"by": ["user", "author"], "what": "mean", "feedback": "like", "window": "9ms", "view": "chosen"},
    {"by": ["user", "item"], "what": "recency", "view": "chosen"},
    {"by": ["item"], "what": "age"},
]
AGGREGATES = [parse_config(Aggregate, data, "test") for data in DECLARED]


def keys(g: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    large = 2**60  # neighbours that a float could not tell apart
    return {"user": g.integers(0, 3, n), "item": large + g.integers(0, 4, n), "author": g.integers(-2, 1, n)}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(0, 10))
def test_equals_a_loop(seed, num_events, num_questions):
    g = np.random.default_rng(seed)
    like = FlatColumn(g.random(num_events).astype(np.float32), g.random(num_events) < 0.7)
    past = Past(
        keys(g, num_events), g.integers(0, 20, num_events), {"like": like}, {"chosen": g.random(num_events) < 0.5}
    )
    questions = Questions(keys(g, num_questions), g.integers(0, 22, num_questions))
    answers = compute_aggregates(AGGREGATES, past, questions)
    assert list(answers) == [aggregate.name for aggregate in AGGREGATES]
    for aggregate in AGGREGATES:
        expected = [slow_aggregate(aggregate, past, questions, number) for number in range(num_questions)]
        np.testing.assert_allclose(answers[aggregate.name], np.array(expected, np.float32), rtol=1e-6)


def test_an_event_sees_neither_itself_nor_its_siblings():
    past = Past({"user": np.array([1, 1, 1])}, np.array([5, 7, 7]), {}, {})
    asked = Questions({"user": np.array([1, 1, 1])}, past.time_ms)
    (counts,) = compute_aggregates([AGGREGATES[0]], past, asked).values()
    assert counts.tolist() == [0, 1, 1]


def test_names_say_what_is_counted():
    assert [aggregate.name for aggregate in AGGREGATES][3] == "user+author.chosen.like.mean.2.5e-06h"
    assert parse_config(Aggregate, {"by": ["item"], "window": "7d"}, "x").name == "item.count.168h"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"by": ["user"], "what": "mean"}, "go together"),
        ({"by": ["user"], "feedback": "like"}, "go together"),
        ({"by": ["user"], "what": "age", "window": "1d"}, "remove the window"),
        ({"by": []}, "at least 1 item"),
    ],
)
def test_declarations_that_cannot_be(data, words):
    with pytest.raises(BadConfig, match=words):
        parse_config(Aggregate, data, "test")


@pytest.mark.parametrize("data", [{"by": ["door"]}, {"by": ["user"], "view": "x"}])
def test_what_the_log_lacks_is_named(data):
    past = Past({"user": np.array([1])}, np.array([5]), {}, {})
    with pytest.raises(BadConfig, match="allowed:"):
        compute_aggregates([parse_config(Aggregate, data, "t")], past, Questions(past.keys, past.time_ms))
