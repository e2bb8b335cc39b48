"""Users of the log, and what they did."""

import asyncio
from typing import Annotated, Any

import numpy as np
from litestar import get
from litestar.params import FromQuery, QueryParameter

from upnext.base.ids import FIRST, ExternalId
from upnext.base.schema import feedback_column
from upnext.base.views import ALL
from upnext.serving.routes.asked import AnyRequest, id_in_path, service_of, user_of

__all__ = ["history", "users"]


@get("/v1/users")
async def users(
    request: AnyRequest, search: FromQuery[str] = "", limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50
) -> dict[str, Any]:
    """Users of the log whose id contains the text, in the order of their first event."""
    running = service_of(request).running

    def find() -> tuple[list[ExternalId], list[int]]:
        found = running.release.users.containing(search, limit)
        return found, [len(past) for past, _ in running.histories.read(found)]

    found, counts = await asyncio.to_thread(find)  # other requests need not wait for it
    return {"users": [{"user_id": user, "num_events": count} for user, count in zip(found, counts, strict=True)]}


@get("/v1/users/{user_id:path}")
async def history(request: AnyRequest, limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50) -> dict[str, Any]:
    """What a user chose, the latest first; an unknown user has an empty history. The path ends in /history."""
    running = service_of(request).running
    release = running.release
    user = user_of(release, id_in_path(request, "/v1/users/", "/history"))
    ((past, is_live),) = running.histories.read([user])
    # What was shown but not chosen is no history to a person; what was posted here always is. Items that were posted
    # under an earlier release may have left the catalogue since.
    is_chosen = np.ones(len(past), np.bool_) if release.view == ALL else past.views[release.view]
    rows = np.flatnonzero((is_chosen | is_live) & (past.item >= FIRST))
    return {
        "user_id": user,
        "num_events": len(rows),
        "events": [
            {
                "item": running.histories.assortment.describe(int(past.item[row])),
                "time_ms": int(past.time_ms[row]),
                "feedback": {
                    name: round(float(past.columns[feedback_column(name)].values[row]), 4)
                    for name in release.schema.feedback
                    if past.columns[feedback_column(name)].observed[row]
                },
                "is_live": bool(is_live[row]),
            }
            for row in rows[::-1][:limit]
        ],
    }
