"""What is popular, kept between pages: the same answers as from all scores."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from upnext.base.batches import Request
from upnext.base.selection import Parts, best_of_parts
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.serving.popular import PopularOrder

V, HOUR = 700, 3_600_000


def request(*times: int) -> Request:
    return Request(torch.tensor(times), torch.full((len(times),), 2))


def slow(scores: np.ndarray, k: int, parts: Parts, hidden: set[int]) -> list[int]:
    allowed = [item for item in parts.sets[0].tolist() if item not in hidden]
    best = sorted(allowed, key=lambda item: (-scores[item], item))[:k]
    return best + [-1] * (k - len(best))


@given(st.integers(0, 10**6), st.integers(1, 400), st.integers(0, 600))
def test_equals_a_slow_sort_whoever_asks(seed: int, k: int, num_hidden: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 9, V)
    parts = Parts([np.sort(generator.permutation(np.arange(2, V))[: generator.integers(1, V - 2)])])
    order = PopularOrder(Popular(PopularConfig(), torch.from_numpy(counts)), parts)
    hidden = [generator.permutation(V)[:num_hidden], np.empty(0, np.int64), generator.permutation(V)[:3]]
    pairs = np.repeat(np.arange(3), [len(one) for one in hidden]), np.concatenate(hidden)
    items, scores = order.best(request(5, 5, 5), k, pairs)
    for row, unseen in enumerate(hidden):
        assert items[row].tolist() == slow(counts, k, parts, set(unseen.tolist()))
        assert scores[row].tolist() == [counts[item] if item >= 0 else -np.inf for item in items[row]]


def test_follows_the_stream_and_works_out_the_order_only_when_it_changes(monkeypatch) -> None:
    def ask(time_ms: int) -> list[int]:
        items, _ = order.best(request(time_ms), 2, (np.empty(0, np.int64), np.empty(0, np.int64)))
        return [int(item) for item in items[0]]

    sorted_times = []

    def counted(*arguments):
        sorted_times.append(1)
        return best_of_parts(*arguments)

    monkeypatch.setattr("upnext.serving.popular.best_of_parts", counted)
    config = RecentlyPopularConfig(window=HOUR)
    model = RecentlyPopular(config, np.array([7, 7, 9]), np.array([0, 1, 2]), np.zeros(V, np.int64))
    order = PopularOrder(model, Parts([np.arange(2, V)]))
    assert ask(10) == ask(11) == [7, 9]
    assert len(sorted_times) == 1
    model.observe(np.array([9, 9]), np.array([12, 12]))
    assert ask(12) == [7, 9]  # strictly before the request
    assert len(sorted_times) == 1
    assert ask(13) == [9, 7]
    assert len(sorted_times) == 2
    assert ask(2) == [7, 2]  # a request of the past sees the past
