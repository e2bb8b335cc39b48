import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.histories import histories, request
from upnext.base.batches import Events, SequenceBatch
from upnext.base.errors import UserError
from upnext.models.popularity import Popular, PopularConfig
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.softmax import SampledSoftmaxConfig, make_softmax
from upnext.training.chunks import Chunks
from upnext.training.loop import TrainingConfig, train


@dataclass
class Numbers:
    """A data source of rows with one event each."""

    lengths: np.ndarray

    def batch(self, rows: np.ndarray) -> SequenceBatch:
        return histories([[2 + int(row)] for row in rows])


class Line(nn.Module):
    """One weight, pulled towards 3."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))

    def loss(self, batch: SequenceBatch, step: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        count = torch.tensor(float(len(batch)))
        return {"square": ((self.weight - 3) ** 2 * count, count)}


def test_keeps_the_best_epoch_and_stops_when_patience_ends(tmp_path):
    model = Line()
    seen: list[float] = []

    def validate() -> dict[str, float]:
        seen.append(model.weight.item())
        return {"metric": [0.1, 0.5, 0.4, 0.3][len(seen) - 1]}

    config = TrainingConfig(epochs=10, patience=2, learning_rate=0.05, warmup_steps=0, tokens_per_batch=2)
    result = train(model, model.loss, Numbers(np.ones(6, np.int64)), validate, config, tmp_path)
    assert (result.best_epoch, result.best_metric, result.epochs) == (1, 0.5, 4)
    assert model.weight.item() == seen[1]
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["metric"] for line in lines] == [0.1, 0.5, 0.4, 0.3]
    assert lines[0]["square_loss"] > lines[3]["square_loss"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-1.safetensors",
        "checkpoint.safetensors",
        "history.jsonl",
    ]


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path):
    def objective(batch: SequenceBatch, step: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        return {"broken": (torch.tensor(torch.nan, requires_grad=True), torch.tensor(1.0))}

    with pytest.raises(UserError, match=r"lower training\.learning_rate"):
        train(Line(), objective, Numbers(np.ones(2, np.int64)), dict, TrainingConfig(), tmp_path)


def test_a_mean_is_one_whatever_its_weights_add_up_to(tmp_path):
    def curve(scale: float) -> list[float]:
        model = Line()

        def objective(batch: SequenceBatch, step: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
            return {name: (scale * total, scale * count) for name, (total, count) in model.loss(batch, step).items()}

        config = TrainingConfig(epochs=3, learning_rate=0.05, tokens_per_batch=2)
        (folder := tmp_path / str(scale)).mkdir()
        train(model, objective, Numbers(np.ones(6, np.int64)), lambda: {"metric": 0.0}, config, folder)
        return [json.loads(line)["square_loss"] for line in (folder / "history.jsonl").read_text().splitlines()]

    assert curve(1e-3) == pytest.approx(curve(1.0), rel=1e-4)


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing to train on"):
        train(Line(), Line().loss, Numbers(np.ones(0, np.int64)), dict, TrainingConfig(), tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_is_that_of_products_in_the_objective_and_nowhere_else(tmp_path, precision):
    seen: dict[str, set[torch.dtype]] = {"objective": set(), "validation": set()}
    model = Line()

    def product() -> torch.dtype:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    def objective(batch: SequenceBatch, step: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        seen["objective"].add(product())
        return model.loss(batch, step)

    def validate() -> dict[str, float]:
        seen["validation"].add(product())
        return {"metric": 0.0}

    config = TrainingConfig(epochs=1, precision=precision)
    train(model, objective, Numbers(np.ones(3, np.int64)), validate, config, tmp_path)
    assert seen == {"objective": {getattr(torch, precision)}, "validation": {torch.float32}}
    assert model.weight.dtype == torch.float32


def rising() -> Callable[[], dict[str, float]]:
    """A validation that is better after every epoch, so that all epochs run and the last one is kept."""
    epoch = count()
    return lambda: {"epoch": float(next(epoch))}


def planted(num_users: int, seed: int) -> tuple[Events, np.ndarray]:
    """Users walk a fixed cycle of 20 items from a random start, with a most popular item strewn in."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(num_users):
        walk = (generator.integers(20) + np.arange(generator.integers(4, 12))) % 20 + 3
        walk[generator.random(len(walk)) < 0.2] = 2
        rows.append(walk)
    flat = np.concatenate(rows)
    steps = np.arange(len(flat))
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Events(flat, flat, steps, steps, steps), offsets


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_learns_a_planted_order_that_popularity_cannot(tmp_path, precision):
    torch.manual_seed(0)
    num_items = 23
    events, offsets = planted(200, seed=0)
    model = SASRec(SASRecConfig(width=32, max_length=8, dropout=0.0), torch.arange(num_items) >= 2)
    chunks = Chunks.cut(events, offsets, model.max_length)
    config = TrainingConfig(epochs=12, tokens_per_batch=256, learning_rate=5e-3, warmup_steps=5, precision=precision)
    train(model, NextItemPrediction(model), chunks, rising(), config, tmp_path)
    model.train(False)

    held_out, held_offsets = planted(100, seed=1)
    popular = Popular.fit(PopularConfig(), events.item, num_items)
    hits = {"sasrec": 0, "popular": 0}
    for a, b in pairwise(held_offsets):
        past, target = held_out.item[a : b - 1].tolist(), int(held_out.item[b - 1])
        if target == 2:
            continue
        batch = histories([past])
        for name, one in (("sasrec", model), ("popular", popular)):
            with torch.inference_mode():
                scores = one.score(one.encode(batch), request(1), torch.arange(num_items)[None])[0]
            hits[name] += target in scores.topk(2).indices.tolist()
    assert hits["sasrec"] > 60
    assert hits["popular"] < 20


