r"""A synthetic streaming service with a known truth: a log like a real one, of which every probability is known.

Notation: user u, title i, time t, hour of day h, device d, slot s (six hours); x_l the title that u watched l
watches ago ("watched": played at least half), l = 1 ... M with M = 64. Strengths are fields of `SimulationConfig`.

**Titles.** v_i = unit(genre + 0.3 further genres + 0.9 creator + 0.35 series + 0.1 noise) in R^16. A series is
released part after part; a share of titles appears during the period, always at midnight.

**Tastes.** A user has K = 3 unit vectors, each pointing at a genre and one of its creators; age group and country
shift which genres. The taste at a moment is a mixture whose gate depends on the context, plus a random walk::

    p_u(t, d) = sum_k pi_uk(h, d) a_uk + walk_u(day)       walk: N(0, drift^2 I) each day
    pi_u(h, d) = softmax_k( 2.5 cos(2 pi (h - peak_uk) / 24) + c_ukd )     peaks about eight hours apart

**Utility.** ::

    U_ui(t) = taste_strength <v_i, p_u(t, d)>                                    taste
            + q_i + trend_i(s) + 2 exp(-age_i / 4 days) - series_strength [part_i > 1]   appeal (for all users)
            + sum_l 2 series_strength g(l) [next_part(x_l) = i]                  series: order matters
            + sum_{l <= 10} exp(-(l - 1) / 4) [creator(x_l) = creator(i)]        creator
            + sum_{20 <= l <= 60} long_range_strength [kindred(x_l) = i]         long-range memory
            - 0.5 max(0, #{l <= 8: genre(x_l) = genre(i)} - 4)                   genre fatigue

and -infinity before release. q is a Gumbel variable (a long tail of quality); a trend is a sinusoid of 6 to 18
days; g(l) = 0.4 + 0.6 exp(-(l - 1) / 8). For a title among the last M watches the last four lines are replaced by its
satiation (-8; -4 for Kids, -2.5 for Music, so that these are repeated).

**Organic plays** (surface `search`): P(i) = softmax_i(U), over all released titles. Always clicked.

**Recommended lists** (surfaces `home`, `browse`): a Plackett-Luce sample of L distinct titles, drawn by Gumbel top-k
from w = (1 - e) softmax(z) + e uniform(released), where at home (e = `exploration`)
z = 0.9 taste_strength <v_i, guess_u> + 0.7 appeal + 0.4 (sequence terms), guess_u = mean_k a_uk + N(0, 0.12^2 I): the
policy knows neither hour nor drift. In browse e = 0.3 and z = 0.7 appeal + 0.15 (sequence terms).

**Responses**: the examination model (position-based click model). Place p = 0 ... L-1 is examined with theta_p =
(p+1)^-0.6; P(click | examined) = sigmoid(U - 4); played | click ~ Beta(a, 1), a = exp(clip(0.8 + 0.3 (U - 7), -1,
2.5)), so P(played >= x) = 1 - x^a; P(like | watched) = sigmoid(0.6 (U - 7) - 2.5) and P(dislike | clicked, not
watched) = sigmoid(-0.4 (U - 7) - 2.5), with U - 7 clipped to [-6, 6]. What was not clicked has played = 0.

**Visits.** Activity is log-normal; sessions open near the user's peaks and hold a geometric number of requests. Rows
of a request share one millisecond, and two requests of a user never share one. State changes between requests only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, POSITION, REQUEST_ID, TIME_MS, TITLE, USER_ID
from upnext.simulation.catalogue import Catalogue, make_catalogue
from upnext.simulation.people import DEVICES, SURFACES, People, Requests, make_people, make_requests
from upnext.simulation.policy import policy_probabilities, sample_lists, sample_softmax
from upnext.simulation.response import click_rate, examination, respond
from upnext.simulation.settings import DAY_MS, HOUR_MS, SimulationConfig
from upnext.simulation.truth import MEMORY, World, make_world, remember, sequence_effect, utility

__all__ = ["Simulation", "SimulationConfig", "Watches", "simulate"]

_BLOCK = 512
"""Requests computed together: a block of utilities stays near the processor's cache."""


