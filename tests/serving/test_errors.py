"""Errors: every wrong request gets a 4xx that names what is wrong, and nothing that is posted breaks the service."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.asking import ids, past, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import Published
from upnext.serving.service import Service

LONG = "x" * 1001
JSON = {"content-type": "application/json"}


def message(answer: Any, status: int) -> str:
    """The message of an error, whose form is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"kind", "message"}
    assert body["error"]["kind"] == ("NotFound" if status == 404 else "BadRequest")
    assert "Traceback" not in answer.text
    assert len(answer.text) < 1000
    return str(body["error"]["message"])


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/nowhere", 404, ["'/nowhere'", "/schema"]),
        ("GET", "/v1", 404, ["'/v1'", "/schema"]),
        ("GET", "/" + LONG, 404, ["/schema"]),
        ("GET", "/page/nothing.js", 404, ["nothing.js"]),
        ("GET", "/page/%2e%2e/app.py", 404, ["app.py"]),
        ("GET", "/page//etc/passwd", 404, ["passwd"]),
        ("GET", "/v1/items", 405, ["GET", "PATCH"]),
        ("GET", "/v1/items/no%2Fsuch", 404, ["'no/such'", "120 items"]),
        ("GET", "/v1/items/a/b", 404, ["'/v1/items/a/b'", "%2F"]),
        ("GET", "/v1/items/" + LONG, 400, ["item_id", "1001", "1000"]),
        ("GET", "/v1/users/a/b/history", 404, ["'/v1/users/a/b/history'", "%2F"]),
        ("GET", f"/v1/users/{LONG}/history", 400, ["user_id", "1001", "1000"]),
        ("GET", "/v1/users//history", 400, ["user_id", "0 characters"]),
        ("GET", "/v1/users/u/history?limit=0", 400, ["limit", "1"]),
        ("GET", "/v1/users/u/history?limit=1001", 400, ["limit", "1000"]),
        ("GET", "/v1/users?limit=many", 400, ["limit", "int"]),
        ("GET", "/v1/search", 400, ["'q'", "Missing"]),
        ("GET", "/v1/search?q=" + "a" * 201, 400, ["q:", "200"]),
        ("GET", "/v1/search?q=a&limit=0", 400, ["limit:", "1"]),
        ("GET", "/v1/search?q=a&limit=101", 400, ["limit:", "100"]),
        ("GET", "/v1/search?q=a&limit=many", 400, ["limit:", "int"]),
        ("GET", "/v1/recommendations", 400, ["user_id", "Missing"]),
        ("GET", "/v1/recommendations?user_id=", 400, ["user_id", "0 characters"]),
        ("GET", f"/v1/recommendations?user_id={LONG}", 400, ["user_id", "1001", "1000"]),
        ("GET", "/v1/recommendations?user_id=u&k=0", 400, ["k:", "1"]),
        ("GET", "/v1/recommendations?user_id=u&k=201", 400, ["k:", "200"]),
        ("GET", "/v1/recommendations?user_id=u&k=-1", 400, ["k:", "1"]),
        ("GET", "/v1/recommendations?user_id=u&k=NaN", 400, ["k:", "int"]),
        ("GET", "/v1/recommendations?user_id=u&k=" + "9" * 5000, 400, ["k:"]),
        ("GET", "/v1/recommendations?user_id=u&sruface=home", 400, ["'sruface'", "surface"]),
        ("GET", f"/v1/recommendations?user_id=u&surface={LONG}", 400, ["surface", "1000"]),
        ("POST", "/v1/recommendations?user_id=u", 405, ["POST", "GET", "/schema"]),
        ("GET", "/v1/events", 405, ["GET", "POST"]),
        ("POST", "/v1/items/a", 405, ["POST", "GET"]),
        ("PUT", "/", 405, ["PUT", "GET"]),
    ],
)
def test_wrong_address(client: Client, method: str, path: str, status: int, says: list[str]) -> None:
    answer = client.request(method, path)
    text = message(answer, status)
    assert all(part in text for part in says), text
    if status == 405:
        assert answer.headers["allow"].split(", ")[0] in text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", ["JSON", "post {"]),
        (b"{", ["JSON", "post {"]),
        (b"\xff\xfe", ["JSON", "post {"]),
        (b'{"events": [{"user_id": NaN}]}', ["JSON", "post {"]),
        (b'{"events": [{"user_id": "\\ud800"}]}', ["JSON", "post {"]),
        (b"[]", ["object", "array", "post {"]),
        (b"null", ["object", "null", "post {"]),
        (b"{}", ["`events`", "post {"]),
        (b'{"events": {}}', ["array", "$.events", "post {"]),
        (b'{"events": [], "evnts": []}', ["evnts", "post {"]),
        (b'{"events": []}', ["0 events", "1 to 1000"]),
        (b'{"events": [1]}', ["object", "$.events[0]"]),
        (b'{"events": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", ["post {"]),
    ],
)
def test_wrong_body(client: Client, body: bytes, says: list[str]) -> None:
    text = message(client.post("/v1/events", content=body, headers=JSON), 400)
    assert all(part in text for part in says), text


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"user_id": None}, 400, ["user_id"]),
        ({"user_id": ""}, 400, ["events[1].user_id", "0 characters"]),
        ({"user_id": LONG}, 400, ["events[1].user_id", "1001 characters", "1000"]),
        ({"user_id": 1.5}, 400, ["user_id"]),
        ({"user_id": True}, 400, ["user_id"]),
        ({"user_id": 2**70}, 400, ["events[1].user_id", str(2**70), "64 bits"]),
        (
            {"item_id": "no such item"},
            404,
            ["events[1].item_id", "'no such item'", "120 items", "strings", "/v1/items/"],
        ),
        ({"item_id": LONG}, 404, ["events[1].item_id", "120 items"]),
        ({"item_id": 7}, 404, ["events[1].item_id", " 7 ", "strings"]),
        ({"item_id": ["t"]}, 400, ["item_id", "array"]),
        ({"itme_id": "t"}, 400, ["itme_id"]),
        ({"time_ms": 0}, 400, ["events[1].time_ms", " 0;", "1990"]),
        ({"time_ms": 1_750_000_000}, 400, ["events[1].time_ms", "milliseconds", "1750000000"]),
        ({"time_ms": 10**17}, 400, ["events[1].time_ms", "tomorrow"]),
        ({"time_ms": 2**70}, 400, ["events[1].time_ms"]),
        ({"time_ms": -1}, 400, ["events[1].time_ms"]),
        ({"time_ms": "now"}, 400, ["time_ms", "str"]),
        ({"time_ms": 1.5}, 400, ["time_ms"]),
        ({"position": 2**64}, 400, ["events[1].position", "64 bits"]),
        ({"position": "first"}, 400, ["position", "str"]),
        ({"event_id": LONG}, 400, ["events[1].event_id", "1000"]),
        ({"request_id": LONG}, 400, ["events[1].request_id", "1000"]),
        ({"request_id": 5}, 400, ["request_id", "int"]),
        ({"feedback": {"stars": 5}}, 400, ["events[1].feedback", "'stars'", "like"]),
        ({"feedback": {LONG: 5}}, 400, ["events[1].feedback", "unknown name"]),
        ({"feedback": {"like": 0.5}}, 400, ["events[1].feedback.like", "0.5", "0 or 1"]),
        ({"feedback": {"like": -1}}, 400, ["events[1].feedback.like", "-1", "0 or 1"]),
        ({"feedback": {"played": 1.01}}, 400, ["events[1].feedback.played", "1.01", "0 to 1"]),
        ({"feedback": {"played": "0.5"}}, 400, ["feedback", "str"]),
        ({"feedback": {"played": None}}, 400, ["feedback", "null"]),
        ({"feedback": [1]}, 400, ["feedback", "array"]),
        ({"context": {"weather": "rain"}}, 400, ["events[1].context", "'weather'", "surface"]),
        ({"context": {"surface": LONG}}, 400, ["events[1].context.surface", "1000"]),
        ({"context": {"surface": ["home"]}}, 400, ["context", "array"]),
    ],
)
def test_wrong_event(client: Client, service: Service, change: dict[str, Any], status: int, says: list[str]) -> None:
    user, item = service.release.users.ids[0], service.release.catalogue.vocabulary.ids[0]
    right = {"user_id": user, "item_id": item}
    before = past(client, str(user))
    text = message(client.post("/v1/events", json={"events": [right, right | change]}), status)
    assert all(part in text for part in says), text
    assert past(client, str(user)) == before  # all of a body is taken, or nothing


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"feedback": {"stars": -0.1}}, ["events[0].feedback.stars", "-0.1", "from 0"]),
        ({"feedback": {"stars": 1e300}}, ["events[0].feedback.stars", "1e+300", "finite"]),
        ({"context": {"age": "old"}}, ["events[0].context.age", "'old'", "number"]),
        ({"context": {"age": "nan"}}, ["events[0].context.age", "'nan'", "number"]),
        ({"context": {"age": "inf"}}, ["events[0].context.age", "'inf'", "number"]),
        ({"context": {"age": -1e300}}, ["events[0].context.age", "number"]),
    ],
)
def test_wrong_numbers(
    open_client: Callable[[Published], Client], strange: Published, change: dict[str, Any], says: list[str]
) -> None:
    client = open_client(strange)
    text = message(client.post("/v1/events", json={"events": [{"user_id": "u", "item_id": "a/b"} | change]}), 400)
    assert all(part in text for part in says), text
    if "context" in change:
        params = {"user_id": "u", "age": str(change["context"]["age"])}
        assert "the query.age" in message(client.get("/v1/recommendations", params=params), 400)


