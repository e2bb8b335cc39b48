"""The count-min sketch: never below the truth, seldom far above it, and mergeable."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.configuration import parse_config
from upnext.base.errors import BadBatch, BadConfig
from upnext.sampling import frequency
from upnext.sampling.frequency import CountMinSketch, SketchConfig, count_items


def counted(values: np.ndarray, config: SketchConfig, parts: int = 3, seed: int = 0) -> CountMinSketch:
    sketch = CountMinSketch(config, seed)
    for part in np.array_split(values, parts):
        sketch.add(part)
    return sketch


streams = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 30), max_size=60)


@settings(deadline=None, max_examples=60)
@given(streams, streams, st.booleans())
def test_no_estimate_is_below_the_truth_merged_or_not(first, second, conservative):
    config = SketchConfig(width=8, depth=2, conservative=conservative)
    a, b = (np.array(values, np.int64) for values in (first, second))
    sketch = counted(a, config)
    sketch.merge(counted(b, config))
    values, truth = np.unique(np.concatenate([a, b]), return_counts=True)
    assert bool((sketch.estimate(values) >= truth).all())
    assert sketch.total == len(a) + len(b)


@pytest.mark.parametrize("conservative", [False, True])
def test_the_error_bound_holds(conservative):
    generator = np.random.default_rng(0)
    values = generator.zipf(1.2, 50_000) % 20_000
    config = SketchConfig(width=256, depth=3, conservative=conservative)
    bound = math.e / config.width * len(values)
    distinct, truth = np.unique(values, return_counts=True)
    too_far = [
        float((counted(values, config, seed=seed).estimate(distinct) - truth > bound).mean()) for seed in range(10)
    ]
    assert np.mean(too_far) <= math.exp(-config.depth)


def test_one_row_has_the_mean_error_of_the_theory():
    # Rows hash strongly universally, so a value shares its cell with 1/w of the others on average.
    values = np.arange(2000) * 2**33 + 7  # only the high halves differ
    errors = [
        counted(values, SketchConfig(width=64, depth=1, conservative=False), seed=seed).estimate(values).mean() - 1
        for seed in range(30)
    ]
    assert np.mean(errors) == pytest.approx(1999 / 64, rel=0.05)


def test_conservative_updates_come_closer():
    values = np.random.default_rng(1).zipf(1.3, 20_000) % 5_000
    distinct, truth = np.unique(values, return_counts=True)
    plain, closer = (
        counted(values, SketchConfig(width=256, depth=3, conservative=conservative)).estimate(distinct) - truth
        for conservative in (False, True)
    )
    assert bool((closer <= plain).all())
    assert closer.sum() < 0.8 * plain.sum()


def test_plain_sketches_merge_to_the_sketch_of_the_whole_stream():
    config = SketchConfig(width=16, depth=2, conservative=False)
    values = np.random.default_rng(2).integers(0, 100, 500)
    whole, part = counted(values, config), counted(values[:200], config)
    part.merge(counted(values[200:], config))
    assert np.array_equal(part.cells, whole.cells)


def test_sketches_of_another_size_or_seed_are_not_merged():
    sketch = CountMinSketch(SketchConfig(width=16))
    for other in (CountMinSketch(SketchConfig(width=32)), CountMinSketch(SketchConfig(width=16), seed=1)):
        with pytest.raises(BadBatch, match="one configuration and seed"):
            sketch.merge(other)


def test_items_are_counted_exactly_or_in_parts_by_a_sketch(monkeypatch):
    items = np.array([3, 1, 3, 3, 5])
    assert count_items(items, 7).tolist() == [0, 1, 0, 3, 0, 1, 0]
    monkeypatch.setattr(frequency, "_EVENTS_PER_PART", 2)
    estimate = count_items(items, 7, SketchConfig(width=2**16))
    assert estimate.tolist() == [0, 1, 0, 3, 0, 1, 0]  # wide enough for no collision
    assert count_items(items, 7, SketchConfig(width=2, depth=1)).min() >= 0


def test_a_width_that_is_no_power_of_two_is_refused():
    with pytest.raises(BadConfig, match="1000 is no power of two; 1024 is the next"):
        parse_config(SketchConfig, {"width": 1000}, "project.toml")