@dataclass(frozen=True)
class Watches:
    """Every play of at least half, in order of (user, time, place): what utility remembers."""

    user: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    item: NDArray[np.int64]


@dataclass(frozen=True)
class Simulation:
    """What a simulation made: the log and the tables a recommender may read, and the truth it may not."""

    config: SimulationConfig
    events: pl.DataFrame
    """One row per organic play and per title shown, in order of (time, user, position)."""
    items: pl.DataFrame
    users: pl.DataFrame
    world: World
    watches: Watches


@dataclass(frozen=True)
class _Rows:
    """Rows of the log as columns of numbers; `request` is the row in `Requests`."""

    request: NDArray[np.int64]
    position: NDArray[np.int64]
    item: NDArray[np.int64]
    click: NDArray[np.bool_]
    played: NDArray[np.float32]
    like: NDArray[np.bool_]
    dislike: NDArray[np.bool_]


def simulate(config: SimulationConfig) -> Simulation:
    """Run the service for its whole period.

    Returns:  A log of about `num_events` rows, its side tables and its truth; equal configurations give equal bytes
              on one machine.
    """
    catalogue_rng, people_rng, visit_rng, world_rng, play_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(5)
    )
    catalogue = make_catalogue(config, catalogue_rng)
    people = make_people(config, catalogue, people_rng)
    world = make_world(config, catalogue, people, world_rng)
    requests = make_requests(config, people, visit_rng)
    rows = _play(world, requests, play_rng)
    return Simulation(
        config=config,
        events=_event_table(catalogue, people, requests, rows),
        items=_item_table(catalogue),
        users=_user_table(people),
        world=world,
        watches=_watches(requests, rows),
    )


def _play(world: World, requests: Requests, rng: np.random.Generator) -> _Rows:
    """Play round after round: round n holds every user's n-th request, so that no user meets itself."""
    memory = np.full((world.config.num_users, MEMORY), world.num_items, dtype=np.int64)
    parts: list[_Rows] = []
    for block in _blocks(requests):
        is_list = requests.surface[block] > 0
        for chosen, play in ((block[~is_list], _play_organic), (block[is_list], _play_list)):
            if len(chosen) > 0:
                rows = play(world, requests, chosen, memory, rng)
                parts.append(rows)
                _remember_rows(memory, requests, rows)
    columns: dict[str, NDArray[Any]] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(_Rows)
    }
    return _Rows(**columns)


def _blocks(requests: Requests) -> Iterator[NDArray[np.int64]]:
    order = np.argsort(requests.number, kind="stable")
    bounds = np.cumsum(np.bincount(requests.number))
    for begin, end in zip(np.r_[0, bounds[:-1]], bounds, strict=True):
        for first in range(begin, end, _BLOCK):
            yield order[first : min(first + _BLOCK, end)]


def _play_organic(
    world: World,
    requests: Requests,
    chosen: NDArray[np.int64],
    memory: NDArray[np.int64],
    rng: np.random.Generator,
) -> _Rows:
    users = requests.user[chosen]
    effect = sequence_effect(world, memory[users])
    value = utility(world, users, effect, requests.time_ms[chosen], requests.device[chosen])
    item = sample_softmax(value, rng)
    own = np.take_along_axis(value, item[:, None], axis=1)[:, 0]
    click = np.ones(len(chosen), dtype=bool)
    return _Rows(chosen, np.full(len(chosen), -1), item, click, *respond(own, click, rng))


