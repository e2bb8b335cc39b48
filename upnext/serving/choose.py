"""Choose: candidates that somebody else found, in the order of the utility that is expected of them; the best k, or all
that are worth enough.

Batch-first: one request is a batch of one. Shape letters: B requests, C candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Request
from upnext.base.errors import BadRequest, NotFound
from upnext.base.ids import UNKNOWN, ExternalId
from upnext.serving.assortment import Assortment
from upnext.serving.chain import States, states_of
from upnext.serving.columns import Columns, columns_of
from upnext.serving.histories import Histories
from upnext.serving.intake import check_user, shown
from upnext.serving.pasts import Pasts
from upnext.serving.rank import by_utility
from upnext.serving.release import Release
from upnext.serving.retrieve import encode_readable, make_request

__all__ = ["Choice", "Chosen", "Known", "check_limits", "check_ranker", "choose", "dense_items"]


@dataclass(frozen=True)
class Choice:
    """Who asks, when, in which context, about which items, by dense id; and how many of them are wanted.

    `k` are the most that are wanted, `threshold` is the least that one has to be worth; None is no limit.
    """

    user_id: ExternalId
    time_ms: int
    items: Sequence[int]
    k: int | None = None
    threshold: float | None = None
    context: Mapping[str, str | float] | None = None


@dataclass(frozen=True)
class Chosen:
    """Items by dense id with what is expected of each, best first, ties by the lower id; no item twice."""

    items: list[int]
    scores: list[float]


def check_limits(k: int | None, threshold: float | None, names: tuple[str, str] = ("k", "threshold")) -> None:
    """Check how many candidates are wanted.

    Args:     names: what who asks calls the two.
    Raises:   BadRequest: none are, or the threshold is no number.
    """
    if k is not None and k < 1:
        raise BadRequest(f"{names[0]} is {k}; allowed is an integer from 1, or leave it out for no limit")
    if threshold is not None and not np.isfinite(threshold):
        raise BadRequest(f"{names[1]} is {threshold}; allowed is a finite number, or leave it out for all candidates")


def dense_items(assortment: Assortment, item_ids: Sequence[ExternalId]) -> list[int]:
    """The dense ids of candidates; integers may come as text.

    Raises:   NotFound: there is no such item. BadRequest: one is no id.
    """
    vocabulary, found = assortment.release.catalogue.vocabulary, []
    for number, item_id in enumerate(item_ids):
        check_user(item_id, f"candidates[{number}]")
        found.append(assortment.dense(vocabulary.parse(item_id) if isinstance(item_id, str) else item_id))
        if found[-1] == UNKNOWN:
            raise NotFound(f"candidates[{number}] is {shown(item_id)}, and there is no such item; name known items")
    return found


def check_ranker(release: Release) -> None:
    """Check that a release orders by what it expects.

    Raises:   BadRequest: it does not.
    """
    if release.ranker is None:
        raise BadRequest("this release orders nothing: it has no ranker; set publish.ranker, and publish again")


@dataclass(frozen=True)
class Known:
    """What is known when B requests are answered: states of their pasts, and what candidates are told."""

    states: States
    request: Request
    columns: Columns | None

    @classmethod
    def of(cls, release: Release, histories: Histories, choices: Sequence[Choice]) -> "Known":
        """Read what everybody did, and encode it for all that have a say in the order."""
        times = np.array([one.time_ms for one in choices], np.int64)
        everything = Pasts.join([events for events, _ in histories.read([one.user_id for one in choices])])
        known = everything.before(times).below(len(release.catalogue))
        users = np.array([release.users.dense(one.user_id) for one in choices], np.int64)
        request = make_request(release, times, users, [one.context or {} for one in choices])
        encoder = partial(encode_readable, pasts=known, time_ms=times, least_ms=release.settings.lag)
        columns = columns_of(histories, histories.assortment, everything, request)
        return cls(states_of(release, encoder), request, columns)


def choose(release: Release, histories: Histories, choices: Sequence[Choice]) -> list[Chosen]:
    """Order candidates by expected utility, and keep what is wanted of them.

    Raises:   BadRequest: the release has no ranker, or of one no candidate is wanted.
    """
    check_ranker(release)
    for one in choices:
        check_limits(one.k, one.threshold)
    different = [list(dict.fromkeys(one.items)) for one in choices]
    counts = np.array([len(items) for items in different])
    items = np.full((len(choices), max(1, int(counts.max(initial=0)))), -1, np.int64)
    for row, some in zip(items, different, strict=True):
        row[: len(some)] = some
    contexts = [one.context or {} for one in choices]
    with torch.inference_mode():
        known = Known.of(release, histories, choices)
        asked = [(items, np.zeros(items.shape, np.float32))]
        told = known.states, known.request, contexts, asked, counts, known.columns
        ((best, utility),) = by_utility(release, histories.assortment, *told)
    return [_wanted(*pair) for pair in zip(choices, best, utility, counts, strict=True)]


def _wanted(one: Choice, items: NDArray[np.int64], utility: NDArray[np.float32], count: int) -> Chosen:
    """Of a request's candidates, best first, those that are wanted."""
    if one.threshold is not None:
        count = min(count, int((utility >= one.threshold).sum()))
    if one.k is not None:
        count = min(count, one.k)
    return Chosen(items[:count].tolist(), utility[:count].tolist())
