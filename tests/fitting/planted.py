"""Example sets with a planted truth: a number that decides, one that says nothing, and a category."""

import numpy as np

from upnext.base.batches import FlatColumn
from upnext.base.example_sets import ExampleSets


def planted(num_sets: int = 60, size: int = 6, seed: int = 0) -> ExampleSets:
    """The logit of a label is 3 · signal, plus 1 for the category 5; a part in six validates, and as many test."""
    generator = np.random.default_rng(seed)
    count = num_sets * size
    signal, noise = generator.standard_normal((2, count)).astype(np.float32)
    kind = generator.integers(3, 6, count)
    logit = 3 * signal + (kind == 5)
    label = (generator.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    everywhere, number = np.ones(count, bool), np.arange(num_sets)
    hour = np.repeat(generator.integers(0, 24, num_sets), size).astype(np.float32)
    return ExampleSets(
        {
            "signal": FlatColumn(signal, everywhere),
            "noise": FlatColumn(noise, everywhere),
            "kind": FlatColumn(kind, everywhere),
            "hour": FlatColumn(hour, everywhere),
        },
        np.arange(0, count + 1, size),
        label,
        [str(one) for one in number],
        number // 2,
        np.where(number % 6 == 4, 1, np.where(number % 6 == 5, 2, 0)).astype(np.int8),
        np.full(count, -1),
        1000 * (number // 3),
        of_request=["hour"],
    )
