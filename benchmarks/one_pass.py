"""Pairwise fine-tuning, forward and backward: one transformer run per chunk against one per impression.

    python benchmarks/one_pass.py [--repeats 3]

Both ways use the same model, chunks and loss, and give the same vectors (a test holds them together). The way of one
run per impression is batched, the longest histories first, so that little is padding. Times are medians of interleaved
repeats; the ratio of tokens is what arithmetic alone would predict. The surface over both numbers is that of a small
model (2 layers, width 64) and 8 chunks a batch, as training has them; then the same with a single chunk, and with the
source's size mini (4 layers, width 256). Rows go to docs/results/one_pass.json.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import commit, machine
from torch import Tensor

from upnext.base.batches import Column, ItemTable, SequenceBatch
from upnext.base.configuration import parse_config
from upnext.base.schema import FeedbackKind
from upnext.losses.pairwise import pairwise_logistic_loss
from upnext.models.two_towers import TwoTowers, TwoTowersConfig
from upnext.nn.encoders import Inputs
from upnext.objectives.pairwise import ImpressionBatch, PairwiseRanking

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "one_pass.json"
NUM_ITEMS = 10_000
FEEDBACK: dict[str, FeedbackKind] = {"like": "binary", "played": "fraction"}
Way = Callable[[ImpressionBatch], Tensor]
"""Scores every impression of a batch."""
SPREADS = {"last quarter": 0.75, "second half": 0.5, "everywhere": 0.0}
"""From where on in the chunk the impressions lie."""


@dataclass(frozen=True)
class Point:
    """What is timed: a batch and the size of the model."""

    history: int
    impressions: int
    spread: str = "last quarter"
    chunks: int = 8
    layers: int = 2
    width: int = 64

    def __str__(self) -> str:
        chunks = "1 chunk" if self.chunks == 1 else f"{self.chunks} chunks"
        where = f"history {self.history}, {self.impressions} impressions in the {self.spread}"
        return f"{self.layers}x{self.width}, {chunks}: {where.replace('in the everywhere', 'everywhere')}"


POINTS = [
    *(Point(history, impressions) for history in (128, 256, 512) for impressions in (16, 64, 256)),
    *(Point(512, 256, spread) for spread in ("second half", "everywhere")),
    Point(512, 256, chunks=1),
    Point(512, 256, chunks=1, layers=4, width=256),
]


def main() -> None:
    """Time both ways at every point and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load, impression_scores, rows = os.getloadavg()[0], per_impression(), []
    known = {
        "benchmark": "one_pass",
        "dataset": "random histories",
        "model": "two_towers",
        "protocol": "forward and backward of a batch; medians of interleaved repeats",
        "settings": {"repeats": arguments.repeats, "threads": arguments.threads, "load_before": round(load, 2)},
        "k": None,
        "seeds": 1,
        "minutes": None,
        "commit": commit("benchmarks/one_pass.py"),
        "machine": machine(f"{arguments.threads} threads"),
        "command": f"python benchmarks/one_pass.py --repeats {arguments.repeats} --threads {arguments.threads}",
    }
    for point in POINTS:
        model, batch = make_model(point), make_batch(point)
        fast, slow = both(model, batch, partial(impression_scores, model), arguments.repeats)
        figures = {
            "one_pass_seconds": fast,
            "per_impression_seconds": slow,
            "times_faster": [theirs / ours for ours, theirs in zip(fast, slow, strict=True)],
            "times_fewer_tokens": [int(batch.state.sum()) / (point.history * point.chunks)],
        }
        rows += [
            known | {"variant": str(point), "metric": name} | spread_of(values) for name, values in figures.items()
        ]
        times, tokens = (statistics.median(figures[name]) for name in ("times_faster", "times_fewer_tokens"))
        ms = 1e3 * statistics.median(fast)
        print(f"{point}: {ms:.1f} ms, {times:.0f} times faster, {tokens:.0f} times fewer tokens", flush=True)
    arguments.results.write_text(json.dumps(rows, indent=1) + "\n")


def per_impression() -> Callable[[TwoTowers, ImpressionBatch], Tensor]:
    """The reference of the tests, which lie beside this folder."""
    sys.path.insert(0, str(ROOT))
    from tests.reference.impressions import impression_scores

    return impression_scores


def both(model: TwoTowers, batch: ImpressionBatch, slow: Way, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of one pass (the median of five each time) and of a run per impression, by turns, after a warm-up."""
    fast = PairwiseRanking(model).scores
    timed(model, batch, fast)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        times[0].append(statistics.median(timed(model, batch, fast) for _ in range(5)))
        times[1].append(timed(model, batch, slow))
    return times


def spread_of(values: list[float]) -> dict[str, float]:
    """The median, the lowest and the highest."""
    figures = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def make_model(point: Point) -> TwoTowers:
    """A two-tower model over ids, one context and two kinds of feedback."""
    torch.manual_seed(0)
    encoder: dict[str, Any] = {"width": point.width, "layers": point.layers, "heads": max(1, point.width // 64)}
    encoder |= {"max_length": 512, "dropout": 0.0, "embeddings": {"kind": "hashed", "sparse": True}}
    config = parse_config(TwoTowersConfig, {"encoder": encoder}, "benchmark")
    inputs = Inputs(has_times=True, contexts={"surface": 6}, feedback=FEEDBACK, item_features={})
    items = ItemTable(torch.arange(NUM_ITEMS), torch.randint(1, 2**62, (NUM_ITEMS,)))
    return TwoTowers(config, inputs, items, torch.arange(NUM_ITEMS) >= 2)


def make_batch(point: Point) -> ImpressionBatch:
    """Chunks with their impressions spread evenly from somewhere on, every neighbour a pair."""
    g = torch.Generator().manual_seed(1)
    R, L, count = point.chunks, point.history, point.impressions
    item = torch.randint(2, NUM_ITEMS, (R, L), generator=g)
    steps = torch.arange(L).repeat(R, 1)
    all_seen = torch.ones(R, L, dtype=torch.bool)
    columns = {
        "context.surface": Column(torch.randint(2, 6, (R, L), generator=g), all_seen),
        "feedback.like": Column(torch.randint(0, 2, (R, L), generator=g).float(), all_seen),
        "feedback.played": Column(torch.rand(R, L, generator=g), all_seen),
    }
    histories = SequenceBatch(torch.full((R,), L), item, item + 2**40, steps * 60_000, steps, steps, columns)
    begin = max(1, SPREADS[point.spread] * L)
    state = torch.from_numpy(np.linspace(begin, L, count).round().astype(np.int64)).repeat(R)
    number = torch.arange(R * count).view(R, count)
    better, worse = number[:, :-1].flatten(), number[:, 1:].flatten()
    row = torch.arange(R).repeat_interleave(count)
    shown = torch.randint(2, NUM_ITEMS, (R * count,), generator=g)
    return ImpressionBatch(histories, row, state, shown, better, worse, torch.ones(len(better)))


def timed(model: TwoTowers, batch: ImpressionBatch, scores: Way) -> float:
    """Seconds of forward and backward."""
    model.zero_grad()
    start = time.perf_counter()
    found = scores(batch)
    torch.autograd.backward(pairwise_logistic_loss(found[batch.better], found[batch.worse], batch.weight))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
