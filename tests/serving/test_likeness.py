"""Why an item is shown: what it is like, of what the user chose lately."""

from collections.abc import Callable

import numpy as np
from litestar.testing import TestClient

from tests.serving.asking import ask, ids, post, rows
from tests.serving.conftest import Client
from tests.serving.projects import Published
from upnext.base.ids import FIRST
from upnext.serving.app import create_app
from upnext.serving.likeness import LATELY, like_chosen
from upnext.serving.service import Service

Start = Callable[[Published], Service]


def slowly(vectors: np.ndarray, item: int, chosen: list[int]) -> int:
    """The one most like it, the latest of equals, if it is like it at all."""
    best, found = 0.5, 0
    for one in reversed(chosen):
        lengths = float(np.linalg.norm(vectors[item]) * np.linalg.norm(vectors[one]))
        cosine = float(vectors[item] @ vectors[one]) / max(lengths, 1e-12)
        if one != item and (cosine > best or (cosine >= 0.5 and not found)):
            best, found = cosine, one
    return found


def test_equals_a_loop(tiny: Published, start: Start) -> None:
    assortment = start(tiny).histories.assortment
    assert assortment.release.index is not None
    vectors = assortment.release.directions.vectors
    rng = np.random.default_rng(3)
    found: list[int] = []
    for _ in range(20):
        items, chosen = (rng.integers(FIRST, len(vectors), n).tolist() for n in (8, 12))
        expected = [slowly(vectors, item, chosen) for item in items]
        assert like_chosen(assortment, items, np.array(chosen)) == expected
        found += expected
    assert 0 < np.count_nonzero(found) < len(found)  # some are like one, some like none
    assert like_chosen(assortment, [5, 6], np.array([5, 5, 1])) == [0, slowly(vectors, 6, [5])]
    assert like_chosen(assortment, [5, 6], np.array([], np.int64)) == [0, 0]
    assert like_chosen(assortment, [], np.array([5])) == []


def test_what_was_chosen_last_counts_and_rows_of_others_say_nothing(tiny: Published, start: Start) -> None:
    service = start(tiny)
    user = service.release.users.ids[0]
    (page, stranger) = ask(service, [user, "a stranger"])
    ((events, _),) = service.histories.read([user])
    lately = events.item[events.views["watched"]][-LATELY:].tolist()
    named = dict.fromkeys(row.name for row in page.rows)
    assert {"for-you", "popular"} < named.keys()
    for row in page.rows:
        if row.name != "for-you":
            assert row.because == ()
        else:
            assert len(row.because) == len(row.items)
            assert set(row.because) <= {0, *lately}
    assert any(any(row.because) for row in page.rows)
    assert not any(any(row.because) for row in stranger.rows)


def test_an_answer_says_it_and_popularity_does_not(
    tiny: Published, strange: Published, open_client: Callable[[Published], Client], start: Start
) -> None:
    client = open_client(tiny)
    items = ids(rows(client, "guest", k=100)["for-you"])
    post(client, *({"user_id": "guest", "item_id": item, "feedback": {"played": 1.0}} for item in items[:3]))
    answered = rows(client, "guest", k=100)["for-you"]
    said = [one["because"] for one in answered if "because" in one]
    assert {one["item_id"] for one in said} <= set(items[:3])
    assert said
    assert said[0].keys() == {"item_id", "title", "genres", "collection"}
    with TestClient(create_app(start(strange))) as other:
        post(other, {"user_id": "ann/lee", "item_id": "a/b"})
        for row in rows(other, "ann/lee").values():
            assert all("because" not in item for item in row)