@pytest.mark.parametrize("item", ["one", "1.0", 9007199254740993.0, "09007199254740993", " 9007199254740993"])
def test_item_of_another_type(open_client: Callable[[Published], Client], numbers: Published, item: Any) -> None:
    answer = open_client(numbers).post("/v1/events", json={"events": [{"user_id": 7, "item_id": item}]})
    text = message(answer, 400 if isinstance(item, float) else 404)
    assert "item_id" in text
    assert ("its ids are integers" in text) == (answer.status_code == 404)


def test_too_much(client: Client, service: Service) -> None:
    event = {"user_id": "u", "item_id": service.release.catalogue.vocabulary.ids[0]}
    text = message(client.post("/v1/events", json={"events": [event] * 1001}), 400)
    assert "1001 events" in text
    assert "1 to 1000" in text
    assert "1,000,000 bytes" in message(client.post("/v1/events", content=b" " * 1_000_001, headers=JSON), 413)
    post(client, *[event] * 1000)
    assert len(past(client, "u")) == 1000


def test_our_own_bugs_say_so(client: Client, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.release.histories.close()  # stands for any failure inside
    answer = client.get("/v1/users/u/history")
    assert answer.status_code == 500
    assert answer.json()["error"]["kind"] == "InternalError"
    assert "the store is closed" not in answer.text
    assert "the store is closed" in caplog.text  # the log has the traceback


def json_values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=8)
    return st.recursive(leaves, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part))


