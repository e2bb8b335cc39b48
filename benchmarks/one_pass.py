"""Pairwise fine-tuning, forward and backward: one transformer run per chunk against one per impression.

    python benchmarks/one_pass.py [--layers 2 --width 64] [--repeats 3]

Both ways use the same model, chunk and loss, and give the same vectors (a test holds them together). The way of one run
per impression is batched, longest first, so that little is padding. Times are medians of interleaved repeats; the
ratio of tokens is what arithmetic alone would predict.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from record import commit, machine
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.reference.impressions import impression_scores  # noqa: E402
from upnext.base.batches import Column, ItemTable, SequenceBatch  # noqa: E402
from upnext.base.configuration import parse_config  # noqa: E402
from upnext.base.schema import FeedbackKind  # noqa: E402
from upnext.losses.pairwise import pairwise_logistic_loss  # noqa: E402
from upnext.models.two_towers import TwoTowers, TwoTowersConfig  # noqa: E402
from upnext.nn.encoders import Inputs  # noqa: E402
from upnext.objectives.pairwise import ImpressionBatch, PairwiseRanking  # noqa: E402

NUM_ITEMS = 10_000
Way = Callable[[ImpressionBatch], Tensor]
"""Scores every impression of a batch."""
SPREADS = {"last quarter": 0.75, "second half": 0.5, "everywhere": 0.0}
"""From where on in the chunk the impressions lie."""


def main() -> None:
    """Time both ways over history lengths, numbers of impressions and spreads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    model = make_model(arguments.layers, arguments.width)
    rows = []
    for length, count, spread in points():
        batch = make_batch(length, count, SPREADS[spread])
        ways: dict[str, Way] = {
            "one pass": PairwiseRanking(model).scores,
            "per impression": partial(impression_scores, model),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(arguments.repeats + 1):
            for way, scores in ways.items():
                seconds = timed(model, batch, scores)
                if repeat:  # the first time warms up
                    times[way].append(seconds)
        fast, slow = (statistics.median(times[way]) for way in ways)
        tokens = int(batch.state.sum()) / length
        rows.append(
            {"history": length, "impressions": count, "spread": spread}
            | {"one_pass_s": fast, "per_impression_s": slow, "ratio": slow / fast, "token_ratio": tokens}
        )
        print(
            f"history {length:4}, {count:3} impressions, {spread:12}: {fast * 1e3:7.1f} ms against"
            f" {slow * 1e3:9.1f} ms, {slow / fast:6.1f} times; {tokens:6.1f} times the tokens"
        )
    known = {
        "benchmark": "one_pass",
        "command": f"python benchmarks/one_pass.py --layers {arguments.layers} --width {arguments.width}",
        "settings": vars(arguments),
        "commit": commit("benchmarks/one_pass.py"),
        "machine": machine(f"{torch.get_num_threads()} threads"),
    }
    path = ROOT / "docs" / "results" / "one_pass.json"
    path.write_text(json.dumps([known | row for row in rows], indent=1) + "\n")


def points() -> list[tuple[int, int, str]]:
    """The surface over both numbers for the last quarter, and the other spreads at one point."""
    surface = [(length, count, "last quarter") for length in (128, 256, 512) for count in (16, 64, 256)]
    return surface + [(512, 256, spread) for spread in ("second half", "everywhere")]


def make_model(layers: int, width: int) -> TwoTowers:
    """A two-tower model over ids, one context and two kinds of feedback."""
    torch.manual_seed(0)
    size = {"width": width, "layers": layers, "heads": max(1, width // 64), "max_length": 512, "dropout": 0.0}
    encoder = size | {"embeddings": {"kind": "hashed", "sparse": True}}
    config = parse_config(TwoTowersConfig, {"encoder": encoder}, "benchmark")
    inputs = Inputs(has_times=True, contexts={"surface": 6}, feedback=FEEDBACK, item_features={})
    items = ItemTable(torch.arange(NUM_ITEMS), torch.randint(1, 2**62, (NUM_ITEMS,)))
    return TwoTowers(config, inputs, items, torch.arange(NUM_ITEMS) >= 2)


FEEDBACK: dict[str, FeedbackKind] = {"like": "binary", "played": "fraction"}


def make_batch(length: int, count: int, begin: float) -> ImpressionBatch:
    """One chunk, its impressions spread evenly from `begin` of it on, every neighbour a pair."""
    g = torch.Generator().manual_seed(1)
    item = torch.randint(2, NUM_ITEMS, (1, length), generator=g)
    steps = torch.arange(length)[None]
    all_seen = torch.ones(1, length, dtype=torch.bool)
    columns = {
        "context.surface": Column(torch.randint(2, 6, (1, length), generator=g), all_seen),
        "feedback.like": Column(torch.randint(0, 2, (1, length), generator=g).float(), all_seen),
        "feedback.played": Column(torch.rand(1, length, generator=g), all_seen),
    }
    histories = SequenceBatch(torch.tensor([length]), item, item + 2**40, steps * 60_000, steps, steps, columns)
    state = torch.from_numpy(np.linspace(max(1, begin * length), length, count).round().astype(np.int64))
    better = torch.arange(count - 1)
    return ImpressionBatch(
        histories,
        torch.zeros(count, dtype=torch.int64),
        state,
        torch.randint(2, NUM_ITEMS, (count,), generator=g),
        better,
        better + 1,
        torch.ones(count - 1),
    )


def timed(model: TwoTowers, batch: ImpressionBatch, scores: Way) -> float:
    """Seconds of forward and backward."""
    model.zero_grad()
    start = time.perf_counter()
    found = scores(batch)
    torch.autograd.backward(pairwise_logistic_loss(found[batch.better], found[batch.worse], batch.weight))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
