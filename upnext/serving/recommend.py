"""Recommend: histories and requests -> pages of rows. The server, the command line and tests all call this.

1. read what each user did         2. decide what may be shown to whom
3. encode it, or read its state    4. retrieve per row       5. rank each row, where a release has a ranker
6. spread what is alike            7. arrange: rows in order, no item twice

Batch-first: one request is a batch of one. Shape letters: B queries, V catalogue, k answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Events, FlatColumn, Request
from upnext.base.ids import FIRST, UNKNOWN, ExternalId
from upnext.base.schema import LAST_ITEM
from upnext.models.build import AnyModel
from upnext.models.popularity import RecentlyPopular
from upnext.models.recent import RecentPrior
from upnext.models.stream import follow, stream_of
from upnext.serving.assortment import Assortment
from upnext.serving.chain import states_of
from upnext.serving.columns import columns_of
from upnext.serving.diversity import diversified
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.likeness import LATELY, like_chosen
from upnext.serving.pasts import Pasts
from upnext.serving.rank import Best, by_utility, num_candidates
from upnext.serving.release import Release
from upnext.serving.retrieve import best_of_each, encode, encode_readable, hidden_items, make_request
from upnext.serving.states import user_states

__all__ = ["Page", "Query", "Row", "follow_stream", "recommend", "row_for_anyone"]

FOR_YOU, POPULAR, NEW = "for-you", "popular", "new"


@dataclass(frozen=True)
class Query:
    """Who asks, when, how many items a row is to have, and in which context."""

    user_id: ExternalId
    time_ms: int
    k: int = 20
    context: Mapping[str, str | float] | None = None
    unfamiliar: bool = False
    """Show only items that the user never met, in any event."""


@dataclass(frozen=True)
class Row:
    """One row of a page: dense item ids with their scores, best first."""

    name: str
    title: str
    reason: str
    items: list[int]
    scores: list[float]
    because: Sequence[int] = ()
    """For each item the one most like it that the user chose lately, 0 for none; only the user's own row says it."""


@dataclass(frozen=True)
class Page:
    """The answer to a query. `is_known` says whether the user has a history."""

    user_id: ExternalId
    is_known: bool
    rows: list[Row]
    fallback_reason: str | None = None
    """Why this is not the user's own page, if it is not."""


def recommend(release: Release, histories: Histories, queries: Sequence[Query]) -> list[Page]:
    """Answer queries.

    Returns:  a page per query: the user's own row, what is popular now, what is new, then a row per collection.
    """
    times = np.array([query.time_ms for query in queries], np.int64)
    everything = Pasts.join([events for events, _ in histories.read([query.user_id for query in queries])])
    pasts = everything.before(times)
    assortment = histories.assortment  # after the histories: it holds every item that is in them
    users = np.array([release.users.dense(query.user_id) for query in queries], np.int64)
    contexts = [query.context or {} for query in queries]
    request = make_request(release, times, users, contexts)
    hidden = hidden_items(release, pasts, np.array([query.unfamiliar for query in queries]), contexts)
    hidden = _with_blocked(assortment, hidden, contexts)
    # Rows are retrieved together and arranged in order.
    counts = np.array([num_candidates(release.settings, query.k) for query in queries])
    wanted = int(counts.max())
    with torch.inference_mode():
        known = pasts.below(len(release.catalogue))
        state, until = user_states(release, histories, [query.user_id for query in queries], known, times)
        index = None if release.index is None else assortment.index
        _cover(release.retriever, assortment)
        names, parts = assortment.rows
        best = best_of_each(release.retriever, index, state, request, wanted, parts, hidden)
        if release.ranker is not None:
            lag = release.settings.lag
            encoder = partial(encode_readable, pasts=known, time_ms=times, least_ms=lag)
            states = states_of(release, encoder, state)
            columns = columns_of(histories, assortment, everything, request)
            best = by_utility(release, assortment, states, request, contexts, best, counts, columns)
        if share := release.settings.diversity:
            best = diversified(assortment, best, counts, share, 3 * max(query.k for query in queries))
        popular = _popular(release, assortment, known, request, wanted, hidden)
    chosen = pasts.in_view(release.view)
    num_read = chosen.lengths if until is times else pasts.before(until).in_view(release.view).lengths
    unseen = _unseen(assortment, hidden, len(queries), wanted)
    return [
        _page(
            release,
            assortment,
            query,
            _Found(n, chosen.lately(n, LATELY), int(num_read[n]), names, best, popular, unseen[n]),
        )
        for n, query in enumerate(queries)
    ]