def almost_events() -> st.SearchStrategy[Any]:
    """Events that are right but for what chance put into them."""
    ids = st.sampled_from(["t000001", "t000002", "u00001", "", "\x00", "💥"]) | st.integers() | st.text(max_size=5)
    numbers = st.floats() | st.integers() | st.booleans() | st.just("7")
    return st.fixed_dictionaries(
        {"user_id": ids, "item_id": st.just("t000001") | st.just("t000002") | ids},
        optional={
            "time_ms": st.integers(1_700_000_000_000, 1_790_000_000_000) | st.integers() | json_values(),
            "event_id": st.text(max_size=3) | json_values(),
            "request_id": st.text(max_size=3),
            "position": st.integers(),
            "context": st.dictionaries(st.sampled_from(["surface", "hour", "age"]), numbers | st.text(max_size=3)),
            "feedback": st.dictionaries(st.sampled_from(["like", "played", "dislike", "stars"]), numbers),
        },
    )


# The one service sees all examples: an event that was taken must not break what comes after it.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=json_values() | st.fixed_dictionaries({"events": st.lists(almost_events() | json_values(), max_size=3)}))
def test_no_body_breaks_the_service(client: Client, body: Any) -> None:
    answer = client.post("/v1/events", content=json.dumps(body).encode("utf-8", "surrogatepass"), headers=JSON)
    if answer.status_code != 201:
        message(answer, answer.status_code)
        assert 400 <= answer.status_code < 500
        return
    for event in body["events"]:
        assert rows(client, event["user_id"])["for-you"]
        assert event["item_id"] in ids(past(client, quote(str(event["user_id"]), safe="")))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=12))
def test_no_text_breaks_the_service(client: Client, text: str) -> None:
    for path in ("/v1/recommendations", "/v1/users"):
        for params in ({"user_id": text}, {"user_id": "u", "k": text}, {"search": text}, {"limit": text}, {text: "u"}):
            assert client.get(path, params=params).status_code < 500
    quoted = quote(text, safe="")
    for path in (f"/v1/items/{quoted}", f"/v1/users/{quoted}/history", f"/page/{quoted}", f"/{quoted}"):
        assert client.get(path).status_code < 500


def test_only_json_is_taken(client: Client) -> None:
    """A form on any website can post text to an address of this machine, but never as JSON without asking."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        body = json.dumps({"events": [{"user_id": "u1", "item_id": "t000001"}]})
        text = message(client.post("/v1/events", content=body, headers={"content-type": kind}), 400)
        assert "application/json" in text
