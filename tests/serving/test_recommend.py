"""Pages: the same alone and together, offline and served, and nothing on them that should not be."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from litestar.testing import TestClient
from rich.console import Console

from tests.reference.pages import slow_page
from tests.serving.asking import NOW, ask, ids, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import LARGE, STRANGE_ITEMS, Published
from upnext.base.errors import BadRequest
from upnext.base.ids import FIRST, ExternalId
from upnext.commands.recommend import recommend_users
from upnext.models.popularity import Popular
from upnext.serving.app import create_app
from upnext.serving.recommend import Page, Query, recommend
from upnext.serving.service import Service


def assert_same(one: Page, other: Page, tolerance: float = 1e-5) -> None:
    assert (one.user_id, one.is_known) == (other.user_id, other.is_known)
    for row, twin in zip(one.rows, other.rows, strict=True):
        assert (row.name, row.title, row.reason, row.items) == (twin.name, twin.title, twin.reason, twin.items)
        np.testing.assert_allclose(row.scores, twin.scores, rtol=tolerance, atol=tolerance)


def items_of(page: Page) -> list[int]:
    return [item for row in page.rows for item in row.items]


def test_together_as_alone(service: Service) -> None:
    users = service.release.users.ids
    # Users of different lengths, a stranger, moments before and inside the log, and k from 1 to more than there is.
    middle = 1_736_600_000_000
    queries = [
        Query(users[0], NOW, 5),
        Query(users[1], middle, 20, {"surface": "home", "device": "no such device"}),
        Query("a stranger", NOW, 1),
        Query(users[2], 700_000_000_000, 7),
        Query(users[3], NOW, 200, {"hour": "23"}),
        Query(users[3], middle + 1, 13),
        Query(users[-1], NOW, 20),
    ]
    together = recommend(service.release, service.histories, queries)
    assert len(together) == 7
    for query, page in zip(queries, together, strict=True):
        (alone,) = recommend(service.release, service.histories, [query])
        assert_same(page, alone)
        assert all(0 < len(row.items) <= query.k for row in page.rows)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_equals_a_page_made_item_by_item(service: Service, k: int) -> None:
    for user in [*service.release.users.ids[:6], "a stranger"]:
        (page,) = ask(service, [user], k=k)
        assert {row.name: row.items for row in page.rows} == slow_page(
            service.release, service.histories, Query(user, NOW, k)
        )


def test_index_answers_as_the_model_does(service: Service) -> None:
    users = [*service.release.users.ids[:20], "a stranger"]
    assert service.release.index is not None
    by_model = recommend(replace(service.release, index=None), service.histories, [Query(u, NOW) for u in users])
    for page, expected in zip(ask(service, users), by_model, strict=True):
        assert_same(page, expected)


def test_rows_hold_what_they_say(service: Service) -> None:
    release, catalogue = service.release, service.release.catalogue
    users = release.users.ids
    for user, page in zip(users, ask(service, users), strict=True):
        shown = items_of(page)
        assert len(shown) == len(set(shown))
        assert min(shown) >= FIRST
        ((past, _),) = service.histories.read([user])
        assert not set(shown) & set(past.item[past.views["watched"]].tolist())
        disliked = release.schema.select("dislike == 1", past.columns)
        assert not set(shown) & set(past.item[disliked].tolist())
        assert page.is_known == bool(past.views["watched"].any())
        assert [row.name for row in page.rows][:2] == ["for-you", "popular"]
        for row in page.rows:
            assert row.scores == sorted(row.scores, reverse=True)
            if row.name not in ("for-you", "popular"):
                assert {catalogue.describe(item)["collection"] for item in row.items} == {row.name}


def test_history_can_be_shown_again(service: Service) -> None:
    again = replace(
        service.release, settings=service.release.settings.model_copy(update={"exclude_history": False, "hide": None})
    )
    (page,) = recommend(again, service.histories, [Query(service.release.users.ids[0], NOW, 200)])
    assert len(items_of(page)) == len(again.catalogue) - FIRST


def test_strangers_get_the_same_sensible_page(service: Service) -> None:
    first, *others = ask(service, ["nobody", "no one", "", "9" * 50, 12])
    assert not first.is_known
    assert {"for-you", "popular"} < {row.name for row in first.rows}
    assert all(row.items for row in first.rows)
    assert "Nothing known yet" in first.rows[0].reason
    for other in others:
        assert [replace(row) for row in other.rows] == first.rows


def test_only_what_lies_before_counts(client: Client, service: Service) -> None:
    user = service.release.users.ids[0]
    moment = 1_750_000_000_000
    (before,) = ask(service, [user], moment)
    item = service.release.catalogue.describe(before.rows[0].items[0])["item_id"]
    for time_ms in (moment, moment + 1, moment + 86_400_000):
        post(client, {"user_id": user, "item_id": item, "time_ms": time_ms, "feedback": {"like": 1}})
    rows(client, user)  # what is popular now has seen the stream
    (at,) = ask(service, [user], moment)
    assert_same(at, before, tolerance=0.0)
    (after,) = ask(service, [user], moment + 1)
    assert before.rows[0].items[0] not in items_of(after)
    assert after.rows[0].items != before.rows[0].items


def test_offline_is_served(tiny: Published, tmp_path: Path) -> None:
    workspace = tiny.lend(tmp_path / "lent")
    service = Service(tiny.release, workspace / "live")
    users = [str(user) for user in service.release.users.ids[:3]] + ["a stranger"]
    with TestClient(create_app(service)) as client:
        for user in users[1:]:
            liked = ids(rows(client, user)["for-you"])[:3]
            post(client, *({"user_id": user, "item_id": item, "feedback": {"like": True}} for item in liked))
        served = [client.get("/v1/recommendations", params={"user_id": user, "k": 15}).json() for user in users]
    out = io.StringIO()
    recommend_users(workspace, users, 15, True, Console(file=out))
    pages = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [page["user_id"] for page in pages] == users
    for page, expected in zip(pages, served, strict=True):
        assert page["is_known"] == expected["is_known"]
        for row, twin in zip(page["rows"], expected["rows"], strict=True):
            assert (row["name"], row["reason"], ids(row["items"])) == (twin["name"], twin["reason"], ids(twin["items"]))
            scores = [item["score"] for item in row["items"]]
            assert scores == pytest.approx([item["score"] for item in twin["items"]], rel=1e-5, abs=1e-5)


def test_offline_as_tables(strange: Published, tmp_path: Path) -> None:
    out = io.StringIO()
    workspace = strange.lend(tmp_path / "lent")
    recommend_users(workspace, ["[red]nobody[/red]"], 3, False, Console(file=out, width=120))
    assert "[red]nobody[/red]: For you" in out.getvalue()
    assert "Title of #hash" in out.getvalue()
    with pytest.raises(BadRequest, match="--user has 0 characters"):
        recommend_users(workspace, [""], 3, False, Console(file=out))


def test_without_an_index(start: Callable[[Published], Service], strange: Published) -> None:
    service = start(strange)
    assert service.release.index is None
    assert isinstance(service.release.retriever, Popular)
    catalogue = service.release.catalogue
    stranger, zoe = ask(service, ["a stranger", "zoë"], k=4)
    # By hand: item number n was chosen by n + 1 of the crowd, by ann/lee, by zoë where n % 3 > 0 and by a&b=c where
    # n % 3 = 2; but the last two events of each are held out, which are those of the last two items they chose.
    (row,) = stranger.rows
    assert [catalogue.describe(item)["item_id"] for item in row.items] == ["#hash", "<script>", "a b", "100%"]
    assert row.scores == [9 + 1 + 1, 10 + 1, 8 + 1 + 1, 6 + 1 + 1 + 1]
    assert not {catalogue.vocabulary.dense(STRANGE_ITEMS[n]) for n in (1, 2, 4, 5, 7, 8, 10, 11)} & set(items_of(zoe))


def test_more_than_the_catalogue(start: Callable[[Published], Service], strange: Published, numbers: Published) -> None:
    service = start(strange)
    (page,) = ask(service, ["a stranger"], k=200)
    assert sorted(items_of(page)) == list(range(FIRST, len(service.release.catalogue)))
    service = start(numbers)
    catalogue = service.release.catalogue
    (page,) = ask(service, [7], k=200)
    taken: set[ExternalId] = {LARGE, LARGE + 1, LARGE + 2, LARGE + 3}
    assert {catalogue.describe(item)["item_id"] for item in items_of(page)} == set(catalogue.vocabulary.ids) - taken


def test_someone_who_saw_everything(open_client: Callable[[Published], Client], strange: Published) -> None:
    client = open_client(strange)
    post(client, *({"user_id": "glutton", "item_id": item} for item in STRANGE_ITEMS))
    assert rows(client, "glutton") == {}
