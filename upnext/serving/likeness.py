"""Likeness: of what a user chose lately, what each recommended item is most like, to say why it is shown.

It is no cause: the retriever reads the whole history. Two items are alike where the cosine of their vectors is at least
a half.

Shape letters: n items, H items chosen lately, D vector width.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from upnext.base.ids import FIRST, PADDING
from upnext.index.exact import ExactIndex
from upnext.serving.assortment import Assortment

__all__ = ["LATELY", "like_chosen"]

LATELY = 50
"""So many events are looked at, the last ones."""

_ALIKE = 0.5


def like_chosen(assortment: Assortment, items: Sequence[int], chosen: NDArray[np.int64]) -> list[int]:
    """For each item the one most like it of those that were chosen, the latest of equals; 0 where none is like it.

    Args:     items: dense ids; chosen: (H,) dense ids in the order of time. An item itself does not count.
    Returns:  n dense ids; nothing but 0 where the retriever has no item vectors.
    """
    index = cast("ExactIndex | None", assortment.index)
    if index is None or not len(chosen) or not items:
        return [PADDING] * len(items)
    latest_first = chosen[::-1]
    latest_first = latest_first[(latest_first >= FIRST) & (latest_first < len(index.vectors))]
    wanted = np.array(items)
    cosines = _directions(index.vectors[wanted]) @ _directions(index.vectors[latest_first]).T
    cosines[wanted[:, None] == latest_first] = -np.inf
    if not cosines.shape[1]:
        return [PADDING] * len(items)
    best = cosines.argmax(1)
    is_alike = cosines[np.arange(len(items)), best] >= _ALIKE
    found: list[int] = np.where(is_alike, latest_first[best], PADDING).tolist()
    return found


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
