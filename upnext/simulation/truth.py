"""The known truth: what each title is worth to each user at each moment. Simulation and oracle both read it here.

Shape letters: B requests, U users, V titles, K tastes, D taste dimensions, G genres, M remembered watches,
S time slots. `world.py` gives the formulas.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.errors import BadArtifact
from upnext.simulation.catalogue import GENRE_NAMES, Catalogue
from upnext.simulation.people import People
from upnext.simulation.settings import DAY_MS, HOUR_MS, SimulationConfig

__all__ = ["MEMORY", "World", "affinity", "appeal_at", "make_world", "remember", "sequence_effect", "taste", "utility"]

MEMORY = 64
"""M: utility depends on a user's last 64 watches, and on nothing earlier."""

SLOT_MS = 6 * HOUR_MS
"""Popularity changes every six hours."""

_BLAS_ONE_THREAD = 1 << 18
"""OpenBLAS multiplies with one thread up to so many multiplications."""

_LAG = np.arange(MEMORY, 0, -1)  # the newest watch, lag 1, comes last
_SERIES_WEIGHT = (0.4 + 0.6 * np.exp(-(_LAG - 1) / 8)).astype(np.float32)
_LONG_RANGE = slice(int(np.flatnonzero(_LAG == 60)[0]), int(np.flatnonzero(_LAG == 20)[0]) + 1)
_CREATOR_WEIGHT = (1.0 * np.exp(-(_LAG[-10:] - 1) / 4)).astype(np.float32)
_FATIGUE_WINDOW = 8
_FATIGUE_FREE = 4  # titles of one genre among the last eight that tire nobody
_FATIGUE = 0.5
_HOUR_WEIGHT = 2.5


@dataclass(frozen=True)
class World:
    """Everything hidden, as arrays; the index V means "no title"."""

    config: SimulationConfig
    vectors: NDArray[np.float32]
    """(V, D)"""
    appeal: NDArray[np.float32]
    """(S, V) the part of utility that all users share, by slot; -inf before release."""
    genre: NDArray[np.int64]
    """(V,)"""
    creator: NDArray[np.int64]
    """(V + 1,) the last entry is a creator of nothing."""
    titles_of_creator: NDArray[np.int64]
    """(creators + 1, most titles of one) padded with V."""
    next_part: NDArray[np.int64]
    """(V + 1,)"""
    kindred: NDArray[np.int64]
    """(V + 1,)"""
    satiation: NDArray[np.float32]
    """(V + 1,)"""
    tastes: NDArray[np.float32]
    """(U, K, D)"""
    peaks: NDArray[np.float32]
    """(U, K)"""
    device_weights: NDArray[np.float32]
    """(U, K, devices)"""
    walk: NDArray[np.float32]
    """(U, days, D)"""
    guess: NDArray[np.float32]
    """(U, D) what the logging policy believes a user's taste to be, at any hour."""

    @property
    def num_items(self) -> int:
        """V."""
        return len(self.vectors)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array by name, for a file."""
        return {name: getattr(self, name) for name in _array_names()}

    @classmethod
    def from_arrays(cls, config: SimulationConfig, arrays: dict[str, NDArray[Any]]) -> "World":
        """Rebuild a world from `arrays()`.

        Raises:   BadArtifact: an array is missing.
        """
        if missing := sorted(set(_array_names()) - set(arrays)):
            raise BadArtifact(f"the truth lacks the arrays {', '.join(missing)}; simulate again")
        return cls(config=config, **{name: arrays[name] for name in _array_names()})


def _array_names() -> list[str]:
    return [field.name for field in fields(World) if field.name != "config"]


def make_world(config: SimulationConfig, catalogue: Catalogue, people: People, rng: np.random.Generator) -> World:
    """Join titles and users to one truth; draw appeal and the logging policy's imperfect guess."""
    V = config.num_items
    num_creators = int(catalogue.creator.max()) + 1
    owned = [np.flatnonzero(catalogue.creator == creator) for creator in range(num_creators)]
    titles_of_creator = np.full((num_creators + 1, max(map(len, owned))), V, dtype=np.int64)
    for row, items in zip(titles_of_creator, owned, strict=False):
        row[: len(items)] = items
    average = people.tastes.mean(axis=1)
    noise = rng.standard_normal(average.shape, dtype=np.float32)
    return World(
        config=config,
        vectors=catalogue.vectors,
        appeal=_appeal(config, catalogue, rng),
        genre=catalogue.genre,
        creator=np.r_[catalogue.creator, num_creators],
        titles_of_creator=titles_of_creator,
        next_part=np.r_[catalogue.next_part, V],
        kindred=np.r_[catalogue.kindred, V],
        satiation=np.r_[catalogue.satiation, np.float32(0)],
        tastes=people.tastes,
        peaks=people.peaks,
        device_weights=people.device_weights,
        walk=people.walk,
        guess=average + np.float32(0.12) * noise,
    )


