"""Everyone: the row "For you" of every user of a release, block by block.

The same retrieval as for a page, without the rest of the page. Shape letters: B users of a block, k answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.models.popularity import RecentlyPopular
from upnext.serving.histories import Histories
from upnext.serving.release import Release
from upnext.serving.retrieve import best_items, encode, hidden_items, make_request

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


def recommend_everyone(release: Release, histories: Histories, time_ms: int, k: int) -> Iterator[Block]:
    """Answer every user of the release, in the order of their dense ids, as `recommend` would in its first row.

    Scores of one user agree up to rounding: products are summed in another order when more users stand together.
    """
    assortment = histories.assortment
    release = replace(release, index=None if release.index is None else assortment.index)
    if isinstance(release.retriever, RecentlyPopular):
        release.retriever.cover(len(assortment))
    num_scored = assortment.num_scored
    allowed = (assortment.is_shown & assortment.can_retrieve)[None, :num_scored]
    for begin in range(0, len(release.users.ids), _USERS):
        users, ids = release.users.dense_ids[begin : begin + _USERS], release.users.ids[begin : begin + _USERS]
        pasts = histories.read_many(ids).before(np.array(time_ms)).below(num_scored)
        request = make_request(release, np.full(len(users), time_ms), users)
        with torch.inference_mode():
            state = encode(release.retriever, pasts.below(len(release.catalogue)), _TOKENS)
            items, scores = best_items(release, state, request, k, allowed, hidden_items(release, pasts))
        yield Block(users, items, scores)
