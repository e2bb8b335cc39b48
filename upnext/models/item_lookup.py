"""Item vectors of events and of candidates, also of items that the vocabulary does not know.

Shape letters: B rows, C candidates, V catalogue, D width.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upnext.base.batches import Candidates, ItemTable, SequenceBatch
from upnext.base.ids import FIRST, UNKNOWN

__all__ = ["as_candidates", "candidate_vectors", "vectors_by_hash"]

Encode = Callable[[ItemTable], Tensor]
"""Turns a table of items into vectors (V, D)."""


def vectors_by_hash(
    encode: Encode, items: ItemTable, item: Int[Tensor, "*B"], item_hash: Int[Tensor, "*B"]
) -> Float[Tensor, "*B D"]:
    """Vectors of events' items, with gradients; each different item is encoded once.

    Args:     items: the catalogue. Hashes tell items apart that it does not have.
    """
    hashes, place = torch.unique(item_hash, return_inverse=True)
    dense = torch.zeros_like(hashes).scatter_(0, place.flatten(), item.flatten())
    known = items.take(torch.where(dense < len(items), dense, UNKNOWN))
    return encode(ItemTable(dense, hashes, known.features))[place]


def candidate_vectors(
    encode: Encode, items: ItemTable, vectors: Float[Tensor, "V D"], candidates: Candidates
) -> Float[Tensor, "B C D"]:
    """Vectors of candidates; those outside the catalogue are known by hash and the features they bring.

    Args:     vectors: of the whole catalogue `items`.
    """
    known = torch.where(candidates.item < len(items), candidates.item, UNKNOWN)
    found = vectors[known]
    is_new = (known < FIRST) & candidates.mask
    if bool(is_new.any()):
        strangers = items.take(known[is_new])
        brought = candidates.features
        features = {
            name: brought[name].take(is_new) if name in brought else column
            for name, column in strangers.features.items()
        }
        table = ItemTable(strangers.item, candidates.item_hash[is_new], features)
        found = found.masked_scatter(is_new[..., None], encode(table))
    return found


def as_candidates(events: SequenceBatch) -> Candidates:
    """Events (B, L) as what `candidate_vectors` looks up; padding is masked."""
    return Candidates(events.item, events.item_hash, events.item_hash != 0)
