"""The titles of the simulated service: what a person sees of them, and the hidden vectors behind them.

Shape letters: V titles, D taste dimensions, G genres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.simulation.settings import DAY_MS, SimulationConfig
from upnext.simulation.words import studio_names, titles

__all__ = ["COLLECTIONS", "GENRE_NAMES", "WIDTH", "Catalogue", "make_catalogue"]

WIDTH = 16
"""D, the dimensions of the taste space."""

GENRE_NAMES = (
    "Drama", "Comedy", "Thriller", "Crime", "Romance", "Adventure",
    "Science Fiction", "Fantasy", "History", "Nature", "Family", "Music",
)  # fmt: skip
COLLECTIONS = ("Films", "Series", "Documentaries", "Kids", "Music")

_GENRE_COLLECTION = {"History": "Documentaries", "Nature": "Documentaries", "Family": "Kids", "Music": "Music"}
_GENRE_SHARES = np.array([11, 11, 9, 9, 7, 8, 7, 6, 6, 6, 8, 12], dtype=np.float64) / 100
_SECONDS = {"Films": 6300, "Series": 2700, "Documentaries": 4200, "Kids": 1500, "Music": 3300}
_SATIATION = {"Films": 8.0, "Series": 8.0, "Documentaries": 8.0, "Kids": 4.0, "Music": 2.5}


@dataclass(frozen=True)
class Catalogue:
    """V titles as arrays; the last four are hidden from any recommender."""

    item_ids: list[str]
    titles: list[str]
    genre_lists: list[list[str]]
    collections: list[str]
    creators: list[str]
    release_ms: NDArray[np.int64]
    duration_s: NDArray[np.int64]
    genre: NDArray[np.int64]
    """(V,) the main genre, 0 to G-1."""
    creator: NDArray[np.int64]
    """(V,) the creator's number."""
    vectors: NDArray[np.float32]
    """(V, D) unit vectors: genre + creator + series + noise."""
    genre_vectors: NDArray[np.float32]
    creator_vectors: NDArray[np.float32]
    next_part: NDArray[np.int64]
    """(V,) the title that follows in its series; V where there is none."""
    part: NDArray[np.int64]
    """(V,) 1 for a stand-alone title or a first part."""
    kindred: NDArray[np.int64]
    """(V,) the title, a first part of the same genre, that this one brings to mind much later."""
    satiation: NDArray[np.float32]
    """(V,) by how much having watched it lowers its utility."""


@dataclass(frozen=True)
class _Groups:
    """A stand-alone title or a whole series is a group; one row per title says where it belongs."""

    group: NDArray[np.int64]
    part: NDArray[np.int64]
    genre: NDArray[np.int64]
    collection: list[str]


def make_catalogue(config: SimulationConfig, rng: np.random.Generator) -> Catalogue:
    """Invent the titles.

    Returns:  V = `num_items` titles; the parts of a series are neighbours in the table, in order.
    """
    V = config.num_items
    groups = _draw_groups(V, rng)
    creator, creator_genre = _draw_creators(groups, rng)
    genre_lists, extra_genres = _draw_genres(groups, rng)
    genre_vectors = _unit(np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0][: len(GENRE_NAMES)])
    creator_vectors = _unit(rng.standard_normal((len(creator_genre), WIDTH)))
    group_noise = _unit(rng.standard_normal((int(groups.group.max()) + 1, WIDTH)))
    vectors = (
        genre_vectors[groups.genre]
        + 0.3 * extra_genres @ genre_vectors
        + 0.9 * creator_vectors[creator]
        + 0.35 * group_noise[groups.group]
        + 0.1 * _unit(rng.standard_normal((V, WIDTH)))
    )
    names = _names(groups, rng)
    studio = studio_names(rng)
    studios = [next(studio) for _ in creator_genre]
    seconds = np.array([_SECONDS[name] for name in groups.collection])
    return Catalogue(
        item_ids=[f"t{number:06d}" for number in range(V)],
        titles=names,
        genre_lists=genre_lists,
        collections=groups.collection,
        creators=[studios[number] for number in creator],
        release_ms=_release_times(config, groups, rng),
        duration_s=(seconds * np.exp(rng.normal(0, 0.2, V))).astype(np.int64),
        genre=groups.genre,
        creator=creator,
        vectors=_unit(vectors),
        genre_vectors=genre_vectors,
        creator_vectors=creator_vectors,
        next_part=_next_parts(groups),
        part=groups.part,
        kindred=_kindred(groups, rng),
        satiation=np.array([_SATIATION[name] for name in groups.collection], dtype=np.float32),
    )


def _unit(x: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), dtype=np.float32)