POPULAR, CLUSTERS, MEMBERS = 10, 4, 20


def planted_popularity(num_users: int, seed: int) -> tuple[Events, np.ndarray]:
    """Every other event is one of ten popular items; the rest come from the user's own twenty of eighty."""
    generator = np.random.default_rng(seed)
    cluster = generator.integers(CLUSTERS, size=(num_users, 1))
    items = 2 + POPULAR + cluster * MEMBERS + generator.integers(MEMBERS, size=(num_users, 12))
    is_popular = generator.random(items.shape) < 0.5
    items[is_popular] = 2 + generator.integers(POPULAR, size=is_popular.sum())
    flat, steps = items.ravel(), np.arange(items.size)
    return Events(flat, flat, steps, steps, steps), np.arange(0, items.size + 1, 12)


@pytest.mark.parametrize(
    ("correction", "worst", "best"), [("none", 0.0, 0.05), ("standard", 0.3, 1.0), ("corrected", 0.3, 1.0)]
)
def test_in_batch_negatives_push_popular_items_down_unless_they_are_corrected(tmp_path, correction, worst, best):
    torch.manual_seed(0)
    num_items = 2 + POPULAR + CLUSTERS * MEMBERS
    events, offsets = planted_popularity(300, seed=0)
    trained = torch.from_numpy(np.bincount(events.item, minlength=num_items) > 0)
    counts = torch.from_numpy(np.bincount(events.item, minlength=num_items))[trained]
    model = SASRec(SASRecConfig(width=16, max_length=12, dropout=0.0), trained, sparse_gradients=True)
    loss = SampledSoftmaxConfig(negatives="in_batch", correction=correction)
    objective = NextItemPrediction(model, make_softmax(loss, counts))
    config = TrainingConfig(epochs=10, tokens_per_batch=512, learning_rate=1e-2, warmup_steps=5)
    train(objective, objective, Chunks.cut(events, offsets, 12), rising(), config, tmp_path)
    model.train(False)

    held_out, held_offsets = planted_popularity(100, seed=1)
    gains = []
    for a, b in pairwise(held_offsets):
        target = int(held_out.item[b - 1])
        if target >= 2 + POPULAR:
            continue
        batch = histories([held_out.item[a : b - 1].tolist()])
        with torch.inference_mode():
            scores = model.score(model.encode(batch), request(1), torch.arange(num_items)[None])[0]
        rank = 1 + int((scores > scores[target]).sum())
        gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
    assert len(gains) > 30
    assert worst <= np.mean(gains) <= best  # NDCG@10 of popular targets; the possible is about 0.45