def row_for_anyone(release: Release, histories: Histories, time_ms: int, k: int) -> Row:
    """What is popular; in a release without such a row, what the retriever expects of a new visitor."""
    times, assortment = np.array([time_ms]), histories.assortment
    nothing = Pasts.join([histories.as_events([])])
    request = make_request(release, times, np.array([UNKNOWN]), [{}])
    hidden = hidden_items(release, nothing, np.array(False), [{}])
    with torch.inference_mode():
        best = _popular(release, assortment, nothing, request, k, hidden)
        if best is None:
            _cover(release.retriever, assortment)
            state = encode(release.retriever, nothing)
            index = None if release.index is None else assortment.index
            _, parts = assortment.rows
            best = best_of_each(release.retriever, index, state, request, k, parts, hidden)[0]
    pairs = zip(best[0][0].tolist(), best[1][0].tolist(), strict=True)
    if release.popular is None:
        return _row(FOR_YOU, "For you", "What suits a new visitor", pairs, k, set())
    return _row(POPULAR, *_popular_title(release.popular), pairs, k, set())


def _with_blocked(
    assortment: Assortment,
    hidden: tuple[NDArray[np.int64], NDArray[np.int64]],
    contexts: Sequence[Mapping[str, str | float]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What may not be shown, with what is blocked on the surface of each query."""
    blocked = [assortment.blocked_in(context, len(assortment)) for context in contexts]
    if not any(map(len, blocked)):
        return hidden
    user = np.concatenate([hidden[0], np.repeat(np.arange(len(blocked)), list(map(len, blocked)))])
    order = np.argsort(user, kind="stable")
    return user[order], np.concatenate([hidden[1], *blocked])[order]


def _popular_title(model: AnyModel) -> tuple[str, str]:
    lately = isinstance(model, RecentlyPopular)
    return ("Popular now", "Most chosen lately") if lately else ("Popular", "Most chosen of all")


def follow_stream(
    release: Release, histories: Histories, posted: list[LiveEvent], replaced: Sequence[LiveEvent] = ()
) -> None:
    """Let models that count, of what is popular now and of what a ranker reads, see what was posted.

    Args:     replaced: events they have seen of which there is another version among the posted ones.
    """
    if not posted:
        return
    events, old = histories.as_events(posted), histories.as_events(list(replaced))
    if histories.counted is not None:
        histories.counted.observe(events, histories.assortment)
        histories.counted.retract(old, histories.assortment)
    models = [release.retriever, release.popular, *(scorer.model for scorer in release.scorers)]
    for model in {id(model): model for model in models}.values():
        stream = stream_of(model)
        if isinstance(stream, RecentPrior) and stream.config.follows:
            events = _with_last_items(histories, posted, events, stream.view)
        follow(model, events, old)


def _with_last_items(histories: Histories, posted: list[LiveEvent], events: Events, view: str) -> Events:
    """Posted events with what each one's user chose last before it, in a view."""
    users = {user: number for number, user in enumerate(dict.fromkeys(event.user_id for event in posted))}
    pasts = histories.read_many(list(users)).in_view(view)
    of = np.array([users[event.user_id] for event in posted])
    count = pasts.count_before(of, events.time_ms)
    last = np.zeros(len(events), np.int64)
    last[count > 0] = pasts.events.item[(pasts.offsets[of] + count - 1)[count > 0]]
    return replace(events, columns={**events.columns, LAST_ITEM: FlatColumn(last, count > 0)})


def _popular(
    release: Release,
    assortment: Assortment,
    pasts: Pasts,
    request: Request,
    k: int,
    hidden: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Best | None:
    model = release.popular
    if model is None:
        return None
    _cover(model, assortment)
    if assortment.popular is not None:
        return assortment.popular.best(request, k, hidden)
    (best,) = best_of_each(model, None, encode(model, pasts), request, k, assortment.catalogue, hidden)
    return best


def _cover(model: AnyModel, assortment: Assortment) -> None:
    """Tell a model that counts the stream of the items that came after it was made."""
    if (stream := stream_of(model)) is not None:
        stream.cover(len(assortment))


def _unseen(
    assortment: Assortment, hidden: tuple[NDArray[np.int64], NDArray[np.int64]], num_queries: int, k: int
) -> list[list[tuple[int, int]]]:
    """For each query the latest items that no model can score yet: dense ids, and when each was added."""
    if not assortment.unscored:
        return [[]] * num_queries
    pairs = set(zip(hidden[0].tolist(), hidden[1].tolist(), strict=True))
    return [
        list(islice((one for one in assortment.unscored if (number, one[0]) not in pairs), k))
        for number in range(num_queries)
    ]


@dataclass(frozen=True)
class _Found:
    """What was found for the query of a number: what the user chose lately, how much of all that was read, the
    retriever's rows with their names, what is popular, what is new."""

    number: int
    chosen: NDArray[np.int64]
    num_read: int
    names: list[str]
    best: list[Best]
    popular: Best | None
    unseen: list[tuple[int, int]]


def _page(release: Release, assortment: Assortment, query: Query, found: _Found) -> Page:
    retriever, ranker, count = release.settings.retriever, release.settings.ranker, found.num_read
    chosen = f"{'Chosen' if ranker else 'Ranked'} by {retriever} from {count} event{'' if count == 1 else 's'}"
    reason = chosen if count else f"Nothing known yet: what {retriever} expects of a new visitor"
    if ranker is not None:
        ordered = f"of the utility that {ranker} expects" if release.settings.order is None else f"that {ranker} gives"
        reason += f"; in the order {ordered}"
    if release.settings.diversity:
        reason += "; what is like an item before it waits"
    shown: set[int] = set()

    def row(name: str, title: str, why: str, best: Best) -> Row:
        pairs = zip(best[0][found.number].tolist(), best[1][found.number].tolist(), strict=True)
        return _row(name, title, why, pairs, query.k, shown)

    rows = [row(FOR_YOU, "For you", reason, found.best[0])]
    if found.popular is not None:
        assert release.popular is not None
        rows.append(row(POPULAR, *_popular_title(release.popular), found.popular))
    why = f"Added lately: {retriever} cannot rank them yet"
    rows.append(_row(NEW, "New", why, ((item, float(added)) for item, added in found.unseen), query.k, shown))
    collections = zip(found.names[1:], found.best[1:], strict=True)
    rows += [row(name, name, "Ranked for you", best) for name, best in collections]
    # Of the user's own row only: to say it of every row would take as long as to choose them.
    rows[0] = replace(rows[0], because=like_chosen(assortment, rows[0].items, found.chosen))
    return Page(query.user_id, len(found.chosen) > 0, [one for one in rows if one.items])


def _row(name: str, title: str, reason: str, best: Iterable[tuple[int, float]], k: int, shown: set[int]) -> Row:
    """The first k that are on no row yet; a negative item stands for none."""
    fresh = list(islice(((item, score) for item, score in best if item >= FIRST and item not in shown), k))
    shown.update(item for item, _ in fresh)
    return Row(name, title, reason, [item for item, _ in fresh], [score for _, score in fresh])
