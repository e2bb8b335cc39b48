"""Items by their titles."""

import asyncio
from typing import Annotated, Any

from litestar import get
from litestar.params import QueryParameter

from upnext.base.ids import UNKNOWN
from upnext.serving.assortment import Assortment
from upnext.serving.routes.asked import AnyRequest, service_of

__all__ = ["search"]

_LONGEST = 200


@get("/v1/search")
async def search(
    request: AnyRequest,
    q: Annotated[str, QueryParameter(max_length=_LONGEST, description="words of a title, or an item's id")],
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """Items whose titles hold every word of the text, the best matches first."""
    assortment = service_of(request).histories.assortment
    # The first search folds every title; other requests need not wait for it.
    found = await asyncio.to_thread(_find, assortment, q, limit + 1)
    return {
        "query": q,
        "items": [assortment.describe(item) for item in found[:limit]],
        "has_more": len(found) > limit,
    }


def _find(assortment: Assortment, text: str, limit: int) -> list[int]:
    """Dense ids: the item with this very id, then those found by title."""
    named = assortment.dense(assortment.release.catalogue.vocabulary.parse(text))
    by_title = assortment.search_titles(text, limit)
    if named in (UNKNOWN, *by_title) or not assortment.is_shown[named]:
        return by_title
    return [named, *by_title][:limit]
