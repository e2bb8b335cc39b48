"""Similar items: the nearest by the angle between item vectors."""

import numpy as np

from upnext.base.errors import BadRequest, NotFound
from upnext.base.protocols import VectorRetriever
from upnext.serving.assortment import Assortment
from upnext.serving.intake import check_user, shown
from upnext.serving.release import Release

__all__ = ["find_item", "has_vector", "similar_items"]


def find_item(assortment: Assortment, text: str) -> int:
    """The dense id of an item, from its id as text.

    Raises:   NotFound: nobody told of such an item; BadRequest: the text is no id.
    """
    item_id = check_user(text, "item_id")
    return assortment.find(assortment.release.catalogue.vocabulary.parse(str(item_id)), shown(item_id))


def has_vector(assortment: Assortment, item: int) -> bool:
    """Whether `similar_items` has an answer for an item."""
    release = assortment.release
    is_known = isinstance(release.retriever, VectorRetriever) and item < len(release.catalogue)
    return is_known and bool(release.can_retrieve()[item])


def similar_items(release: Release, assortment: Assortment, item: int, k: int) -> tuple[list[int], list[float]]:
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
    num_known = len(release.catalogue)
    scorable = release.can_retrieve()
    if item >= num_known or not scorable[item]:
        shown_id = shown(assortment.describe(item)["item_id"])
        raise NotFound(f"item {shown_id} has no vector in {name!r}, which met no training event of it; try another")
    directions = release.directions
    allowed = (scorable & assortment.is_shown[:num_known])[None]
    allowed[0, item] = False
    items, scores = directions.search(directions.vectors[item : item + 1], k, allowed)
    found = items[0] >= 0
    return items[0][found].tolist(), np.clip(scores[0][found], -1, 1).tolist()