def _appeal(config: SimulationConfig, catalogue: Catalogue, rng: np.random.Generator) -> NDArray[np.float32]:
    """Quality (long-tailed) + trend + freshness - the penalty of later parts; (S, V)."""
    V = config.num_items
    quality = rng.gumbel(size=V)
    period = rng.uniform(6, 18, V)
    phase = rng.uniform(0, 2 * np.pi, V)
    size = 0.5 * rng.exponential(size=V)
    slot_ms = config.start_ms + SLOT_MS * np.arange(config.days * DAY_MS // SLOT_MS)[:, None]
    age = (slot_ms - catalogue.release_ms) / DAY_MS
    trend = size * np.sin(2 * np.pi * (slot_ms - config.start_ms) / DAY_MS / period + phase)
    freshness = 2.0 * np.exp(-np.maximum(age, 0) / 4)
    later_part = np.where(catalogue.part > 1, config.series_strength, 0.0)
    appeal = quality + trend + freshness - later_part
    return np.where(age >= 0, appeal, -np.inf).astype(np.float32)


def taste(
    world: World, users: NDArray[np.int64], time_ms: NDArray[np.int64], device: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Mix each user's tastes by hour and device, and add the drift.

    Args:     users: (B,) rows; time_ms: (B,); device: (B,).
    Returns:  (B, D) float32.
    """
    since = time_ms - world.config.start_ms
    hour = (since % DAY_MS) / HOUR_MS
    day = np.clip(since // DAY_MS, 0, world.config.days - 1)
    angle = 2 * np.pi / 24 * (hour[:, None] - world.peaks[users])
    logits = _HOUR_WEIGHT * np.cos(angle) + world.device_weights[users, :, device]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mixed = np.einsum("bk,bkd->bd", weights, world.tastes[users])
    return np.asarray(mixed + world.walk[users, day], dtype=np.float32)


def affinity(world: World, directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply directions with every title's vector: (B, D) -> (B, V) float32.

    In stacks small enough for BLAS to stay on one thread: the sums are then the same for any number of threads, and
    on a busy machine the products are ten times faster.
    """
    B, D = directions.shape
    rows = max(1, _BLAS_ONE_THREAD // (D * world.num_items))
    padded = np.zeros((-(-B // rows) * rows, D), dtype=np.float32)
    padded[:B] = directions
    stacks = np.matmul(padded.reshape(-1, rows, D), world.vectors.T)
    return np.asarray(stacks.reshape(-1, world.num_items)[:B], dtype=np.float32)


def appeal_at(world: World, time_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """Look up what all users share: (B, V) float32, -inf before release."""
    slot = np.clip((time_ms - world.config.start_ms) // SLOT_MS, 0, len(world.appeal) - 1)
    return np.take(world.appeal, slot, axis=0)


def sequence_effect(world: World, memory: NDArray[np.int64]) -> NDArray[np.float32]:
    """Compute what a user's last watches add to each title's utility.

    Args:     memory: (B, M) the last M watched titles, newest last, padded in front with V.
    Returns:  (B, V) float32: series, creator, long-range memory and genre fatigue; for a title in the memory,
              its satiation instead.
    """
    B, V = len(memory), world.num_items
    effect = np.zeros((B, V + 1), dtype=np.float32)
    rows = (np.arange(B) * (V + 1))[:, None]

    def add(items: NDArray[np.int64], amount: NDArray[np.float32]) -> None:
        flat = rows.reshape(B, *[1] * (items.ndim - 1)) + items
        np.add.at(effect.reshape(-1), flat.reshape(-1), np.broadcast_to(amount, items.shape).reshape(-1))

    config = world.config
    add(world.next_part[memory], np.float32(2 * config.series_strength) * _SERIES_WEIGHT)
    add(world.kindred[memory[:, _LONG_RANGE]], np.array(config.long_range_strength, dtype=np.float32))
    recent = memory[:, -len(_CREATOR_WEIGHT) :]
    add(world.titles_of_creator[world.creator[recent]], _CREATOR_WEIGHT[:, None])
    last = memory[:, -_FATIGUE_WINDOW:]
    genre = np.r_[world.genre, len(GENRE_NAMES)][last]
    counts = (genre[:, :, None] == np.arange(len(GENRE_NAMES))).sum(axis=1)
    tired = (-_FATIGUE * np.maximum(counts - _FATIGUE_FREE, 0)).astype(np.float32)
    effect[:, :V] += np.take(tired, world.genre, axis=1)
    np.put_along_axis(effect, memory, -world.satiation[memory], axis=1)
    return effect[:, :V]


def utility(
    world: World,
    users: NDArray[np.int64],
    effect: NDArray[np.float32],
    time_ms: NDArray[np.int64],
    device: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Compute every title's true utility for each request.

    Args:     users: (B,) rows; effect: (B, V) from `sequence_effect`; time_ms: (B,); device: (B,).
    Returns:  (B, V) float32; -inf for titles not yet released.
    """
    total = affinity(world, np.float32(world.config.taste_strength) * taste(world, users, time_ms, device))
    total += appeal_at(world, time_ms)
    total += effect
    return np.asarray(total, dtype=np.float32)


def remember(memory: NDArray[np.int64], rows: NDArray[np.int64], items: NDArray[np.int64]) -> None:
    """Append one watched title to the memories of the given rows (each row once), in place."""
    memory[rows] = np.concatenate([memory[rows, 1:], items[:, None]], axis=1)
