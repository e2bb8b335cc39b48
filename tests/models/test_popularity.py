import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.contract import check_retriever
from tests.models.histories import histories
from upnext.base.batches import Request
from upnext.models.build import AnyModel, load_model, save_model
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig

V = 11


def scores(model: AnyModel, times: list[int]) -> np.ndarray:
    state = model.encode(histories([[]] * len(times)))
    request = Request(torch.tensor(times), torch.zeros(len(times), dtype=torch.int64))
    return model.score(state, request, torch.arange(V)[None]).numpy()


def test_popular_keeps_the_contract():
    check_retriever(Popular.fit(PopularConfig(), np.array([2, 5, 5, 9]), V), V)


def test_recently_popular_keeps_the_contract():
    check_retriever(RecentlyPopular(RecentlyPopularConfig(), V, np.array([2, 5, 5, 9]), np.arange(4)), V)


def test_popular_counts():
    model = Popular.fit(PopularConfig(), np.array([2, 5, 5, 9]), V)
    assert scores(model, [0])[0].tolist() == [0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 0]


events = st.lists(st.tuples(st.integers(2, V - 1), st.integers(0, 30)), max_size=25)


@settings(deadline=None)
@given(events, events, st.lists(st.integers(-1, 35), min_size=1, max_size=8), st.integers(1, 20))
def test_recently_popular_equals_a_slow_count(first, later, times, window):
    config = RecentlyPopularConfig(window=window)
    model = RecentlyPopular(config, V, *_arrays(first))
    model.observe(*_arrays(later))
    expected = np.zeros((len(times), V))
    for row, time in enumerate(times):
        before = [(item, at) for item, at in first + later if at < time]
        last = max((at for _, at in before), default=0)
        for item, at in before:
            expected[row, item] += at > last - window
    np.testing.assert_array_equal(scores(model, times), expected)


def _arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([i for i, _ in pairs], np.int64), np.array([t for _, t in pairs], np.int64)


@pytest.mark.parametrize(
    "model",
    [
        Popular.fit(PopularConfig(view="liked"), np.array([2, 5, 5, 9]), V),
        RecentlyPopular(RecentlyPopularConfig(window=100), V, np.array([2, 5, 5, 9]), np.arange(4)),
        RecentlyPopular(RecentlyPopularConfig(window=100), V, np.zeros(0, np.int64), np.zeros(0, np.int64)),
    ],
    ids=["popular", "recent", "empty"],
)
def test_a_checkpoint_answers_alike(model, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    np.testing.assert_array_equal(scores(loaded, [10]), scores(model, [10]))
