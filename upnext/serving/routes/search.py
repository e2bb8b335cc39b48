"""Items by their titles."""

import asyncio
from typing import Annotated, Any

from litestar import get
from litestar.params import QueryParameter

from upnext.base.ids import FIRST, UNKNOWN
from upnext.serving.release import Release
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
    release = service_of(request).release
    # The first search folds every title; other requests need not wait for it.
    found = await asyncio.to_thread(_find, release, q, limit + 1)
    return {
        "query": q,
        "items": [release.catalogue.describe(item) for item in found[:limit]],
        "has_more": len(found) > limit,
    }


def _find(release: Release, text: str, limit: int) -> list[int]:
    """Dense ids: the item with this very id, then those found by title."""
    named = release.catalogue.vocabulary.dense(release.catalogue.vocabulary.parse(text))
    by_title = [number + FIRST for number in release.titles.search(text, limit)]
    return by_title if named in (UNKNOWN, *by_title) else [named, *by_title][:limit]
