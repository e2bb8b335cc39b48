"""Draws from recent events: what the prior of a model says, and never the future."""

import numpy as np
import pytest
import torch

from tests.reference.recent import Event, prior
from upnext.sampling.recent import RecentEvents

V, WINDOW, OTHERS, SHRINKAGE = 6, 10, 0.2, 2.0
STREAM: list[Event] = [
    (0, 3, (1,), 0),
    (1, 12, (1,), 0),
    (1, 14, (2,), 0),
    (2, 14, (1,), 0),
    (3, 15, (2,), 0),
    (4, 20, (1,), 0),
    (5, 20, (1,), 0),
]


def sampler(stream: list[Event], window: int = WINDOW) -> RecentEvents:
    items, times = (torch.tensor([event[place] for event in stream], dtype=torch.int64) for place in (0, 1))
    keys = torch.tensor([event[2][0] for event in stream], dtype=torch.int64)
    settings = {"num_items": V, "window": window, "others": OTHERS, "shrinkage": SHRINKAGE}
    return RecentEvents(items, times, [keys], **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [STREAM, STREAM[::-1], []], ids=["sorted", "unsorted", "empty"])
def test_draws_follow_the_prior(stream):
    torch.manual_seed(0)
    n, asked = 20_000, [(0, 1), (3, 1), (15, 1), (20, 2), (21, 1), (99, 2), (99, 7)]
    times, keys = (torch.tensor(part) for part in zip(*asked, strict=True))
    drawn = sampler(stream)(times, [keys], n)
    assert drawn.shape == (len(asked), n)
    for row, (time, key) in enumerate(asked):
        settings = {"window": WINDOW, "others": OTHERS, "shrinkage": SHRINKAGE, "num_alike": V}
        expected = prior(stream, time, (key,), V, **settings)  # type: ignore[arg-type]
        assert expected.sum() == pytest.approx(1)
        observed = np.bincount(drawn[row].numpy(), minlength=V)
        chi_square = float((((observed - expected * n) ** 2) / (expected * n)).sum())
        assert chi_square < 24, (time, key)  # 5 degrees of freedom: above 24 once in five thousand


def test_nothing_is_drawn_from_the_instant_itself_or_later():
    # ε aside, what can be drawn at 14 is what came before 14.
    alone = sampler(STREAM)
    alone.others = 0.0
    drawn = alone(torch.full((50,), 14), [torch.ones(50).long()], 100)
    assert set(drawn.flatten().tolist()) == {0, 1}
    assert set(alone(torch.full((50,), 12), [torch.ones(50).long()], 100).flatten().tolist()) == {0}
