"""Rows for a user."""

import secrets
import time
from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.params import QueryParameter

from upnext.serving.assortment import Assortment
from upnext.serving.intake import check_context
from upnext.serving.recommend import Query, Row
from upnext.serving.routes.asked import MAX_K, AnyRequest, service_of, user_of

__all__ = ["recommendations"]

_OWN = ("user_id", "k", "unfamiliar")
"""Parameters that are no contexts."""


@get("/v1/recommendations")
async def recommendations(
    request: AnyRequest,
    user_id: Annotated[str, QueryParameter(description="any id; an unknown one is a new visitor")],
    k: Annotated[int, QueryParameter(ge=1, le=MAX_K, description="items per row")] = 20,
    unfamiliar: Annotated[bool, QueryParameter(description="only items that the user never met")] = False,
) -> dict[str, Any]:
    """Rows for a user. Any other parameter is a context of the request: `surface=home`."""
    service = service_of(request)
    running = service.running
    release = running.release
    contexts = {name: value for name, value in request.query_params.items() if name not in _OWN}
    query = Query(
        user_id=user_of(release, user_id),
        time_ms=time.time_ns() // 1_000_000 + 1,  # what was posted in this very millisecond counts
        k=k,
        context=check_context(contexts, release.schema.contexts, "the query"),
        unfamiliar=unfamiliar,
    )
    page, latency_ms = await service.recommend(query, running)
    request_id, assortment = secrets.token_hex(8), running.histories.assortment
    return {
        "user_id": page.user_id,
        "is_known": page.is_known,
        "release": release.name,
        "latency_ms": round(latency_ms, 3),
        "fallback": page.fallback_reason is not None,
        "fallback_reason": page.fallback_reason,
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "reason": row.reason,
                "request_id": f"{request_id}-{number}",
                "items": _items(assortment, row),
            }
            for number, row in enumerate(page.rows)
        ],
    }


def _items(assortment: Assortment, row: Row) -> msgspec.Raw:
    """What is said of each item, then its score and its position, put together as bytes: a page has hundreds."""
    scores = msgspec.json.encode(row.scores)[1:-1].split(b",")
    endings = [b"}"] * len(row.items)
    if row.because:
        kin = assortment.describe_in_json([item for item in row.because if item])
        endings = [b',"because":%b}}' % kin.pop(0) if item else b"}" for item in row.because]
    parts = zip(assortment.describe_in_json(row.items), scores, range(len(row.items)), endings, strict=True)
    return msgspec.Raw(b"[%b]" % b",".join([b'%b,"score":%b,"position":%d%b' % part for part in parts]))
