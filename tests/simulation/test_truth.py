"""The truth against slow loops written from the formulas, and the laws that are sampled."""

import math

import numpy as np
import pytest

from upnext.simulation.policy import expected_examination, policy_probabilities, sample_lists, sample_softmax
from upnext.simulation.response import click_rate, examination, log_watch_rate, play_shape, respond
from upnext.simulation.settings import DAY_MS, HOUR_MS
from upnext.simulation.truth import MEMORY, World, remember, sequence_effect, taste, utility
from upnext.simulation.world import Simulation


def slow_sequence_effect(world: World, memory: list[int]) -> list[float]:
    """The formulas of world.py, one title and one lag at a time."""
    V = world.num_items
    lags = [(l, x) for l, x in enumerate(reversed(memory), start=1) if x < V]  # noqa: E741
    effect = []
    for i in range(V):
        total = 0.0
        for lag, x in lags:
            if world.next_part[x] == i:
                total += 2 * world.config.series_strength * (0.4 + 0.6 * math.exp(-(lag - 1) / 8))
            if lag <= 10 and world.creator[x] == world.creator[i]:
                total += math.exp(-(lag - 1) / 4)
            if 20 <= lag <= 60 and world.kindred[x] == i:
                total += world.config.long_range_strength
        tired = sum(lag <= 8 and world.genre[x] == world.genre[i] for lag, x in lags)
        total -= 0.5 * max(0, tired - 4)
        effect.append(-float(world.satiation[i]) if i in memory else total)
    return effect


def random_memory(world: World, rng: np.random.Generator) -> np.ndarray:
    """Memories that are empty, short, full, of one genre only, and with repeats."""
    V = world.num_items
    memory = np.full((5, MEMORY), V, dtype=np.int64)
    memory[1, -3:] = rng.integers(V, size=3)
    memory[2] = rng.integers(V, size=MEMORY)
    memory[3, -8:] = rng.choice(np.flatnonzero(world.genre == world.genre[0]), 8)
    memory[4, -30:] = rng.integers(4, size=30)
    return memory


def test_sequence_effect_equals_its_formulas(service: Simulation) -> None:
    memory = random_memory(service.world, np.random.default_rng(0))
    slow = [slow_sequence_effect(service.world, row) for row in memory.tolist()]
    np.testing.assert_allclose(sequence_effect(service.world, memory), slow, atol=1e-5)


def test_taste_and_utility_equal_their_formulas(service: Simulation) -> None:
    world, config = service.world, service.config
    rng = np.random.default_rng(1)
    memory = random_memory(world, rng)
    users, device = np.array([0, 1, 2, 3, 4]), np.array([0, 1, 2, 3, 0])
    time_ms = config.start_ms + rng.integers(0, config.days * DAY_MS, 5)
    effect = sequence_effect(world, memory)
    value = utility(world, users, effect, time_ms, device)
    for b in range(5):
        since = int(time_ms[b]) - config.start_ms
        hour, day = since % DAY_MS / HOUR_MS, since // DAY_MS
        gate = [
            math.exp(
                2.5 * math.cos(2 * math.pi * (hour - world.peaks[users[b], k]) / 24)
                + world.device_weights[users[b], k, device[b]]
            )
            for k in range(3)
        ]
        p = sum(g / sum(gate) * world.tastes[users[b], k] for k, g in enumerate(gate)) + world.walk[users[b], day]
        np.testing.assert_allclose(taste(world, users, time_ms, device)[b], p, atol=1e-5)
        appeal = world.appeal[since // (6 * HOUR_MS)]
        expected = config.taste_strength * world.vectors @ p + appeal + effect[b]
        np.testing.assert_allclose(value[b], expected, atol=1e-4)  # sums of terms near 20 in float32


def test_taste_depends_on_the_hour_and_the_device(service: Simulation) -> None:
    world = service.world
    users = np.arange(50)
    noon = np.full(50, world.config.start_ms + 12 * HOUR_MS)
    night = noon + 10 * HOUR_MS  # the same day, so that no drift comes in
    tv, phone = np.zeros(50, dtype=np.int64), np.ones(50, dtype=np.int64)

    def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))

    at_noon = taste(world, users, noon, tv)
    by_hour = cosine(at_noon, taste(world, users, night, tv))
    by_minute = cosine(at_noon, taste(world, users, noon + 60_000, tv))
    by_device = cosine(at_noon, taste(world, users, noon, phone))
    assert np.mean(by_hour) < 0.6
    assert np.min(by_minute) > 0.999
    assert np.mean(by_hour) < np.mean(by_device) < 0.99


