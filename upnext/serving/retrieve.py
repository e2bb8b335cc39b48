"""Retrieval: the one way from histories to the best items, for a page and for everybody at once.

Shape letters: B users, V catalogue, k answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Column, Events, Request, State
from upnext.base.ids import PADDING
from upnext.base.protocols import Index, VectorRetriever, lag_of, offsets_of
from upnext.base.selection import Parts, best_of_parts
from upnext.base.views import ALL
from upnext.models.build import AnyModel, AnyRanker
from upnext.models.stream import stream_of
from upnext.serving.filters import shown_in_vain
from upnext.serving.pasts import Pasts
from upnext.serving.release import Release

__all__ = [
    "best_items",
    "best_of_each",
    "encode",
    "encode_ranges",
    "encode_readable",
    "hidden_items",
    "lag_ms",
    "make_request",
    "readable",
]

_SCORES = 1 << 24
"""Models without an index score so many pairs of user and item at a time."""


def make_request(
    release: Release,
    time_ms: NDArray[np.int64],
    user: NDArray[np.int64],
    contexts: Sequence[Mapping[str, str | float]] | None = None,
) -> Request:
    """Say who asks, when and where, for models to read; without contexts none is observed.

    What side tables say of the user comes along; of an unknown user nothing is observed.
    """
    B = len(time_ms)
    columns = {}
    for name in release.schema.contexts:
        vocabulary = release.contexts.get(name)
        values: list[Any] = [None] * B if contexts is None else [context.get(name) for context in contexts]
        observed = torch.tensor([value is not None for value in values])
        if vocabulary is None:
            numbers = torch.tensor([float(value or 0.0) for value in values])
        else:
            numbers = torch.tensor([0 if value is None else vocabulary.dense(str(value)) for value in values])
        columns[f"context.{name}"] = Column(numbers, observed)
    dense = torch.from_numpy(user)
    return Request(torch.from_numpy(time_ms), dense, columns, release.people.features.take(dense))


def lag_ms(model: AnyRanker, least_ms: int) -> int:
    """How far behind a request what a model reads ends: the larger of the release's lag and the model's own."""
    return max(least_ms, lag_of(model) or 0)


def readable(model: AnyRanker, pasts: Pasts, time_ms: NDArray[np.int64], least_ms: int) -> Pasts:
    """What a model may read of pasts: what lies strictly before each request less the lag.

    Args:     time_ms: (B,) when each user asks, or one time for all; the pasts hold nothing from then on.
              least_ms: the release's lag.
    """
    lag = lag_ms(model, least_ms)
    return pasts.before(time_ms - lag) if lag else pasts


def encode_readable(
    model: AnyRanker,
    pasts: Pasts,
    time_ms: NDArray[np.int64],
    least_ms: int,
    max_tokens: int | None = None,
) -> State:
    """Encode what a model may read of pasts, as `readable` says."""
    return encode(model, readable(model, pasts, time_ms, least_ms), max_tokens)


def encode(model: AnyRanker, pasts: Pasts, max_tokens: int | None = None) -> State:
    """Encode what the model reads of each past: all in one batch, or in batches of so many tokens."""
    # Not isinstance: to look for a protocol's members takes as long as to encode a layer.
    seen = (pasts if hasattr(model, "predict") else pasts.without_columns()).in_view(model.view)
    return encode_ranges(model, seen.events, seen.offsets[:-1], seen.offsets[1:], max_tokens)


def encode_ranges(
    model: AnyRanker,
    events: Events,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    max_tokens: int | None = None,
) -> State:
    """Encode the last `max_length` events of each range: all in one batch, or, sorted by length, in batches.

    Each row of a batch counts as long as the batch's longest, and one more for a start token.
    """
    starts = np.maximum(starts, ends - model.max_length)
    if max_tokens is None or not len(starts):
        return model.encode(events.batch(starts, ends))
    lengths = ends - starts
    order = np.argsort(lengths, kind="stable")
    states = []
    begin = 0
    while begin < len(order):
        # The longest row of [begin, end) is its last: take as many rows as fit with it.
        sizes = (lengths[order[begin:]] + 1) * np.arange(1, len(order) - begin + 1)
        end = begin + max(1, int(np.searchsorted(sizes, max_tokens, side="right")))
        states.append(model.encode(events.batch(starts[order[begin:end]], ends[order[begin:end]])))
        begin = end
    return State.concatenate(states).take(torch.from_numpy(np.argsort(order)))


def hidden_items(
    release: Release, pasts: Pasts, unfamiliar: NDArray[np.bool_], contexts: Sequence[Mapping[str, str | float]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What users may not be shown for what they did: user numbers in rising order, and the dense id that each may not
    see. What a surface blocks for everybody is `Assortment.blocked_on`.

    Args:     unfamiliar: (B,) or one for all: who is to be shown only what they never met, in any event.
              contexts: of each request: they name its surface.
    """
    settings, events = release.settings, pasts.events
    is_hidden = np.repeat(np.broadcast_to(unfamiliar, len(pasts)), pasts.lengths)
    if settings.exclude_history:
        is_hidden |= True if release.view == ALL else events.views[release.view]
    if settings.hide is not None:
        is_hidden |= release.schema.select(settings.hide, events.columns)
    most = np.array([settings.most_shown(settings.surface_of(context)) for context in contexts])
    if np.isfinite(most).any():
        is_hidden |= shown_in_vain(pasts.user, events.item, events.views[release.view], most)
    return pasts.user[is_hidden], events.item[is_hidden]


