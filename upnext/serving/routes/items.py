"""Items of the catalogue."""

import asyncio
from typing import Annotated, Any

from litestar import get
from litestar.params import QueryParameter

from upnext.serving.routes.asked import MAX_K, AnyRequest, id_in_path, raw_path, service_of
from upnext.serving.similar import find_item, has_vector, similar_items

__all__ = ["item"]

_SIMILAR = "/similar"


@get("/v1/items/{item_id:path}")
async def item(
    request: AnyRequest,
    k: Annotated[int, QueryParameter(ge=1, le=MAX_K, description="with /similar: how many items")] = 20,
) -> dict[str, Any]:
    """One item of the catalogue; where the path goes on with /similar, the items whose vectors are nearest to its."""
    assortment = service_of(request).histories.assortment
    release = assortment.release
    asks_for_similar = raw_path(request).removesuffix("/").endswith(_SIMILAR)
    dense = find_item(assortment, id_in_path(request, "/v1/items/", _SIMILAR if asks_for_similar else ""))
    described = assortment.describe(dense)
    if not asks_for_similar:
        return described | {
            "has_similar": has_vector(assortment, dense),
            "is_available": bool(assortment.is_shown[dense]),
            "is_ranked": bool(assortment.can_retrieve[dense]),
        }
    # The first call makes unit vectors of the whole catalogue; other requests need not wait for it.
    items, scores = await asyncio.to_thread(similar_items, release, assortment, dense, k)
    near = [assortment.describe(one) | {"score": score} for one, score in zip(items, scores, strict=True)]
    return {"item": described, "release": release.name, "similar": near}
