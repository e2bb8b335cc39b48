"""Everyone: the row "For you" of every user of a release, block by block.

The same retrieval as for a page, without the rest of the page. Shape letters: B users of a block, k answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.ids import PADDING
from upnext.models.stream import stream_of
from upnext.serving.chain import states_of
from upnext.serving.columns import columns_of
from upnext.serving.diversity import diversified
from upnext.serving.histories import Histories
from upnext.serving.rank import by_utility, num_candidates
from upnext.serving.release import Release
from upnext.serving.retrieve import best_items, encode_readable, hidden_items, make_request
from upnext.serving.states import user_states

__all__ = ["Block", "recommend_everyone"]

_USERS = 8192
_TOKENS = 8192
"""Users whose histories are in memory together, and tokens that a model encodes together."""


@dataclass(frozen=True)
class Block:
    """Some neighbouring users of the vocabulary: dense user ids (B,), dense items (B, k), 0 where there are fewer."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    scores: NDArray[np.float32]


def recommend_everyone(
    release: Release,
    histories: Histories,
    time_ms: int,
    k: int,
    context: Mapping[str, str | float] | None = None,
    unfamiliar: bool = False,
) -> Iterator[Block]:
    """Answer every user of the release, in the order of their dense ids, as `recommend` would in its first row.

    Scores of one user agree up to rounding: products are summed in another order when more users stand together.
    """
    assortment = histories.assortment
    release = replace(release, index=None if release.index is None else assortment.index)
    if (stream := stream_of(release.retriever)) is not None:
        stream.cover(len(assortment))
    num_scored = assortment.num_scored
    now, lag = np.array(time_ms), release.settings.lag
    share = release.settings.diversity
    wanted = k if release.ranker is None and not share else num_candidates(release.settings, k)
    allowed = (assortment.is_shown & assortment.can_retrieve)[None, :num_scored]
    allowed[0, assortment.blocked_in(context or {}, num_scored)] = False
    for begin in range(0, len(release.users.ids), _USERS):
        users, ids = release.users.dense_ids[begin : begin + _USERS], release.users.ids[begin : begin + _USERS]
        everything = histories.read_many(ids)
        pasts = everything.before(now).below(num_scored)
        contexts = [context or {}] * len(users)
        request = make_request(release, np.full(len(users), time_ms), users, contexts)
        hidden = hidden_items(release, pasts, np.array(unfamiliar), contexts)
        known = pasts.below(len(release.catalogue))
        with torch.inference_mode():
            state, _ = user_states(release, histories, ids, known, np.full(len(users), time_ms), _TOKENS)
            items, scores = best_items(release, state, request, wanted, allowed, hidden)
            if release.ranker is not None:
                encoder = partial(encode_readable, pasts=known, time_ms=now, least_ms=lag, max_tokens=_TOKENS)
                states = states_of(release, encoder, state)
                counts = np.full(len(users), wanted)
                columns = columns_of(histories, assortment, everything, request)
                ((items, scores),) = by_utility(
                    release, assortment, states, request, contexts, [(items, scores)], counts, columns
                )
            if share:
                ((items, scores),) = diversified(assortment, [(items, scores)], np.full(len(users), wanted), share, k)
            items, scores = np.maximum(items[:, :k], PADDING), scores[:, :k]
        yield Block(users, items, scores)
