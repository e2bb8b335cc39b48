"""Filters: what is blocked is nowhere, on every surface or on its own one, and what was shown in vain comes no more."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.end_to_end.test_tiny_project import succeed, upnext
from tests.serving.asking import NOW, ids, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import Published
from upnext.base.errors import BadConfig
from upnext.commands.project import load_project
from upnext.pipeline import publish
from upnext.serving.changes import Change
from upnext.serving.everyone import recommend_everyone
from upnext.serving.fallback import Fallback
from upnext.serving.filters import shown_in_vain
from upnext.serving.recommend import Query, recommend
from upnext.serving.service import Service

ALL_SURFACES: list[dict[str, str | float]] = [{"surface": "home"}, {"surface": "browse"}, {}]


def again(published: Published, folder: Path, *settings: str) -> Published:
    """The same service, published with other settings."""
    own = Published(published.file, published.lend(folder))
    project = load_project(own.file, [f"workspace={own.workspace}", *settings])
    assert project.publish is not None
    publish.run(project.publish, project.opened())
    return own


def shown(service: Service, user: Any, context: dict[str, str | float], k: int = 200) -> set[int]:
    """Everything on a user's page, which is long enough for the whole catalogue."""
    (page,) = recommend(service.release, service.histories, [Query(user, NOW, k, context)])
    return {item for row in page.rows for item in row.items}


def having(service: Service, genre: str) -> set[int]:
    """The items of a genre, by dense id."""
    assortment = service.histories.assortment
    return {item for item in range(2, len(assortment)) if genre in assortment.describe(item)["genres"]}


@pytest.fixture
def genre(service: Service) -> str:
    """One that some items have."""
    found: str = service.histories.assortment.describe(5)["genres"][0]
    return found


def test_blocked_items_are_nowhere(
    open_client: Callable[[Published], Client], tiny: Published, genre: str, tmp_path: Path
) -> None:
    filtered = again(
        tiny, tmp_path, 'publish.filter.items=["t000007"]', f'publish.filter.values={{genres=["{genre}"]}}'
    )
    client = open_client(filtered)
    for params in ({}, {"surface": "browse"}):
        found = [one for row in rows(client, "u000003", k=100, **params).values() for one in row]
        assert found
        assert "t000007" not in ids(found)
        assert not [one for one in found if genre in one["genres"]]
    assert client.get("/v1/items/t000007").json()["is_available"] is False
    assert client.get("/v1/search", params={"q": "t000007"}).json()["items"] == []


def test_what_a_surface_blocks_is_shown_on_others(
    start: Callable[[Published], Service], tiny: Published, genre: str, tmp_path: Path
) -> None:
    rule = f'publish.surface_filters.browse={{values={{genres=["{genre}"]}}}}'
    before = start(tiny)
    of_genre = having(before, genre)
    usual = {user: [shown(before, user, context) for context in ALL_SURFACES] for user in ("u000001", "nobody")}
    service = start(again(tiny, tmp_path, rule))
    for user, (home, browse, elsewhere) in usual.items():
        assert shown(service, user, ALL_SURFACES[0]) == home
        assert shown(service, user, ALL_SURFACES[1]) == browse - of_genre
        assert shown(service, user, ALL_SURFACES[2]) == elsewhere
    # Together as alone, whatever the surfaces beside it.
    queries = [Query("u000001", NOW, 20, context) for context in ALL_SURFACES]
    for query, page in zip(queries, recommend(service.release, service.histories, queries), strict=True):
        (alone,) = recommend(service.release, service.histories, [query])
        assert [row.items for row in page.rows] == [row.items for row in alone.rows]
    # Everybody's table, what is shown in a hurry, and what is imagined follow the same rules.
    everyone = recommend_everyone(service.release, service.histories, NOW, 200, ALL_SURFACES[1])
    assert not {item for block in everyone for item in block.items.ravel().tolist()} & of_genre
    (row,) = Fallback(service.histories).page(Query("u000001", NOW, 200, ALL_SURFACES[1]), "late").rows
    assert not set(row.items) & of_genre