def _draw_groups(V: int, rng: np.random.Generator) -> _Groups:
    group: list[int] = []
    part: list[int] = []
    genre: list[int] = []
    collection: list[str] = []
    number = 0
    while len(group) < V:
        main = int(rng.choice(len(GENRE_NAMES), p=_GENRE_SHARES))
        is_show = rng.random() < 0.35
        parts = int(rng.integers(3, 9)) if is_show else int(rng.choice([1, 2, 3, 4], p=[0.76, 0.1, 0.09, 0.05]))
        where = _GENRE_COLLECTION.get(GENRE_NAMES[main], "Series" if is_show else "Films")
        parts = 1 if where == "Music" else min(parts, V - len(group))
        group += [number] * parts
        part += list(range(1, parts + 1))
        genre += [main] * parts
        collection += [where] * parts
        number += 1
    return _Groups(np.array(group), np.array(part), np.array(genre), collection)


def _draw_creators(groups: _Groups, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give each group a creator of its genre; a few creators own much, most own little."""
    num_groups = int(groups.group.max()) + 1
    genre_of_group = np.zeros(num_groups, dtype=np.int64)
    genre_of_group[groups.group] = groups.genre
    creator_of_group = np.zeros(num_groups, dtype=np.int64)
    creator_genre: list[int] = []
    for genre in range(len(GENRE_NAMES)):
        members = np.flatnonzero(genre_of_group == genre)
        count = max(1, len(members) // 4)
        share = 1 / np.arange(2, count + 2)
        creator_of_group[members] = len(creator_genre) + rng.choice(count, len(members), p=share / share.sum())
        creator_genre += [genre] * count
    return creator_of_group[groups.group], np.array(creator_genre)


def _draw_genres(groups: _Groups, rng: np.random.Generator) -> tuple[list[list[str]], NDArray[np.float64]]:
    """Give each group up to two further genres: their names, and (V, G) ones for the vectors."""
    num_groups = int(groups.group.max()) + 1
    extra = np.zeros((num_groups, len(GENRE_NAMES)))
    for row, count in zip(extra, rng.choice(3, num_groups, p=[0.45, 0.4, 0.15]), strict=True):
        row[rng.choice(len(GENRE_NAMES), count, replace=False)] = 1
    extra = extra[groups.group]
    extra[np.arange(len(extra)), groups.genre] = 0
    names = [
        [GENRE_NAMES[main], *(GENRE_NAMES[k] for k in np.flatnonzero(row))]
        for main, row in zip(groups.genre, extra, strict=True)
    ]
    return names, extra


def _names(groups: _Groups, rng: np.random.Generator) -> list[str]:
    names = titles(rng)
    title_of_group = [next(names) for _ in range(int(groups.group.max()) + 1)]
    return [
        title_of_group[group] if part == 1 else f"{title_of_group[group]} {part}"
        for group, part in zip(groups.group, groups.part, strict=True)
    ]


def _release_times(config: SimulationConfig, groups: _Groups, rng: np.random.Generator) -> NDArray[np.int64]:
    """Release parts in order, at midnight; a group's last part falls in the period or before it."""
    num_groups = int(groups.group.max()) + 1
    weekly = rng.random(num_groups) < 0.5  # parts of a group come a week apart, or months apart
    days_apart = np.where(weekly, 7, rng.integers(60, 300, num_groups))
    last_part = np.zeros(num_groups, dtype=np.int64)
    np.maximum.at(last_part, groups.group, groups.part)
    last_day = -np.ceil(1500 * rng.random(num_groups) ** 2).astype(np.int64)
    candidate = rng.integers(1, config.days, num_groups)
    num_new = 1 + np.minimum(last_part - 1, (candidate - 1) // days_apart)  # its parts inside the period
    order = rng.permutation(num_groups)
    chosen = order[np.cumsum(num_new[order]) <= config.new_item_share * len(groups.group)]
    last_day[chosen] = candidate[chosen]
    day = last_day[groups.group] - (last_part[groups.group] - groups.part) * days_apart[groups.group]
    return np.asarray(config.start_ms + day * DAY_MS, dtype=np.int64)


def _next_parts(groups: _Groups) -> NDArray[np.int64]:
    V = len(groups.group)
    following = np.full(V, V, dtype=np.int64)
    same = np.flatnonzero(groups.group[:-1] == groups.group[1:])
    following[same] = same + 1
    return following


def _kindred(groups: _Groups, rng: np.random.Generator) -> NDArray[np.int64]:
    """Link each title to the first part of another group of its genre (to itself if there is no other)."""
    kindred = np.arange(len(groups.group))
    for genre in range(len(GENRE_NAMES)):
        members = np.flatnonzero(groups.genre == genre)
        firsts = rng.permutation(members[groups.part[members] == 1])
        if len(firsts) < 2:
            continue
        choice = np.arange(len(members)) % len(firsts)
        clash = groups.group[firsts[choice]] == groups.group[members]
        kindred[members] = firsts[np.where(clash, (choice + 1) % len(firsts), choice)]
    return kindred
