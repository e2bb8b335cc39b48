"""Search by title: case, accents, order of the matches, and odd titles."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Client
from tests.serving.projects import LARGE, MARKUP, Published
from upnext.serving.titles import TitleIndex, fold

TITLES = [
    "The Last Amélie",  # 0
    "Star",  # 1
    "A Star Is Born",  # 2
    "Starlight Express",  # 3
    "Amelie (2001)",  # 4
    "Mustard",  # 5
    "Born to Start",  # 6
    "Don't Look Now!",  # 7
    "STRASSE und Straße",  # 8
    "!!!",  # 9
    "🎬 Film",  # 10
    "فيلم قديم",  # 11
    "two\nlines",  # 12
    "x",  # 13
]


@pytest.fixture(scope="module")
def index() -> TitleIndex:
    return TitleIndex(TITLES)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("star", [1, 3, 2, 6, 5]),  # itself, begins with it, a word begins with it, holds it
        ("STAR ", [1, 3, 2, 6, 5]),
        ("amelie", [4, 0]),
        ("Amélie", [4, 0]),
        ("amelie 2001", [4]),
        ("born star", [2, 6]),  # words in any order
        ("star born", [2, 6]),
        ("dont look", [7]),
        ("don’t", [7]),
        ("strasse", [8]),
        ("!!!", [9]),
        ("🎬", [10]),
        ("قديم", [11]),
        ("two lines", [12]),
        ("x", [13, 3]),
        ("zebra", []),
        ("", []),
        (" \n ", []),
    ],
)
def test_what_is_found_in_which_order(index: TitleIndex, query: str, found: list[int]) -> None:
    assert index.search(query, 20) == found
    assert index.search(query, 2) == found[:2]


def test_no_titles() -> None:
    assert TitleIndex([]).search("a", 5) == []


def slowly(titles: list[str], query: str) -> set[int]:
    """Every title that holds all words of the query, compared one by one."""
    words = fold(" ".join(query.split())).split()
    return {
        n for n, title in enumerate(titles) if words and all(word in fold(" ".join(title.split())) for word in words)
    }


texts = st.text(st.sampled_from("aAáb ß'’-.\n\t\u0301\u200f\u2028Б🎬"), max_size=8)


@given(st.lists(texts, max_size=8), texts)
def test_as_many_as_a_slow_search_finds(titles: list[str], query: str) -> None:
    found = TitleIndex(titles).search(query, 100)
    assert set(found) == slowly(titles, query)
    assert len(found) == len(set(found))


def ask(client: Client, text: str, **params: Any) -> dict[str, Any]:
    answer = client.get("/v1/search?" + urlencode({"q": text, **params}))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_search_over_http(client: Client) -> None:
    first = client.get("/v1/recommendations", params={"user_id": "u"}).json()["rows"][0]["items"][0]
    found = ask(client, first["title"].upper())
    assert found["query"] == first["title"].upper()
    shown = {name: first[name] for name in ("item_id", "title", "genres", "collection")}
    assert found["items"][0] == shown
    # By its id as well, and before any title.
    assert ask(client, first["item_id"])["items"][0] == shown
    few = ask(client, "the", limit=2)
    assert len(few["items"]) == 2
    assert few["has_more"] is True
    assert ask(client, "the", limit=100)["items"][:2] == few["items"]
    assert found["has_more"] is False
    assert ask(client, "no such title anywhere") == {
        "query": "no such title anywhere",
        "items": [],
        "has_more": False,
    }


def test_search_strange_and_integer_ids(open_client: Any, strange: Published, numbers: Published) -> None:
    client = open_client(strange)
    assert [item["title"] for item in ask(client, "<IMG onerror")["items"]] == [MARKUP]
    assert ask(client, "a/b")["items"][0]["item_id"] == "a/b"
    client = open_client(numbers)
    assert ask(client, str(LARGE))["items"][0]["item_id"] == LARGE
    assert ask(client, "12345") == {"query": "12345", "items": [], "has_more": False}
