"""Recommend: histories and requests -> pages of rows. The server, the command line and tests all call this.

1. read what each user did         2. encode it              3. decide what may be shown to whom
4. retrieve per row                5. arrange: rows in order, no item twice

Batch-first: one request is a batch of one. Shape letters: B queries, V catalogue, k answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Request, State
from upnext.base.ids import FIRST, PADDING, ExternalId
from upnext.base.views import ALL
from upnext.models.popularity import RecentlyPopular
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.pasts import Pasts
from upnext.serving.release import Release
from upnext.serving.retrieve import best_items, encode, hidden_items, make_request

__all__ = ["Page", "Query", "Row", "follow_stream", "recommend"]

FOR_YOU, POPULAR = "for-you", "popular"


@dataclass(frozen=True)
class Query:
    """Who asks, when, how many items a row is to have, and in which context."""

    user_id: ExternalId
    time_ms: int
    k: int = 20
    context: Mapping[str, str | float] | None = None


@dataclass(frozen=True)
class Row:
    """One row of a page: dense item ids with their scores, best first."""

    name: str
    title: str
    reason: str
    items: list[int]
    scores: list[float]


@dataclass(frozen=True)
class Page:
    """The answer to a query. `is_known` says whether the user has a history."""

    user_id: ExternalId
    is_known: bool
    rows: list[Row]


def recommend(release: Release, histories: Histories, queries: Sequence[Query]) -> list[Page]:
    """Answer queries.

    Returns:  a page per query: the user's own row, what is popular now, then a row per collection.
    """
    times = np.array([query.time_ms for query in queries], np.int64)
    pasts = Pasts.join([events for events, _ in histories.read([query.user_id for query in queries])]).before(times)
    users = np.array([release.users.dense(query.user_id) for query in queries], np.int64)
    request = make_request(release, times, users, [query.context or {} for query in queries])
    allowed = np.ones((len(queries), len(release.catalogue)), bool)
    allowed[:, :FIRST] = False
    allowed[hidden_items(release, pasts)] = False
    with torch.inference_mode():
        state = encode(release.retriever, pasts)
        names, masks = _row_masks(release)
        k = max(query.k for query in queries)
        # Rows are retrieved together and arranged in order: each asks for enough to lose what came before it.
        wanted = min(k * (len(names) + 1), len(release.catalogue))
        items, scores = _rows(release, state, request, wanted, allowed, masks)
        popular = _popular(release, pasts, request, 2 * k, allowed)
    counts = pasts.in_view(release.view).lengths
    return [
        _page(release, query, int(counts[number]), names, items[number], scores[number], popular[number])
        for number, query in enumerate(queries)
    ]


def follow_stream(release: Release, histories: Histories, posted: list[LiveEvent]) -> None:
    """Let the models that count what is popular now see what was posted."""
    for model in (release.retriever, release.popular):
        if posted and isinstance(model, RecentlyPopular):
            events = histories.as_events(posted)
            chosen = events if model.view == ALL else events.take(events.views[model.view])
            model.observe(chosen.item, chosen.time_ms)


def _row_masks(release: Release) -> tuple[list[str], NDArray[np.bool_]]:
    """The retriever's rows: everything, then each collection; (R, V) bool of what belongs to each."""
    scorable = release.can_retrieve()
    collections = release.catalogue.collections
    return [FOR_YOU, *collections], np.stack([scorable, *(mask & scorable for mask in collections.values())])


def _rows(
    release: Release, state: State, request: Request, k: int, allowed: NDArray[np.bool_], masks: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best k items per query and row: ids and scores (B, R, k)."""
    B, R = len(allowed), len(masks)
    per_row = (allowed[:, None] & masks).reshape(B * R, -1)
    repeated = torch.arange(B).repeat_interleave(R)
    items, scores = best_items(release, state.take(repeated), request.take(repeated), k, per_row)
    return items.reshape(B, R, k), scores.reshape(B, R, k)


def _popular(
    release: Release, pasts: Pasts, request: Request, k: int, allowed: NDArray[np.bool_]
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]] | list[None]:
    if release.popular is None:
        return [None] * len(pasts)
    state = encode(release.popular, pasts)
    items, scores = release.popular.top_k(state, request, k, torch.from_numpy(allowed))
    return list(zip(items.numpy(), scores.numpy(), strict=True))


def _page(
    release: Release,
    query: Query,
    count: int,
    names: Sequence[str],
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    popular: tuple[NDArray[np.int64], NDArray[np.float32]] | None,
) -> Page:
    retriever = release.settings.retriever
    chosen = f"Ranked by {retriever} from {count} event{'' if count == 1 else 's'}"
    reason = chosen if count else f"Nothing known yet: what {retriever} expects of a new visitor"
    shown: set[int] = set()
    rows = [_row(names[0], "For you", reason, items[0], scores[0], query.k, shown)]
    if popular is not None:
        lately = isinstance(release.popular, RecentlyPopular)
        title, why = ("Popular now", "Most chosen lately") if lately else ("Popular", "Most chosen of all")
        rows.append(_row(POPULAR, title, why, *popular, query.k, shown))
    for number, name in enumerate(names[1:], 1):
        rows.append(_row(name, name, "Ranked for you", items[number], scores[number], query.k, shown))
    return Page(query.user_id, count > 0, [row for row in rows if row.items])


def _row(
    name: str,
    title: str,
    reason: str,
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    k: int,
    shown: set[int],
) -> Row:
    fresh = [(int(i), float(s)) for i, s in zip(items, scores, strict=True) if i != PADDING and int(i) not in shown][:k]
    shown.update(item for item, _ in fresh)
    return Row(name, title, reason, [item for item, _ in fresh], [score for _, score in fresh])
