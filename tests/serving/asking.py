"""How tests ask a service: over HTTP as clients do, and directly with a time of their own."""

from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.testing import TestClient

from upnext.base.ids import ExternalId
from upnext.serving.recommend import Page, Query, recommend
from upnext.serving.service import Service

NOW = 1_800_000_000_000
"""A moment after every event of the small projects."""


def post(client: TestClient[Litestar], *events: dict[str, Any]) -> list[str]:
    """Post events; returns their ids."""
    answer = client.post("/v1/events", json={"events": list(events)})
    assert answer.status_code == 201, answer.text
    assert answer.json()["accepted"] == len(events)
    ids: list[str] = answer.json()["event_ids"]
    return ids


def rows(client: TestClient[Litestar], user_id: ExternalId, **params: Any) -> dict[str, list[dict[str, Any]]]:
    """The items of each row, by the row's name."""
    answer = client.get("/v1/recommendations", params={"user_id": user_id, **params})
    assert answer.status_code == 200, answer.text
    return {row["name"]: row["items"] for row in answer.json()["rows"]}


def ids(row: list[dict[str, Any]]) -> list[ExternalId]:
    """The item ids of a row, or of a history."""
    return [(item.get("item") or item)["item_id"] for item in row]


def past(client: TestClient[Litestar], path: str) -> list[dict[str, Any]]:
    """The events of a user's history; `path` is the encoded id."""
    answer = client.get(f"/v1/users/{path}/history", params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def ask(service: Service, users: Sequence[ExternalId], time_ms: int = NOW, k: int = 20) -> list[Page]:
    """The pages of users at one moment, asked for together."""
    return recommend(service.release, service.histories, [Query(user, time_ms, k) for user in users])
