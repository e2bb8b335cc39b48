"""Permutation importance: what a model reads is worth something, what it does not read is worth nothing."""

import numpy as np
import pytest
import torch

from tests.events.logs import NUM_USERS, Event, log_of
from tests.models.test_argus import catalogue
from tests.models.test_youtube import SHAPE
from upnext.base.batches import FlatColumn
from upnext.fitting.importance import permutation_importance
from upnext.fitting.shown import Reads, ShownSets
from upnext.models.ranker_inputs import RankerInputs
from upnext.models.youtube import YouTubeRanker, YouTubeRankerConfig
from upnext.nn.encoders import Inputs
from upnext.objectives.feedback import FeedbackLosses
from upnext.objectives.ranking import OrderRanking, PointwiseRanking


def held_out() -> ShownSets:
    rng = np.random.default_rng(0)
    events = [Event(2 + n % (NUM_USERS - 3), 2 + n % 6, n // 3, -1, float(rng.random() < 0.5)) for n in range(300)]
    log = log_of(events)
    played = log.rows.columns["feedback.played"].values
    rows, there = np.arange(len(log)), np.ones(len(log), np.bool_)
    features = {
        "knows": FlatColumn(played + rng.normal(0, 0.01, len(log)).astype(np.float32), there),
        "noise": FlatColumn(rng.random(len(log)).astype(np.float32), there),
    }
    reads = Reads("all", 4, ["watched"], ["device"], {}, ["played"])
    return ShownSets.of(log, rows, features, reads, None, 100)


def model(orders: bool) -> YouTubeRanker:
    torch.manual_seed(0)
    inputs = RankerInputs(
        events=Inputs(has_times=True, contexts={"device": 3}, feedback={"played": "fraction"}, item_features={}),
        numbers=["knows", "noise"],
        predicted={} if orders else {"played": "fraction"},
        orders=orders,
    )
    config = YouTubeRankerConfig(view="watched", width=4, hidden=[4], embeddings=SHAPE["embeddings"])
    made = YouTubeRanker(config, inputs, catalogue(), torch.linspace(0, 1, 7).expand(2, -1), {})
    for parameter in made.parameters():
        parameter.data.zero_()
    assert made.told is not None
    made.told.weight.data[:, 0] = 6.0  # the rank of what knows
    made.output.weight.data.fill_(1.0)
    made.output.bias.data.fill_(-10.0)
    return made.eval()


@pytest.mark.parametrize("orders", [False, True])
def test_only_what_is_read_is_worth_anything(orders):
    ranker, held = model(orders), held_out()
    ranking: PointwiseRanking | OrderRanking
    if orders:
        ranking = OrderRanking(ranker, "pairwise", {"played": 1.0})
    else:
        ranking = PointwiseRanking(ranker, FeedbackLosses({"played": "fraction"}, {}, {}))
    (worth,) = permutation_importance(ranking, held, 1000, 500).values()
    assert worth.keys() == {"item", "knows", "noise", "watched", "place"}
    assert all(value == pytest.approx(0, abs=1e-6) for name, value in worth.items() if name != "knows")
    again = permutation_importance(ranking, held, 1000, 500)
    assert list(again.values()) == [worth]
    if not orders:
        assert worth["knows"] > 0.5
    assert not ranker.training
