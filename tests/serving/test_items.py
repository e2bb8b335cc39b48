"""Items that come, change and go while a service runs: durable, in the next answer, and only for who may."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from litestar.testing import TestClient
from rich.console import Console

from tests.serving.asking import NOW, ask, ids, past, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import LARGE, STRANGE_ITEMS, Published, publish_strange
from upnext.base.batches import ItemTable
from upnext.base.errors import BadArtifact, BadConfig, BadRequest, NotFound
from upnext.base.locks import hold
from upnext.commands.items import change_items, print_changes, put_item, set_availability
from upnext.commands.recommend import recommend_all
from upnext.models.sasrec import SASRec
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.posted import erase_posted, read_posted
from upnext.serving.app import create_app
from upnext.serving.changes import Change, Changes
from upnext.serving.everyone import recommend_everyone
from upnext.serving.listening import token_of
from upnext.serving.service import Service, ServiceSettings

TOKEN = "a token of these tests"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
Open = Callable[[Published], Client]


@pytest.fixture
def open_admin(tmp_path: Path) -> Iterator[Open]:
    """Serve releases one after the other on one live store, with a token: the next closes the one before."""
    clients: list[Client] = []

    def open_one(published: Published) -> Client:
        while clients:
            clients.pop().__exit__(None, None, None)
        service = Service(published.release, tmp_path / "live", ServiceSettings(admin_token=TOKEN))
        client = TestClient(create_app(service))
        client.headers.update(AUTH)
        clients.append(client.__enter__())
        return clients[0]

    yield open_one
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def admin(open_admin: Open, tiny: Published) -> Client:
    return open_admin(tiny)


def service_behind(client: Client) -> Service:
    service: Service = client.app.state.service
    return service


def put(client: Client, path: str, **columns: Any) -> None:
    answer = client.put(f"/v1/items/{path}", json=columns)
    assert answer.status_code == 200, answer.text


def set_shown(client: Client, available: bool, *items: Any) -> None:
    body = {"items": [{"item_id": item, "available": available} for item in items]}
    answer = client.patch("/v1/items", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"changed": len(items)}


def everything(client: Client, user: Any = "a stranger") -> set[Any]:
    return {item for row in rows(client, user, k=200).values() for item in ids(row)}


def test_a_hidden_item_is_nowhere_until_it_is_shown_again(admin: Client) -> None:
    before = rows(admin, "a stranger", k=200)
    gone = {ids(before["for-you"])[0], ids(before["popular"])[0] if before.get("popular") else "t000001"}
    near = admin.get("/v1/items/t000003/similar").json()["similar"]
    gone |= {near[0]["item_id"]}
    set_shown(admin, False, *gone)
    assert not everything(admin) & gone
    similar = admin.get("/v1/items/t000003/similar").json()["similar"]
    assert not gone & set(ids(similar))
    assert [one for one in ids(near) if one not in gone][:5] == [one for one in ids(similar) if one in ids(near)][:5]
    service = service_behind(admin)
    dense = {service.histories.assortment.dense(item) for item in gone}
    for block in recommend_everyone(service.release, service.histories, NOW, 50):
        assert not np.isin(block.items, list(dense)).any()
    item = next(iter(gone))
    assert admin.get(f"/v1/items/{item}").json()["is_available"] is False
    post(admin, {"user_id": "u", "item_id": item})  # who was watching it may finish
    assert ids(past(admin, "u")) == [item]
    set_shown(admin, True, *gone)
    assert rows(admin, "a stranger", k=200).keys() == before.keys()
    assert everything(admin) >= gone


def test_a_new_item_is_shown_as_new_and_counted(admin: Client) -> None:
    put(admin, "first", title="The First", genres=["Drama"], collection="Films")
    put(admin, "second%2F2", title="The Second")
    row = next(
        r for r in admin.get("/v1/recommendations", params={"user_id": "u"}).json()["rows"] if r["name"] == "new"
    )
    assert (row["title"], row["reason"]) == ("New", "Added lately: sasrec cannot rank them yet")
    assert ids(row["items"]) == ["second/2", "first"]
    assert row["items"][1].items() >= {"title": "The First", "genres": ["Drama"], "collection": "Films"}.items()
    assert admin.get("/v1/items/first").json()["is_ranked"] is False
    assert "no vector in 'sasrec'" in admin.get("/v1/items/first/similar").json()["error"]["message"]
    # Its events are taken; who chose it does not see it again, and to others it is popular.
    post(admin, *({"user_id": f"u{n}", "item_id": "first", "feedback": {"played": 1}} for n in range(500)))
    shown = rows(admin, "u1", k=5)
    assert ids(shown["new"]) == ["second/2"]
    assert "first" not in everything(admin, "u1")
    assert ids(past(admin, "u1")) == ["first"]
    other = rows(admin, "someone else", k=5)
    assert ids(other["popular"])[0] == "first"
    assert ids(other["new"]) == ["second/2"]
    assert ids(rows(admin, "u1")["for-you"])  # a history of items that the model does not know is no obstacle


def test_what_was_set_is_shown_and_the_rest_stays(admin: Client) -> None:
    before = admin.get("/v1/items/t000003").json()
    put(admin, "t000003", title="Another title")
    put(admin, "t000003", collection="A collection of one")
    after = admin.get("/v1/items/t000003").json()
    assert after == before | {"title": "Another title", "collection": "A collection of one"}
    assert "A collection of one" in rows(admin, "a stranger", k=1)
    assert "t000003" not in ids(rows(admin, "a stranger", k=200).get(before["collection"], []))
    put(admin, "t000003", title=None)
    assert admin.get("/v1/items/t000003").json()["title"] == "t000003"


def test_search_finds_what_is_shown(admin: Client) -> None:
    def found(text: str) -> list[Any]:
        return ids(admin.get("/v1/search", params={"q": text}).json()["items"])

    title = admin.get("/v1/items/t000003").json()["title"]
    assert "t000003" in found(title)
    put(admin, "brand-new", title="Quetzalcoatl")
    put(admin, "t000003", title="Axolotl")
    assert (found("quetz"), found("axolotl"), found("brand-new")) == (["brand-new"], ["t000003"], ["brand-new"])
    assert "t000003" not in found(title)
    set_shown(admin, False, "brand-new", "t000003", "t000004")
    assert found("quetz") == found("axolotl") == found("brand-new") == found("t000003") == []
    assert "t000004" not in found(admin.get("/v1/items/t000004").json()["title"])


def test_removed_is_for_good(admin: Client) -> None:
    (item, *_) = ids(rows(admin, "a stranger")["for-you"])
    assert admin.delete(f"/v1/items/{item}").json() == {"item_id": item, "removed": True}
    assert admin.delete(f"/v1/items/{item}").status_code == 200
    assert item not in everything(admin)
    for answer in (
        admin.put(f"/v1/items/{item}", json={"title": "Back"}),
        admin.patch("/v1/items", json={"items": [{"item_id": item, "available": True}]}),
    ):
        assert answer.status_code == 400
        assert "removed for good" in answer.json()["error"]["message"]
    assert item not in everything(admin)


def test_a_restart_keeps_changes(open_admin: Open, tiny: Published) -> None:
    client = open_admin(tiny)
    (hidden, *_) = ids(rows(client, "a stranger")["for-you"])
    set_shown(client, False, hidden)
    for number in range(3):
        put(client, f"new-{number}", title=f"New {number}")
    page = rows(client, "a stranger", k=200)
    client = open_admin(tiny)
    assert rows(client, "a stranger", k=200) == page
    assert hidden not in everything(client)


def test_a_release_that_says_something_else_wins(open_admin: Open, strange: Published, tmp_path: Path) -> None:
    client = open_admin(strange)
    put(client, "new", title="From the service", genres=["Drama"])
    put(client, "%C3%A9", title="Corrected")
    put(client, "%23hash", title="Corrected too")
    set_shown(client, False, "new", "q?x=1")
    # The next release holds the new item, with a title of its own; it says the same of é, and has lost q?x=1.
    next_one = publish_strange(tmp_path / "next", ["new", *(one for one in STRANGE_ITEMS if one != "q?x=1")])
    client = open_admin(next_one)
    assert client.get("/v1/items/new").json()["title"] == "Title of new"
    assert client.get("/v1/items/%C3%A9").json()["title"] == "Corrected"
    assert "new" not in everything(client)  # a catalogue does not say what may be shown
    set_shown(client, True, "new", "q?x=1")
    assert "new" in ids(rows(client, "a stranger", k=200)["for-you"])
    assert ids(rows(client, "a stranger", k=200)["new"]) == ["q?x=1"]
    # And back: what was set counts again.
    client = open_admin(strange)
    assert client.get("/v1/items/new").json()["title"] == "From the service"


class ByHash(SASRec):
    """Stands for a model that reads what items are: its vector of an unknown one comes from the hash."""

    def can_score(self, items: ItemTable) -> torch.Tensor:
        return self.trained[items.item] | (items.item == 1)

    def item_vectors(self, items: ItemTable) -> torch.Tensor:
        return torch.where(
            (items.item == 1)[:, None], torch.ones(1, self.config.width) * 100, super().item_vectors(items)
        )


def test_a_model_that_can_score_new_items_ranks_them(service: Service) -> None:
    model = service.release.retriever
    assert isinstance(model, SASRec)
    object.__setattr__(service.release, "retriever", ByHash.from_tensors(model.config, model.state_dict()))
    service.running.changes.write(
        [Change("unheard of", {"collection": "Films"}), Change("hidden", {}, is_available=False)]
    )
    assortment = service.histories.assortment
    dense = assortment.dense("unheard of")
    assert dense == len(service.release.catalogue)
    pages = ask(service, [*service.release.users.ids[:20], "a stranger"], k=200)
    assert all(row.name != "new" for page in pages for row in page.rows)
    scored = [item for page in pages for row in page.rows if row.name in ("for-you", "Films") for item in row.items]
    assert scored.count(dense) == len(pages)
    assert assortment.dense("hidden") not in scored
    (block,) = recommend_everyone(service.release, service.histories, NOW, 130)
    assert (block.items == dense).sum() == len(block.users)
    assert assortment.externals(np.array([dense, 2])).to_pylist() == ["unheard of", assortment.describe(2)["item_id"]]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer another"}, {"Authorization": TOKEN}])
def test_only_with_thetoken_of(admin: Client, header: dict[str, str]) -> None:
    admin.headers.pop("authorization")
    before = everything(admin)
    for answer in calls(admin, header):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in answer.json()["error"]["message"]
        assert TOKEN not in answer.text
    assert everything(admin) == before


def test_without_a_token_nobody_may(client: Client) -> None:
    for answer in calls(client, AUTH):
        assert answer.status_code == 403
        assert "UPNEXT_ADMIN_TOKEN" in answer.json()["error"]["message"]


def calls(client: Client, headers: dict[str, str]) -> list[Any]:
    return [
        client.put("/v1/items/x", json={"title": "X"}, headers=headers),
        client.delete("/v1/items/t000003", headers=headers),
        client.patch("/v1/items", json={"items": [{"item_id": "t000003", "available": False}]}, headers=headers),
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("PUT", "x", {"titel": "X"}, 400, ["'titel'", "'title'"]),
        ("PUT", "x", {"title": 7}, 400, ["title is 7", "string"]),
        ("PUT", "x", {"genres": "Drama"}, 400, ["genres is 'Drama'", "list"]),
        ("PUT", "x", {"genres": [None]}, 400, ["genres is [None]", "list"]),
        ("PUT", "x", [], 400, ["object", "post {"]),
        ("PUT", "a/b", {}, 404, ["%2F"]),
        ("PUT", "x" * 1001, {}, 400, ["1001 characters"]),
        ("PATCH", "", {"items": []}, 400, ["0 items", "1 to 1000"]),
        ("PATCH", "", {"items": [{"item_id": "nothing", "available": False}]}, 404, ["'nothing'", "PUT"]),
        ("PATCH", "", {"items": [{"item_id": "t000003", "available": 1}]}, 400, ["available"]),
        ("PATCH", "", {"items": [{"item_id": 7, "available": True}]}, 400, ["items[0].item_id is 7", "text"]),
        ("DELETE", "nothing", None, 404, ["'nothing'"]),
    ],
)
def test_wrong_changes(admin: Client, method: str, path: str, body: Any, status: int, says: list[str]) -> None:
    before = everything(admin)
    answer = admin.request(method, f"/v1/items/{path}".rstrip("/"), json=body)
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert all(part in message for part in says), message
    assert everything(admin) == before
    # All of a body is taken, or nothing.
    both = {"items": [{"item_id": item, "available": False} for item in ("t000003", "nothing")]}
    assert admin.patch("/v1/items", json=both).status_code == 404
    assert admin.get("/v1/items/t000003").json()["is_available"] is True


def test_what_no_model_can_read_keeps_nobody_from_serving(open_admin: Open, tiny: Published) -> None:
    """It was told of under a release with other columns, say."""
    client = open_admin(tiny)
    service = service_behind(client)
    service._change([(service.running, [Change("odd", {"genres": [None], "title": "Odd", "duration_s": "long"})])])
    assert "odd" in everything(client)
    put(client, "fine", title="Fine")
    client = open_admin(tiny)
    assert {"odd", "fine"} <= everything(client)
    assert client.get("/v1/items/odd").json()["title"] == "Odd"


def test_integer_ids(open_admin: Open, numbers: Published) -> None:
    client = open_admin(numbers)
    put(client, str(LARGE + 100), title="One hundred")
    answer = client.get(f"/v1/items/{LARGE + 100}").json()
    assert (answer["item_id"], answer["title"]) == (LARGE + 100, "One hundred")
    set_shown(client, False, str(LARGE + 1))
    set_shown(client, False, LARGE + 2)
    assert not everything(client) & {LARGE + 1, LARGE + 2}
    assert client.put("/v1/items/seven", json={}).status_code == 400


def test_a_token_has_to_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPNEXT_ADMIN_TOKEN", "short")
    with pytest.raises(BadConfig, match="5 characters"):
        token_of("UPNEXT_ADMIN_TOKEN")
    monkeypatch.setenv("UPNEXT_ADMIN_TOKEN", "")
    assert token_of("UPNEXT_ADMIN_TOKEN") is None
    monkeypatch.setenv("ANOTHER", "x" * 16)
    assert token_of("ANOTHER") == "x" * 16


def screen() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_command_changes_a_workspace(tiny: Published, tmp_path: Path) -> None:
    workspace = tiny.lend(tmp_path / "lent")
    console = screen()
    print_changes(workspace, False, console)
    assert "no item of" in printed(console)
    put_item(workspace, "n1", "New [one]", ["Drama", "War"], "Films", [], screen())
    put_item(workspace, "n2", None, [], None, ["title=Two", 'genres=["A"]'], screen())
    set_availability(workspace, ["t000003", "t000004", "n2"], False, screen())
    set_availability(workspace, ["t000004"], True, screen())
    change_items(workspace, ["t000005"], "removed for good", screen(), is_removed=True)
    console = screen()
    print_changes(workspace, True, console)
    items = {item["item_id"]: item for item in json.loads(printed(console))["items"]}
    assert {item: one["state"] for item, one in items.items()} == {
        "n1": "shown as new",
        "n2": "hidden",
        "t000003": "hidden",
        "t000004": "shown",
        "t000005": "removed",
    }
    assert items["n1"].items() >= {"title": "New [one]", "genres": ["Drama", "War"], "collection": "Films"}.items()
    assert items["n2"].items() >= {"title": "Two", "genres": ["A"]}.items()
    console = screen()
    print_changes(workspace, False, console)
    assert "New [one]" in printed(console)
    recommend_all(workspace, tmp_path / "recs.parquet", 200, False, screen())
    written = set(pq.read_table(tmp_path / "recs.parquet")["item_id"].to_pylist())
    assert "t000004" in written
    assert not written & {"t000003", "t000005", "n1", "n2"}
    for bad, words in ((["nothing"], "'nothing'"), ([""], "0 characters")):
        with pytest.raises((NotFound, BadRequest), match=words):
            set_availability(workspace, bad, False, screen())
    with pytest.raises(BadConfig, match="COLUMN=VALUE"):
        put_item(workspace, "n3", None, [], None, ["title"], screen())


def test_the_command_is_seen_by_a_running_service(tiny: Published, tmp_path: Path) -> None:
    """Through the store: the marks of two kinds of writers."""
    workspace = tiny.lend(tmp_path / "lent")
    service = Service(tiny.release, workspace / "live", ServiceSettings(admin_token=TOKEN))
    with TestClient(create_app(service)) as client:
        client.headers.update(AUTH)
        other = Changes(service._live, service.release.catalogue, "command", lambda _: None)
        (item, *_) = ids(rows(client, "a stranger")["for-you"])
        other.write([Change(item, is_available=False), Change("n1", {"title": "From the command"})])
        assert item not in everything(client)
        put(client, "n2", title="From the server")
        assert ids(rows(client, "a stranger")["new"]) == ["n2", "n1"]
        other.write([Change("n2", {"genres": ["War"]})])
        shown = rows(client, "a stranger")["new"][0]
        assert (shown["title"], shown["genres"]) == ("From the server", ["War"])


def test_posted_events_and_changes_share_a_store_in_peace(tiny: Published, tmp_path: Path) -> None:
    workspace = tiny.lend(tmp_path / "lent")
    service = Service(tiny.release, workspace / "live")
    with TestClient(create_app(service)) as client:
        post(client, {"user_id": "u", "item_id": "t000003"}, {"user_id": "v", "item_id": "t000003"})
    put_item(workspace, "n1", "New", [], None, [], screen())
    live = workspace / "live"
    assert {event.user_id for event in read_posted(live)} == {"u", "v"}
    assert erase_posted(live, Forgotten.load(workspace).with_users(["u"])) == 1
    assert [event.user_id for event in read_posted(live)] == ["v"]
    console = screen()
    print_changes(workspace, True, console)
    assert [item["item_id"] for item in json.loads(printed(console))["items"]] == ["n1"]
    with hold(live), pytest.raises(BadArtifact, match="wait for it"):
        put_item(workspace, "n2", None, [], None, [], screen())
