from copy import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.contract import check_retriever
from tests.models.histories import histories
from upnext.base.batches import ItemTable, Request
from upnext.models.build import AnyModel, load_model, save_model
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig

V = 11
NONE = np.zeros(V, np.int64)


def scores(model: AnyModel, times: list[int]) -> np.ndarray:
    state = model.encode(histories([[]] * len(times)))
    request = Request(torch.tensor(times), torch.zeros(len(times), dtype=torch.int64))
    return model.score(state, request, torch.arange(V)[None]).numpy()


def test_popular_keeps_the_contract():
    check_retriever(Popular.fit(PopularConfig(), np.array([2, 5, 5, 9]), V), V)


def test_recently_popular_keeps_the_contract():
    check_retriever(RecentlyPopular(RecentlyPopularConfig(), np.array([2, 5, 5, 9]), np.arange(4), NONE), V)


def test_popular_counts():
    model = Popular.fit(PopularConfig(), np.array([2, 5, 5, 9]), V)
    assert scores(model, [0])[0].tolist() == [0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 0]


events = st.lists(st.tuples(st.integers(2, V - 1), st.integers(0, 30)), max_size=25)


@settings(deadline=None)
@given(events, events, st.lists(st.integers(-1, 35), min_size=1, max_size=8), st.integers(1, 20))
def test_recently_popular_equals_a_slow_count(first, later, times, window):
    config = RecentlyPopularConfig(window=window)
    model = RecentlyPopular(config, *_arrays(first), NONE)
    model.observe(*_arrays(later))
    expected = np.zeros((len(times), V))
    for row, time in enumerate(times):
        before = [(item, at) for item, at in first + later if at < time]
        last = max((at for _, at in before), default=0)
        recent = [sum(item == i and at > last - window for item, at in before) for i in range(V)]
        older = [sum(item == i and at <= last - window for item, at in before) for i in range(V)]
        expected[row] = [count + tie / (max(older) + 1) for count, tie in zip(recent, older, strict=True)]
    np.testing.assert_allclose(scores(model, times), expected, rtol=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(events, st.lists(st.integers(-1, 35), max_size=3)), max_size=6), st.integers(1, 20))
def test_a_stream_counted_on_the_way_is_counted_alike(steps, window):
    """Late events and requests in any order: what was counted for one request is no mistake in the next."""
    config = RecentlyPopularConfig(window=window)
    model = RecentlyPopular(config, *_arrays([]), NONE)
    seen: list[tuple[int, int]] = []
    for more, times in steps:
        twin = copy(model)
        model.observe(*_arrays(more))
        twin.observe(*_arrays([(2, 0), (3, 50)]))  # a copy counts for itself
        seen += more
        for time in times:
            fresh = RecentlyPopular(config, *_arrays(seen), NONE)
            np.testing.assert_array_equal(scores(model, [time]), scores(fresh, [time]))


def test_items_that_came_later_are_counted():
    model = RecentlyPopular(RecentlyPopularConfig(window=10), np.array([2, 5]), np.arange(2), NONE)
    model.cover(V + 1)
    model.observe(np.array([V + 2, V + 2]), np.array([3, 4]))
    state, request = model.encode(histories([[]])), Request(torch.tensor([9]), torch.zeros(1, dtype=torch.int64))
    ids, best = model.top_k(state, request, 4)
    assert (ids.tolist(), best.tolist()) == ([[V + 2, 2, 5, 3]], [[2.0, 1.0, 1.0, 0.0]])


def test_one_event_after_a_long_silence_does_not_wipe_the_ranking():
    config = RecentlyPopularConfig(window=10)
    model = RecentlyPopular(config, np.array([2, 5, 5, 9, 5, 9]), np.arange(6), NONE)
    model.observe(np.array([7]), np.array([1000]))
    assert scores(model, [2000])[0].argsort()[::-1][:4].tolist() == [7, 5, 9, 2]


def _arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([i for i, _ in pairs], np.int64), np.array([t for _, t in pairs], np.int64)


@pytest.mark.parametrize(
    "model",
    [
        Popular.fit(PopularConfig(view="liked"), np.array([2, 5, 5, 9]), V),
        RecentlyPopular(RecentlyPopularConfig(window=100), np.array([2, 5, 5, 9]), np.arange(4), NONE),
        RecentlyPopular(RecentlyPopularConfig(window=2), np.array([2, 5, 5, 9]), np.arange(4), NONE + 3),
        RecentlyPopular(RecentlyPopularConfig(window=100), np.zeros(0, np.int64), np.zeros(0, np.int64), NONE),
    ],
    ids=["popular", "recent", "short window", "empty"],
)
def test_a_checkpoint_answers_alike(model, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, ItemTable(torch.arange(V), torch.arange(V)))
    assert loaded.config == model.config
    np.testing.assert_array_equal(scores(loaded, [10]), scores(model, [10]))
