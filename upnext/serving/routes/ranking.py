"""Candidates of a request, in order."""

import time
from typing import Any

import msgspec
from litestar import post

from upnext.base.errors import BadRequest
from upnext.base.ids import ExternalId
from upnext.serving.choose import Choice, check_limits, check_ranker, dense_items
from upnext.serving.intake import check_context, check_user
from upnext.serving.routes.asked import AnyRequest, json_body, service_of, user_of
from upnext.serving.routes.bodies import taking

__all__ = ["ranking"]

_MOST = 2000
_EXAMPLE = '{"user_id": "u1", "candidates": ["i1", "i2"], "k": 1}'


class Candidates(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/rank`."""

    user_id: ExternalId
    candidates: list[ExternalId]
    k: int | None = None
    """At most so many."""
    threshold: float | None = None
    """Only those of whom at least so much is expected."""
    context: dict[str, str | float] = {}


@post("/v1/rank", status_code=200, operation_class=taking(Candidates))
async def ranking(request: AnyRequest) -> dict[str, Any]:
    """Order candidates by what is expected of them: the best k, all that reach a threshold, or all."""
    service = service_of(request)
    body = await json_body(request, Candidates, _EXAMPLE)
    if not 1 <= len(body.candidates) <= _MOST:
        raise BadRequest(f"the body has {len(body.candidates)} candidates; ask about 1 to {_MOST:,} at a time")
    check_limits(body.k, body.threshold)
    running = service.running
    check_ranker(running.release)  # before it waits beside pages
    release, assortment = running.release, running.histories.assortment
    user_id = user_of(release, body.user_id) if isinstance(body.user_id, str) else check_user(body.user_id)
    choice = Choice(
        user_id,
        time.time_ns() // 1_000_000 + 1,  # what was posted in this very millisecond counts
        dense_items(assortment, body.candidates),
        body.k,
        body.threshold,
        check_context(body.context, release.schema.contexts, "context"),
    )
    chosen, latency_ms = await service.choose(choice, running)
    return {
        "user_id": user_id,
        "release": release.name,
        "ranker": release.settings.ranker,
        "latency_ms": round(latency_ms, 3),
        "items": [
            {"item_id": assortment.describe(item)["item_id"], "score": score}
            for item, score in zip(chosen.items, chosen.scores, strict=True)
        ],
    }
