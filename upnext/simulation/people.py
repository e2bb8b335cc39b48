"""The people of the simulated service: who they are, what they like, and when they come.

Shape letters: U users, K tastes of a user, D taste dimensions, R requests.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.simulation.catalogue import GENRE_NAMES, WIDTH, Catalogue
from upnext.simulation.settings import DAY_MS, HOUR_MS, SimulationConfig

__all__ = ["AGE_GROUPS", "COUNTRIES", "DEVICES", "SURFACES", "People", "Requests", "make_people", "make_requests"]

AGE_GROUPS = ("under 18", "18-24", "25-34", "35-49", "50-64", "65 and over")
COUNTRIES = ("BR", "DE", "FR", "IN", "JP", "KE", "MX", "US")
DEVICES = ("tv", "phone", "tablet", "web")
SURFACES = ("search", "home", "browse")
"""`search` is organic: the person looks for a title; the others show a list."""

NUM_TASTES = 3
"""K."""


@dataclass(frozen=True)
class People:
    """U users as arrays; the last five are hidden from any recommender."""

    user_ids: list[str]
    age_groups: list[str]
    countries: list[str]
    join_ms: NDArray[np.int64]
    tastes: NDArray[np.float32]
    """(U, K, D) unit vectors."""
    peaks: NDArray[np.float32]
    """(U, K) the hour of day at which each taste is strongest."""
    device_weights: NDArray[np.float32]
    """(U, K, devices) what a device adds to a taste's weight, before the softmax."""
    walk: NDArray[np.float32]
    """(U, days, D) how far the tastes have drifted by each day."""
    activity: NDArray[np.float64]
    """(U,) expected share of the requests."""


@dataclass(frozen=True)
class Requests:
    """R requests in order of (user, time): a list to be shown, or an organic play."""

    user: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    device: NDArray[np.int64]
    surface: NDArray[np.int64]
    number: NDArray[np.int64]
    """(R,) 0 for the user's first request, then 1, 2 ..."""


def make_people(config: SimulationConfig, catalogue: Catalogue, rng: np.random.Generator) -> People:
    """Invent the users: tastes depend on age and country, so that a newcomer's are not wholly unknown."""
    U = config.num_users
    age = rng.choice(len(AGE_GROUPS), U, p=[0.1, 0.18, 0.25, 0.24, 0.15, 0.08])
    country = rng.choice(len(COUNTRIES), U, p=[0.15, 0.1, 0.1, 0.2, 0.1, 0.05, 0.1, 0.2])
    is_new = rng.random(U) < config.new_user_share
    join_ms = np.where(
        is_new,
        config.start_ms + rng.integers(0, max(1, int(0.9 * config.days * DAY_MS)), U),
        config.start_ms - rng.integers(1, 700 * DAY_MS, U),
    )
    present = (config.end_ms - np.maximum(join_ms, config.start_ms)) / (config.end_ms - config.start_ms)
    activity = np.minimum(np.exp(rng.normal(0, 0.8, U)), 8.0) * present
    steps = config.drift * rng.standard_normal((U, config.days, WIDTH), dtype=np.float32)
    steps[:, 0] = 0
    phase = rng.normal(20.5, 2.0, (U, 1)) + np.array([0.0, 8.0, 16.0]) + rng.normal(0, 1.0, (U, NUM_TASTES))
    width = max(5, len(str(U - 1)))
    return People(
        user_ids=[f"u{number:0{width}d}" for number in range(U)],
        age_groups=[AGE_GROUPS[k] for k in age],
        countries=[COUNTRIES[k] for k in country],
        join_ms=join_ms.astype(np.int64),
        tastes=_draw_tastes(catalogue, age, country, rng),
        peaks=(phase % 24).astype(np.float32),
        device_weights=rng.normal(0, 0.7, (U, NUM_TASTES, len(DEVICES))).astype(np.float32),
        walk=np.cumsum(steps, axis=1, dtype=np.float32),
        activity=activity / activity.sum(),
    )


