"""Training with a prior of recent events: what is drawn for whom, what is learnt, and that a stop loses nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.histories import histories
from upnext.base.batches import Events, ItemTable, Request, SequenceBatch
from upnext.base.configuration import parse_config
from upnext.base.ids import item_hash
from upnext.base.views import TARGET
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.stream import following
from upnext.nn.encoders import Inputs
from upnext.objectives.argus import ARGUSObjective, TaskConfig
from upnext.objectives.recent import RecentSoftmax, RecentSoftmaxConfig
from upnext.sampling.recent import RecentEvents
from upnext.training.chunks import Chunks
from upnext.training.loop import Start, TrainingConfig, train

V = 12
INPUTS = Inputs(has_times=True, contexts={}, feedback={}, item_features={})


class Recording(RecentEvents):
    """A sampler that remembers what it gave."""

    def __call__(self, times_ms: Tensor, keys: object, num_drawn: int) -> Tensor:
        self.drawn = super().__call__(times_ms, [], num_drawn)
        return self.drawn


def make(events: Events, others: float = 0.05, strangers: float = 0.1, num_drawn: int = 20) -> ARGUSObjective:
    torch.manual_seed(0)
    table = ItemTable(torch.arange(V), torch.from_numpy(np.concatenate([[0, 0], item_hash(range(2, V))])))
    keys = {"width": 8, "layers": 1, "max_length": 8, "recent": {"window": 1000, "strangers": strangers}}
    model = ARGUS(parse_config(ARGUSConfig, keys, "test"), INPUTS, table, torch.arange(V) >= 2)
    following(model, events, V)
    rows, times = (torch.from_numpy(part) for part in (events.item - 2, events.time_ms))
    sampler = Recording(rows, times, [], num_items=V - 2, window=1000, others=others, shrinkage=1.0)
    softmax = RecentSoftmax(RecentSoftmaxConfig(num_drawn=num_drawn), sampler)
    return ARGUSObjective(model, softmax, TaskConfig(), {})


def test_nothing_is_drawn_from_a_request_or_after_it():
    # Items 2 and 3, then a request with 4 and 5 a moment apart, then 6.
    batch = histories([[2, 3, 4, 5, 6]], [[0, 1, 2, 2, 3]])
    events = Events(*(getattr(batch, name)[0].numpy() for name in ("item", "item_hash", "time_ms", "order", "request")))
    objective = make(events, others=1e-9, num_drawn=200)
    objective(SequenceBatch(**(vars(batch) | {"views": {TARGET: batch.mask}})), 0)
    sampler = objective.softmax.sampler
    assert isinstance(sampler, Recording)
    drawn = [{item + 2 for item in row} for row in sampler.drawn.tolist()]
    # Before the first event all items are alike.
    assert drawn[1:] == [{2}, {3}, {3}, {5}]  # the window holds one second


def planted(num_users: int = 150) -> tuple[Events, np.ndarray]:
    """After an even item comes the next odd one; what else is chosen changes from hour to hour."""
    rng = np.random.default_rng(0)
    items, times, users = [], [], []
    for user in range(num_users):
        hour = int(rng.integers(10))
        start = hour * 1000 + int(rng.integers(900))
        live = 2 + 2 * (hour % 5)
        first = live if rng.random() < 0.5 else int(2 + 2 * rng.integers(5))
        items += [first, first + 1]
        times += [start, start + 50]
        users += [user, user]
    order = np.arange(len(items))
    item = np.array(items, np.int64)
    events = Events(item, item_hash(items), np.array(times, np.int64), order, order)
    return events, np.arange(0, len(items) + 1, 2)


CONFIG = TrainingConfig(epochs=12, patience=12, tokens_per_batch=64, warmup_steps=3, learning_rate=0.02)


def fitted(folder: Path, stop_at: int | None = None, resume: bool = False) -> ARGUSObjective:
    folder.mkdir(exist_ok=True)
    events, offsets = planted()
    objective, seen = make(events), []

    def validate() -> dict[str, float]:
        seen.append(1)
        if stop_at is not None and len(seen) == stop_at:
            raise KeyboardInterrupt
        return {"metric": float(len(seen))}

    start = Start(recipe="r", resume=resume)
    train(objective, objective, Chunks.cut(events, offsets, 9), validate, CONFIG, folder, start)
    return objective


def test_a_planted_pattern_is_learnt_on_top_of_the_prior(tmp_path):
    model = fitted(tmp_path).model.eval()
    events, _ = planted()
    assert model.recent is not None
    asked = events.batch(np.arange(0, 300, 2), np.arange(1, 300, 2))
    request = Request(torch.from_numpy(events.time_ms[1::2].copy()), torch.zeros(150).long())
    scores = model.score(model.encode(asked), request, torch.arange(V)[None])
    prior = model.recent.log_q(request).expand(150, -1)
    follows = torch.from_numpy(events.item[1::2].copy())[:, None]
    loss, of_prior = (-one[:, 2:].log_softmax(1).gather(1, follows - 2).mean().item() for one in (scores, prior))
    assert of_prior > 1.5
    assert loss < 0.5


def test_a_stopped_training_goes_on_to_the_same_bytes(tmp_path):
    whole = fitted(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "stopped", stop_at=5)
    resumed = fitted(tmp_path / "stopped", resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