def test_a_new_item_with_a_blocked_value_is_blocked(
    start: Callable[[Published], Service], tiny: Published, genre: str, tmp_path: Path
) -> None:
    service = start(again(tiny, tmp_path, f'publish.filter.values={{genres=["{genre}"]}}'))
    for item, genres in (("fine", ["Unheard of"]), ("not fine", ["Unheard of", genre])):
        asyncio.run(service.change([Change(item, {"genres": genres})]))
    items = {service.histories.assortment.describe(item)["item_id"] for item in shown(service, "u000001", {})}
    assert "fine" in items
    assert "not fine" not in items


def test_shown_in_vain_comes_no_more(
    open_client: Callable[[Published], Client], tiny: Published, tmp_path: Path
) -> None:
    client = open_client(again(tiny, tmp_path, "publish.filter.most_shown=3"))
    first, second = ids(rows(client, "ann")["for-you"])[:2]
    for number in range(2):
        post(client, *({"user_id": "ann", "item_id": item, "feedback": {"click": 0}} for item in (first, second)))
        assert first in [one for row in rows(client, "ann").values() for one in ids(row)], number
    post(client, {"user_id": "ann", "item_id": first, "feedback": {"click": 0}})
    page = [one for row in rows(client, "ann", k=100).values() for one in ids(row)]
    assert first not in page
    assert second in page
    assert first in [one for row in rows(client, "bob", k=100).values() for one in ids(row)]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=12),
    st.lists(st.sampled_from([1.0, 2.0, 3.0, np.inf]), min_size=3, max_size=3),
)
def test_in_vain_equals_a_slow_loop(events: list[tuple[int, int, bool]], most: list[float]) -> None:
    user, item, is_chosen = (np.array([one[part] for one in events], np.int64) for part in range(3))
    found = shown_in_vain(user, item, is_chosen.astype(bool), np.array(most))
    for place, (who, what, _) in enumerate(events):
        own = [chosen for other, which, chosen in events if (other, which) == (who, what)]
        assert found[place] == (len(own) >= most[who] and not any(own))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('publish.filter.items=["t0"]', "publish.filter.items names 't0', and no item of the catalogue has this id"),
        ("publish.filter.items=[7]", "publish.filter.items names 7.*its ids are of the type str"),
        ('publish.filter.values={genre=["x"]}', "names the column 'genre'; the items have .*'genres'"),
        (
            'publish.filter.values={genres=["x"]}',
            "publish.filter.values.genres names 'x', which no item has; there are",
        ),
        ('publish.surface_filters.hom={items=["t000007"]}', "has rules for 'hom'; .*'surface' of the log is one of"),
    ],
)
def test_slips_are_refused(setting: str, said: str, tiny: Published, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=said):
        again(tiny, tmp_path, setting)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("publish.filter.values={genres=[]}", r"values.genres = \[\] blocks nothing"),
        ("publish.filter.most_shown=0", "most_shown"),
        ('publish.filter.genres=["Horror"]', "genres"),
    ],
)
def test_rules_that_mean_nothing_are_refused(setting: str, said: str, tiny: Published) -> None:
    with pytest.raises(BadConfig, match=said):
        load_project(tiny.file, [setting])


def test_most_shown_needs_what_counts_as_chosen(numbers: Published, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"publish.filter.most_shown has no effect: every event counts as chosen"):
        again(numbers, tmp_path, "publish.filter.most_shown=3")


def test_the_command_line_follows_the_rules(tiny: Published, tmp_path: Path) -> None:
    own = again(tiny, tmp_path, 'publish.surface_filters.browse={items=["t000007", "t000009"]}')
    asked = ["recommend", str(own.workspace), "--user", "u000001", "-k", "200", "--json"]
    blocked = {"t000007", "t000009"}
    browse, home = (
        {
            item["item_id"]
            for row in json.loads(succeed(*asked, "--context", f"surface={where}"))["rows"]
            for item in row["items"]
        }
        for where in ("browse", "home")
    )
    assert not blocked & browse
    assert blocked <= home
    settings = ["--set", f"workspace={own.workspace}", "--set", 'publish.filter.items=["t000oo7"]']
    done = upnext("publish", own.file, *settings)
    assert done.returncode == 2
    assert "no item of the catalogue has this id" in done.stderr
