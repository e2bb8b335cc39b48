"""Example users: what was known of them, what a model put first, and what they chose. Drawn, not picked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.schema import context_column
from upnext.evaluation.cases import Cases
from upnext.evaluation.ranking import Histories, Ranking
from upnext.evaluation.segments import COLD

__all__ = ["NUM_SHOWN", "Example", "Names", "draw_examples"]

NUM_SHOWN = 5
"""How many events of a history, and how many recommendations, are shown."""
_LONGEST_TITLE = 80


@dataclass(frozen=True)
class Names:
    """What dense ids are called outside."""

    user: Callable[[int], str]
    item: Callable[[int], str]
    contexts: Mapping[str, Callable[[int], str]]


@dataclass(frozen=True)
class Example:
    """One case, with titles. `history` is oldest first; `chosen` has, per title, its rank by each model.

    Of many chosen items (`num_chosen`) it has those that the first model ranks best. `lists` holds each model's first
    items and whether each was chosen; a rank is None where the item was removed or could not be scored.
    """

    why: str
    user: str
    when: str
    context: dict[str, str]
    num_before: int
    history: list[str]
    num_chosen: int
    chosen: list[tuple[str, dict[str, float | None]]]
    lists: dict[str, list[tuple[str, bool]]]


def draw_examples(
    rankings: Mapping[str, Ranking],
    cases: Cases,
    histories: Histories,
    heavy: int,
    names: Names,
    seed: int = 0,
) -> list[Example]:
    """Draw cases at random with a fixed seed: the first of a random order that fits each description, users once.

    Args:     rankings: the models to show; descriptions of hits and misses mean the first of them. heavy: from how
              many events a history is heavy.
    """
    if not rankings or not len(cases):
        return []
    starts, ends = histories.ranges(cases)
    length = ends - starts
    model, ranking = next(iter(rankings.items()))
    is_listed = (ranking.top[cases.case, :NUM_SHOWN] == cases.target[:, None]).any(axis=1)
    is_hit = np.bincount(cases.case, weights=is_listed, minlength=len(cases)) > 0
    anyone = np.ones(len(cases), bool)
    wanted = [
        ("Drawn from all cases", anyone),
        ("Drawn from all cases", anyone),
        (f"Somebody cold: fewer than {COLD} events before", length < COLD),
        (f"A heavy user: {heavy:,} events or more before", length >= heavy),
        (f"A hit: {model} has what was chosen among its first {NUM_SHOWN}", is_hit),
        (f"A miss: {model} has nothing that was chosen among its first {NUM_SHOWN}", ~is_hit),
    ]
    order = np.random.default_rng(seed).permutation(len(cases))
    used: set[int] = set()
    examples = []
    for why, fits in wanted:
        free = (number for number in order if fits[number] and int(cases.user[number]) not in used)
        number = next(free, None)
        if number is not None:
            used.add(int(cases.user[number]))
            past = histories.events.item[starts[number] : ends[number]]
            examples.append(_example(why, int(number), past, rankings, cases, histories, names))
    return examples


def _example(
    why: str,
    number: int,
    past: NDArray[np.int64],
    rankings: Mapping[str, Ranking],
    cases: Cases,
    histories: Histories,
    names: Names,
) -> Example:
    log = histories.log
    targets = np.flatnonzero(cases.case == number)
    chosen = {int(item) for item in cases.target[targets]}
    first_model = next(iter(rankings.values()))
    targets = targets[np.argsort(first_model.ranks[targets], kind="stable")]

    def title(item: Any) -> str:
        name = names.item(int(item))
        return name if len(name) <= _LONGEST_TITLE else name[: _LONGEST_TITLE - 1] + "…"

    def rank(model: str, target: int) -> float | None:
        found = float(rankings[model].ranks[target])
        return found if np.isfinite(found) else None

    moment = datetime.fromtimestamp(int(cases.time_ms[number]) / 1000, UTC)
    row = cases.first_target[number]
    columns = {name: log.rows.columns[context_column(name)] for name in names.contexts}
    return Example(
        why=why,
        user=names.user(int(cases.user[number])),
        when=f"{moment:%Y-%m-%d %H:%M} UTC" if log.schema.has_times else "",
        context={n: names.contexts[n](int(c.values[row])) for n, c in columns.items() if c.observed[row]},
        num_before=len(past),
        history=[title(item) for item in past[-NUM_SHOWN:]],
        num_chosen=len(targets),
        chosen=[(title(cases.target[t]), {model: rank(model, t) for model in rankings}) for t in targets[:NUM_SHOWN]],
        lists={
            model: [(title(item), int(item) in chosen) for item in ranking.top[number, :NUM_SHOWN] if item >= 0]
            for model, ranking in rankings.items()
        },
    )