def _draw_tastes(
    catalogue: Catalogue, age: NDArray[np.int64], country: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a genre, then a creator of that genre; a taste points between the two."""
    U = len(age)
    present = np.unique(catalogue.genre)
    leaning = rng.normal(0, 0.8, (len(AGE_GROUPS), len(GENRE_NAMES)))[age]
    leaning += rng.normal(0, 0.5, (len(COUNTRIES), len(GENRE_NAMES)))[country]
    genres = np.argsort(leaning[:, present] + rng.gumbel(size=(U, len(present))), axis=1)[:, ::-1]
    tastes = np.zeros((U, NUM_TASTES, WIDTH))
    for k in range(NUM_TASTES):
        genre = present[genres[:, k % len(present)]]
        favourite = np.zeros(U, dtype=np.int64)
        for g in present:
            here = np.flatnonzero(genre == g)
            favourite[here] = rng.choice(np.flatnonzero(catalogue.genre == g), len(here))
        tastes[:, k] = (
            0.8 * catalogue.genre_vectors[genre]
            + 0.8 * catalogue.creator_vectors[catalogue.creator[favourite]]
            + 0.07 * rng.standard_normal((U, WIDTH))
        )
    return np.asarray(tastes / np.linalg.norm(tastes, axis=-1, keepdims=True), dtype=np.float32)


def make_requests(config: SimulationConfig, people: People, rng: np.random.Generator) -> Requests:
    """Draw when each user comes, from where, and whether to search or to be shown a list."""
    num_organic = round(config.organic_share * config.num_events)
    num_lists = round((config.num_events - num_organic) / config.list_length)
    R = num_organic + num_lists
    counts = rng.multinomial(R, people.activity)
    user = np.repeat(np.arange(config.num_users), counts)
    first = np.r_[True, user[1:] != user[:-1]]
    session = np.cumsum(first | (rng.random(R) < 0.5)) - 1
    opens = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
    start, device_of_session = _draw_sessions(config, people, user[opens], rng)
    gap = np.exp(rng.normal(np.log(0.6 * HOUR_MS), 0.6, R)).astype(np.int64)
    gap[opens] = 0
    since_open = np.cumsum(gap)
    time_ms = start[session] + since_open - since_open[opens][session]
    over = np.maximum(time_ms - (config.end_ms - 60_000), 0)
    time_ms -= -(-over // DAY_MS) * DAY_MS
    time_ms = np.maximum(time_ms, np.maximum(people.join_ms[user], config.start_ms))
    device = device_of_session[session]
    order = np.lexsort((time_ms, user))
    number = np.arange(R) - np.repeat(np.cumsum(counts) - counts, counts)
    surface = np.where(rng.random(R) < 0.7, 1, 2)
    surface[rng.permutation(R)[:num_organic]] = 0
    return Requests(user, _spread(time_ms[order], user, number), device[order], surface, number)


def _draw_sessions(
    config: SimulationConfig, people: People, user: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start each session near one of its user's peak hours (or anywhere); television belongs to the evening."""
    S = len(user)
    opens = np.maximum(people.join_ms[user], config.start_ms)
    day = (opens + rng.random(S) * (config.end_ms - opens) - config.start_ms) // DAY_MS
    peak = people.peaks[user, rng.choice(NUM_TASTES, S, p=[0.5, 0.2, 0.3])]
    hour = np.where(rng.random(S) < 0.85, rng.normal(peak, 1.8), 24 * rng.random(S)) % 24
    start = (config.start_ms + day * DAY_MS + hour * HOUR_MS).astype(np.int64)
    habit = rng.normal(0, 1.2, (config.num_users, len(DEVICES)))[user]
    habit[:, 0] += np.where((hour >= 18) | (hour < 1), 1.5, -0.5)
    habit[:, 1] += np.where((hour >= 6) & (hour < 18), 1.0, 0.0)
    return start, np.argmax(habit + rng.gumbel(size=habit.shape), axis=1)


def _spread(time_ms: NDArray[np.int64], user: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move requests of one user that share a millisecond apart, later ones later."""
    origin = time_ms.min()
    block = user << 37  # over four years of milliseconds: the running maximum never crosses users
    apart = np.maximum.accumulate(time_ms - origin - number + block) - block + number + origin
    return np.asarray(apart, dtype=np.int64)
