"""HTTP: what each route answers, to any id, and with which headers."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

import upnext
from tests.serving.asking import ids, past, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import LARGE, MARKUP, STRANGE_ITEMS, STRANGE_USERS, Published
from upnext.serving.service import Service

TYPES = {
    "/": "text/html",
    "/page/app.js": "text/javascript",
    "/page/style.css": "text/css",
    "/page/icon.svg": "image/svg+xml",
}


def test_health_and_service(client: Client, tiny: Published) -> None:
    assert client.get("/health").json() == {
        "status": "ok",
        "release": tiny.release.name,
        "refused": None,
        "version": upnext.__version__,
    }
    about = client.get("/v1/service").json()
    assert about["title"] == "Tiny"
    assert about["num_items"] == 120
    assert 0 < about["num_users"] <= 150
    # What the page needs to know of each: which feedback is the part played, and after which an item is gone.
    play = {"name": "play", "label": "Play", "feedback": {"played": 1.0}, "part_played": "played", "hides": False}
    assert about["actions"][0] == play
    assert [(action["name"], action["part_played"], action["hides"]) for action in about["actions"][1:]] == [
        ("like", None, False),
        ("dislike", None, True),
    ]
    assert about["contexts"] == {"surface": "categorical", "device": "categorical", "hour": "categorical"}
    assert about["feedback"]["like"] == "binary"


def test_recommendations(client: Client, service: Service, tiny: Published) -> None:
    user = service.release.users.ids[0]
    answer = client.get("/v1/recommendations", params={"user_id": user, "k": 6, "surface": "home"}).json()
    assert answer["user_id"] == user
    assert answer["is_known"] is True
    assert answer["release"] == tiny.release.name
    assert answer["latency_ms"] > 0
    assert len({row["request_id"] for row in answer["rows"]}) == len(answer["rows"]) > 2
    for row in answer["rows"]:
        assert [item["position"] for item in row["items"]] == list(range(len(row["items"])))
        assert all(
            item.keys() - {"because"} == {"item_id", "title", "genres", "collection", "score", "position"}
            for item in row["items"]
        )
    # Two pages asked for at one moment are two requests.
    again = client.get("/v1/recommendations", params={"user_id": user}).json()
    assert again["rows"][0]["request_id"] != answer["rows"][0]["request_id"]
    assert len(rows(client, user, k=200)["for-you"]) <= 120


def test_users(client: Client, service: Service) -> None:
    everyone = service.release.users.ids
    listed = client.get("/v1/users", params={"limit": 1000}).json()["users"]
    assert [user["user_id"] for user in listed] == everyone
    assert all(user["num_events"] > 0 for user in listed)
    name = str(everyone[3])
    found = client.get("/v1/users", params={"search": name.upper()}).json()["users"]
    assert [user["user_id"] for user in found] == [name]
    assert len(client.get("/v1/users", params={"limit": 2}).json()["users"]) == 2
    assert client.get("/v1/users", params={"search": "no such user"}).json() == {"users": []}


def test_history(client: Client, service: Service) -> None:
    user = service.release.users.ids[0]
    answer = client.get(f"/v1/users/{user}/history", params={"limit": 5}).json()
    ((events, is_live),) = service.histories.read([user])
    watched = events.take(events.views["watched"])
    assert not is_live.any()
    assert answer["num_events"] == len(watched)
    latest = watched.time_ms[::-1][:5].tolist()
    assert [event["time_ms"] for event in answer["events"]] == latest
    assert answer["events"][0]["feedback"].keys() <= {"click", "played", "like", "dislike"}
    assert not any(event["is_live"] for event in answer["events"])
    nobody = client.get("/v1/users/nobody/history")
    assert (nobody.status_code, nobody.json()) == (200, {"user_id": "nobody", "num_events": 0, "events": []})


@pytest.mark.parametrize("item", STRANGE_ITEMS)
def test_any_item_id(open_client: Callable[[Published], Client], strange: Published, item: str) -> None:
    client = open_client(strange)
    answer = client.get(f"/v1/items/{quote(item, safe='')}")
    assert answer.status_code == 200, answer.text
    title = MARKUP if item == "<script>" else f"Title of {item}"
    described: dict[str, Any] = {"item_id": item, "title": title, "genres": [], "collection": None}
    facts = {"has_similar": False, "is_available": True, "is_ranked": True}
    assert answer.json() == described | facts


@pytest.mark.parametrize("user", STRANGE_USERS)
def test_any_user_id(open_client: Callable[[Published], Client], strange: Published, user: str) -> None:
    client = open_client(strange)
    before = past(client, quote(user, safe=""))
    assert len(before) == len([n for n in range(len(STRANGE_ITEMS)) if n % 3 >= STRANGE_USERS.index(user)])
    post(client, {"user_id": user, "item_id": "a/b", "context": {"age": 3}, "feedback": {"stars": 2.5}})
    answer = client.get(f"/v1/users/{quote(user, safe='')}/history").json()
    assert answer["user_id"] == user
    assert answer["num_events"] == len(before) + 1
    assert answer["events"][0]["feedback"] == {"stars": 2.5}
    assert answer["events"][0]["is_live"] is True
    assert "a/b" not in ids(rows(client, user).get("for-you", []))


def test_integer_ids_stay_integers(open_client: Callable[[Published], Client], numbers: Published) -> None:
    client = open_client(numbers)
    assert {"user_id": LARGE, "num_events": abs(LARGE) % 5 + 2} in client.get("/v1/users").json()["users"]
    for user in (7, -8, LARGE):
        answer = client.get("/v1/recommendations", params={"user_id": user}).json()
        assert (answer["user_id"], answer["is_known"]) == (user, True)
        assert client.get(f"/v1/users/{user}/history").json()["user_id"] == user
    best = answer["rows"][0]["items"][0]["item_id"]
    assert isinstance(best, int)
    assert best > 2**53
    assert client.get(f"/v1/items/{best}").json()["item_id"] == best
    # The same user and item, whether an id comes as a number or as its digits.
    post(client, {"user_id": "7", "item_id": str(best)})
    post(client, {"user_id": 7, "item_id": LARGE + 6})
    assert ids(past(client, "7"))[:2] == [LARGE + 6, best]
    for stranger in ("seven", "007", "--5", "9" * 900, "1e3"):
        answer = client.get("/v1/recommendations", params={"user_id": stranger}).json()
        assert (str(answer["user_id"]), answer["is_known"]) == (stranger, False)
        assert past(client, stranger) == []


def test_events_show_at_once(client: Client, service: Service) -> None:
    user = service.release.users.ids[0]
    before = rows(client, user)
    liked, disliked = ids(before["for-you"])[:2]
    event = {"user_id": user, "item_id": liked, "feedback": {"like": True}, "context": {"surface": "home"}}
    given = post(client, event | {"position": 0, "request_id": "r1"}, event | {"event_id": "mine", "item_id": disliked})
    assert given[1] == "mine"
    post(client, {"user_id": user, "item_id": ids(before["popular"])[0], "feedback": {"dislike": 1}})
    after = rows(client, user)
    assert after["for-you"] != before["for-you"]
    gone = {liked, disliked, ids(before["popular"])[0]}
    assert not gone & {item for row in after.values() for item in ids(row)}
    assert set(ids(past(client, str(user)))[:3]) == gone
    # Others see it too: what is popular now counts the stream.
    assert liked in ids(rows(client, "a stranger", k=2)["for-you"] + rows(client, "a stranger", k=2)["popular"])


def test_every_answer_has_its_headers(client: Client) -> None:
    paths = [
        *TYPES,
        "/v1/service",
        "/health",
        "/schema",
        "/v1/users/x/history",
        "/v1/items/none",
        "/nowhere",
        "/v1/events",
    ]
    for path in paths:
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-cache" if path in TYPES else "no-store"), path


@pytest.mark.parametrize(("path", "kind"), TYPES.items())
def test_files(client: Client, path: str, kind: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert "attachment" not in answer.headers.get("content-disposition", "")


def test_the_page_asks_for_nothing_elsewhere(client: Client) -> None:
    page = client.get("/").text
    assert "http://" not in page
    assert "https://" not in page
    assert "<style" not in page  # the policy allows no inline style or script
    assert page.count("<script") == page.count('src="/page/') == 1


def test_openapi(client: Client) -> None:
    answer = client.get("/schema")
    assert answer.status_code == 200
    schema: dict[str, Any] = answer.json()
    assert schema["info"] == {"title": "Tiny", "version": upnext.__version__}
    assert {"/v1/recommendations", "/v1/events", "/v1/users", "/health"} < schema["paths"].keys()
    (user_id, k, unfamiliar) = schema["paths"]["/v1/recommendations"]["get"]["parameters"]
    assert user_id["required"]
    assert (k["schema"]["minimum"], k["schema"]["maximum"]) == (1, 200)
    assert (unfamiliar["name"], unfamiliar["required"]) == ("unfamiliar", False)
    assert client.get("/schema/openapi.json").json() == schema
    bodies = {
        path: operation["requestBody"]["content"]["application/json"]["schema"]
        for path, operations in schema["paths"].items()
        for operation in operations.values()
        if "requestBody" in operation
    }
    assert bodies.keys() == {"/v1/rank", "/v1/events", "/v1/items", "/v1/items/{item_id}"}
    assert "$ref" not in str(bodies)
    event = bodies["/v1/events"]["properties"]["events"]["items"]
    assert event["required"] == ["user_id", "item_id"]
    assert event["properties"].keys() > {"time_ms", "event_id", "context", "feedback"}
    assert bodies["/v1/items"]["properties"]["items"]["items"]["required"] == ["item_id", "available"]
    assert bodies["/v1/items/{item_id}"]["properties"].keys() == {"title", "genres", "collection"}