def test_remember_keeps_the_newest_last() -> None:
    memory = np.full((3, MEMORY), 11, dtype=np.int64)
    remember(memory, np.array([0, 2]), np.array([5, 6]))
    remember(memory, np.array([2]), np.array([7]))
    assert memory[0, -2:].tolist() == [11, 5]
    assert memory[1, -2:].tolist() == [11, 11]
    assert memory[2, -3:].tolist() == [11, 6, 7]


def test_softmax_is_sampled_in_its_proportions() -> None:
    rng = np.random.default_rng(0)
    value = np.full(130, -np.inf, dtype=np.float32)
    value[[0, 63, 64, 129]] = np.log([0.1, 0.2, 0.3, 0.4])
    drawn = np.bincount(sample_softmax(np.tile(value, (20_000, 1)), rng), minlength=130) / 20_000
    np.testing.assert_allclose(drawn[[0, 63, 64, 129]], [0.1, 0.2, 0.3, 0.4], atol=0.015)  # 4 standard errors
    assert drawn.sum() == pytest.approx(1)


def test_lists_follow_plackett_luce() -> None:
    rng = np.random.default_rng(0)
    odds = np.array([0.5, 0.3, 0.2, 0.0], dtype=np.float32)
    lists = sample_lists(np.tile(odds, (40_000, 1)), 2, rng)
    counts = np.zeros((4, 4))
    np.add.at(counts, (lists[:, 0], lists[:, 1]), 1 / 40_000)
    expected = odds[:, None] * odds / (1 - odds[:, None]) * (1 - np.eye(4))
    np.testing.assert_allclose(counts, expected, atol=0.012)


def test_expected_examination_is_close_to_what_is_sampled() -> None:
    rng = np.random.default_rng(0)
    odds = rng.exponential(size=(1, 60)).astype(np.float32) ** 2
    odds /= odds.sum()
    lists = sample_lists(np.repeat(odds, 40_000, axis=0), 10, rng)
    seen = np.zeros(60)
    np.add.at(seen, lists, examination(10) / 40_000)
    estimate = expected_examination(odds, 10)[0]
    np.testing.assert_allclose(estimate, seen, atol=0.015)  # mean field: good to about 1 %
    assert estimate.sum() == pytest.approx(examination(10).sum(), rel=0.01)


def test_the_policy_shows_only_what_is_released(service: Simulation) -> None:
    world = service.world
    users = np.arange(4)
    nothing_watched = np.zeros((4, world.num_items), dtype=np.float32)
    odds = policy_probabilities(
        world, users, nothing_watched, np.full(4, world.config.start_ms), np.array([1, 1, 2, 2])
    )
    np.testing.assert_allclose(odds.sum(axis=1), 1, atol=1e-5)
    hidden = np.isinf(world.appeal[0])
    assert hidden.any()
    assert (odds[:, hidden] == 0).all()
    assert (odds[:, ~hidden] > 0).all()
    assert not np.allclose(odds[0], odds[1])  # home is personal
    np.testing.assert_allclose(odds[2], odds[3], atol=1e-6)  # browse, for newcomers, is not


def test_responses_follow_their_laws() -> None:
    rng = np.random.default_rng(0)
    value = np.full(40_000, 6.0, dtype=np.float32)
    clicked = rng.random(40_000) < 0.5
    played, like, dislike = respond(value, clicked, rng)
    a = float(play_shape(value)[0])
    assert a == pytest.approx(math.exp(0.8 + 0.3 * (6 - 7)), rel=1e-5)
    assert played[clicked].mean() == pytest.approx(a / (a + 1), abs=0.01)
    watched = played >= 0.5
    assert watched[clicked].mean() == pytest.approx(float(np.exp(log_watch_rate(value)[0])), abs=0.015)
    assert like[watched].mean() == pytest.approx(1 / (1 + math.exp(2.5 + 0.6)), abs=0.01)
    assert dislike[clicked & ~watched].mean() == pytest.approx(1 / (1 + math.exp(2.5 - 0.4)), abs=0.02)
    assert not played[~clicked].any()
    assert click_rate(np.array([4.0, -np.inf], dtype=np.float32)).tolist() == [0.5, 0.0]