def _play_list(
    world: World,
    requests: Requests,
    chosen: NDArray[np.int64],
    memory: NDArray[np.int64],
    rng: np.random.Generator,
) -> _Rows:
    users, time_ms = requests.user[chosen], requests.time_ms[chosen]
    L = world.config.list_length
    effect = sequence_effect(world, memory[users])
    odds = policy_probabilities(world, users, effect, time_ms, requests.surface[chosen])
    items = sample_lists(odds, L, rng)
    value = utility(world, users, effect, time_ms, requests.device[chosen])
    value = np.take_along_axis(value, items, axis=1)
    click = rng.random(items.shape, dtype=np.float32) < examination(L) * click_rate(value)
    played, like, dislike = respond(value, click, rng)
    return _Rows(
        request=np.repeat(chosen, L),
        position=np.tile(np.arange(L), len(chosen)),
        item=items.reshape(-1),
        click=click.reshape(-1),
        played=played.reshape(-1),
        like=like.reshape(-1),
        dislike=dislike.reshape(-1),
    )


def _remember_rows(memory: NDArray[np.int64], requests: Requests, rows: _Rows) -> None:
    """Append what was watched, place after place, so that each call meets a user once."""
    watched = rows.played >= 0.5
    for position in np.unique(rows.position):
        here = watched & (rows.position == position)
        remember(memory, requests.user[rows.request[here]], rows.item[here])


def _watches(requests: Requests, rows: _Rows) -> Watches:
    watched = np.flatnonzero(rows.played >= 0.5)
    user, time_ms = requests.user[rows.request[watched]], requests.time_ms[rows.request[watched]]
    order = np.lexsort((rows.position[watched], time_ms, user))
    return Watches(user[order], time_ms[order], rows.item[watched][order])


def _event_table(catalogue: Catalogue, people: People, requests: Requests, rows: _Rows) -> pl.DataFrame:
    user, time_ms = requests.user[rows.request], requests.time_ms[rows.request]
    order = np.lexsort((rows.position, user, time_ms))
    request, position = rows.request[order], rows.position[order]
    time_ms = time_ms[order]
    is_shown = position >= 0
    number = np.cumsum(position == 0) - 1
    width = len(str(max(int(number[-1]), 0)))

    def name(names: tuple[str, ...] | list[str], index: NDArray[np.int64]) -> pl.Series:
        return pl.Series(names, dtype=pl.String).gather(index)

    return pl.DataFrame(
        {
            USER_ID: name(people.user_ids, user[order]),
            ITEM_ID: name(catalogue.item_ids, rows.item[order]),
            TIME_MS: time_ms,
            REQUEST_ID: pl.select(
                pl.when(pl.lit(pl.Series(is_shown))).then(
                    pl.format("r{}", pl.lit(pl.Series(number)).cast(pl.String).str.zfill(width))
                )
            ).to_series(),
            POSITION: pl.select(pl.when(pl.lit(pl.Series(is_shown))).then(pl.lit(pl.Series(position)))).to_series(),
            "surface": name(SURFACES, requests.surface[request]),
            "device": name(DEVICES, requests.device[request]),
            "hour": time_ms % DAY_MS // HOUR_MS,
            "click": rows.click[order].astype(np.int8),
            "played": rows.played[order],
            "like": rows.like[order].astype(np.int8),
            "dislike": rows.dislike[order].astype(np.int8),
        }
    )


def _item_table(catalogue: Catalogue) -> pl.DataFrame:
    return pl.DataFrame(
        {
            ITEM_ID: catalogue.item_ids,
            TITLE: catalogue.titles,
            GENRES: catalogue.genre_lists,
            COLLECTION: catalogue.collections,
            "creator": catalogue.creators,
            "release_ms": catalogue.release_ms,
            "duration_s": catalogue.duration_s,
        }
    )


def _user_table(people: People) -> pl.DataFrame:
    return pl.DataFrame(
        {
            USER_ID: people.user_ids,
            "age_group": people.age_groups,
            "country": people.countries,
            "join_ms": people.join_ms,
        }
    )
