"""What a ranker costs: its parameters, its size, and how long it takes for hundreds of candidates.

Shape letters: I candidates, N candidates that are asked about at once.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from upnext.base.batches import Candidates, Column, Request, State
from upnext.base.example_sets import ExampleSets
from upnext.fitting.distillation import OverFeatures
from upnext.models.boosted import Boosted
from upnext.models.build import AnyRanker, save_any

__all__ = ["NUM_ASKED", "cost_of", "parameters_of", "percentiles_ms", "seconds_of_answers", "size_of"]

NUM_ASKED = 500
"""Candidates of one request."""


def parameters_of(model: AnyRanker) -> int:
    """How many numbers were learnt: weights, or thresholds and answers of trees; of what only counts, its counts."""
    if isinstance(model, Boosted):
        return model.num_values
    numbers = model.parameters() if isinstance(model, torch.nn.Module) else model.tensors().values()
    return sum(parameter.numel() for parameter in numbers)


def size_of(model: AnyRanker) -> int:
    """Bytes of its files."""
    with tempfile.TemporaryDirectory() as folder:
        save_any(model, Path(folder))
        return sum(path.stat().st_size for path in Path(folder).iterdir())


def seconds_of_answers(
    models: Sequence[OverFeatures],
    sets: ExampleSets,
    num_requests: int = 200,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """How long each of some requests took for `NUM_ASKED` candidates whose features are there, after a few to warm up.

    Args:     models: one, or an ensemble, asked one after the other. sets: candidates are taken from them, in turn.
              clock: seconds; of the processor alone where other work shares it.
    """
    nothing, nobody = State({"nothing": torch.zeros(1, 0)}), torch.zeros(1, dtype=torch.int64)
    ids = torch.zeros(1, NUM_ASKED, dtype=torch.int64)
    reads = sorted({name for model in models for name in model.reads})
    took = []
    with torch.inference_mode():
        for number in range(num_requests + 20):
            place = (number * NUM_ASKED + np.arange(NUM_ASKED)) % len(sets.label)
            features = {
                name: Column(
                    torch.from_numpy(sets.features[name].values[place])[None],
                    torch.from_numpy(sets.features[name].observed[place])[None],
                )
                for name in reads
            }
            candidates = Candidates(ids, ids, ids == 0, features)
            started = clock()
            for model in models:
                model.predict(nothing, Request(nobody, nobody), candidates)
            took.append(clock() - started)
    return took[20:]


def cost_of(model: AnyRanker) -> dict[str, float]:
    """Parameters, and bytes of its files."""
    return {"parameters": parameters_of(model), "size_bytes": size_of(model)}


def percentiles_ms(seconds: Sequence[float], name: str = "") -> dict[str, float]:
    """The median and the 99th percentile in milliseconds, as `p50_ms` and `p99_ms` with a name between."""
    return {f"p{percent}{name}_ms": 1000 * float(np.percentile(seconds, percent)) for percent in (50, 99)}
