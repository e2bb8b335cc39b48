"""Similar items: the nearest by the angle between item vectors."""

import numpy as np

from upnext.base.errors import BadRequest, NotFound
from upnext.base.ids import FIRST, UNKNOWN
from upnext.base.protocols import VectorRetriever
from upnext.serving.intake import check_user, shown
from upnext.serving.release import Release

__all__ = ["find_item", "has_vector", "similar_items"]


def find_item(release: Release, text: str) -> int:
    """The dense id of an item, from its id as text.

    Raises:   NotFound: the catalogue has no such item; BadRequest: the text is no id.
    """
    vocabulary = release.catalogue.vocabulary
    item_id = check_user(text, "item_id")
    dense = vocabulary.dense(vocabulary.parse(str(item_id)))
    if dense == UNKNOWN:
        size = len(release.catalogue) - FIRST
        raise NotFound(f"no item {shown(item_id)} in the catalogue of {size:,} items; check its id")
    return dense


def has_vector(release: Release, item: int) -> bool:
    """Whether `similar_items` has an answer for an item."""
    return isinstance(release.retriever, VectorRetriever) and bool(release.can_retrieve()[item])


def similar_items(release: Release, item: int, k: int) -> tuple[list[int], list[float]]:
    """The k items whose vectors have the largest cosine with an item's, and the cosines; never the item itself.

    Args:     item: dense id.
    Raises:   BadRequest: the retriever has no item vectors; NotFound: the item has none.
    """
    name = release.settings.retriever
    if not isinstance(release.retriever, VectorRetriever):
        raise BadRequest(
            f"the release retrieves with {name!r}, which has no item vectors; publish a retriever that has, such as"
            " sasrec"
        )
    scorable = release.can_retrieve()
    if not scorable[item]:
        shown_id = shown(release.catalogue.vocabulary.external(item))
        raise NotFound(f"item {shown_id} has no vector in {name!r}, which met no training event of it; try another")
    directions = release.directions
    allowed = scorable[None].copy()
    allowed[0, :FIRST] = False
    allowed[0, item] = False
    items, scores = directions.search(directions.vectors[item : item + 1], k, allowed)
    found = items[0] >= 0
    return items[0][found].tolist(), np.clip(scores[0][found], -1, 1).tolist()