def best_of_each(
    model: AnyModel,
    index: Index | None,
    state: State,
    request: Request,
    k: int,
    parts: Parts,
    hidden: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The k items of each part that a model scores best for each user; the catalogue is scored once.

    Args:     index: holds the model's item vectors; None to ask the model. parts: sets of dense ids. hidden: pairs of
              user number, rising, and dense id.
    Returns:  for each part dense ids (B, k) and scores (B, k), falling, ties by the lower id; -1 and -inf where there
              are fewer.
    """
    known = hidden[1] < parts.end
    numbers, ids = hidden[0][known], hidden[1][known]
    if index is not None:
        # A cast, because to look for a protocol's methods takes longer than to rank ten collections.
        retriever = cast("VectorRetriever", model)
        queries = retriever.query_vectors(state, request)
        return index.search_parts(
            queries.numpy(), k, parts, (numbers, ids), _offsets(retriever, state, request, parts.end)
        )
    scores = model.score(state, request, torch.arange(parts.end)[None])
    scores[torch.from_numpy(numbers), torch.from_numpy(ids)] = -torch.inf
    best = best_of_parts(scores, k, parts)
    return [(items.numpy(), values.numpy()) for items, values in best]


def _offsets(model: VectorRetriever, state: State, request: Request, num_items: int) -> NDArray[np.float32] | None:
    """What the model adds to its dot products with the first items, by dense id."""
    offsets = offsets_of(model, state, request)
    return None if offsets is None else offsets[:, :num_items].numpy()


def best_items(
    release: Release,
    state: State,
    request: Request,
    k: int,
    allowed: NDArray[np.bool_],
    hidden: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k items that the retriever scores best for each user.

    Args:     allowed: (B, V) or (1, V) bool by dense id; hidden: pairs of user number, rising, and dense id.
    Returns:  dense ids (B, k) and scores (B, k), falling, ties by the lower id; 0 and -inf where there are fewer.
    """
    model, (B, V) = release.retriever, (len(state), allowed.shape[1])
    if release.index is not None and stream_of(model) is None:
        assert isinstance(model, VectorRetriever)
        items, scores = release.index.search(model.query_vectors(state, request).numpy(), k, allowed, hidden)
        return np.where(items < 0, PADDING, items), scores
    numbers, ids = hidden or (np.empty(0, np.int64), np.empty(0, np.int64))
    parts = []
    for rows in torch.split(torch.arange(B), max(1, _SCORES // V)):
        begin, end = int(rows[0]), int(rows[-1]) + 1
        first, last = np.searchsorted(numbers, (begin, end))
        own = numbers[first:last] - begin, ids[first:last]
        may, some, asked = allowed if len(allowed) == 1 else allowed[begin:end], state.take(rows), request.take(rows)
        if release.index is not None:
            retriever = cast("VectorRetriever", model)
            queries, offsets = retriever.query_vectors(some, asked).numpy(), _offsets(retriever, some, asked, V)
            parts.append(release.index.search(queries, k, may, own, offsets))
            continue
        mask = np.broadcast_to(may, (len(rows), V)).copy()
        mask[own] = False
        best, scores_of = model.top_k(some, asked, k, torch.from_numpy(mask))
        parts.append((best.numpy(), scores_of.numpy()))
    items, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.where(items < 0, PADDING, items), scores
