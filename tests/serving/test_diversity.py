"""Rows by maximal marginal relevance: as a slow loop has them, on pages as for everybody."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.diversity import slow_order
from tests.serving.asking import NOW, ask
from tests.serving.counts import alone, make
from tests.serving.projects import Published
from upnext.base.errors import BadConfig
from upnext.commands.project import load_project
from upnext.pipeline import publish
from upnext.serving.diversity import diversified, marginal_order
from upnext.serving.everyone import recommend_everyone
from upnext.serving.recommend import Query, recommend
from upnext.serving.service import Service

Start = Callable[[Published], Service]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([0.1, 0.5, 1.0]), st.integers(1, 9))
def test_equals_a_loop(seed, C, share, steps):
    g = np.random.default_rng(seed)
    scores = -np.sort(-g.normal(size=(3, C)).astype(np.float32), axis=1)
    scores[1, g.integers(0, C + 1) :] = -np.inf
    scores[2] = 1.5  # all alike
    vectors = g.normal(size=(3, C, 4)).astype(np.float32)
    vectors[g.random((3, C)) < 0.2] = 0  # nothing is known of them
    lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
    order = marginal_order(scores, vectors / np.maximum(lengths, 1e-12), share, steps)
    for row in range(3):
        assert order[row].tolist() == slow_order(scores[row], vectors[row], share, steps)


def published_so(tiny: Published, folder: Path, *more: str) -> Published:
    """The tiny service with other settings of its release."""
    own = alone(tiny, folder)
    project = load_project(own.file, [f"workspace={own.workspace}", *more])
    assert project.publish is not None
    publish.run(project.publish, project.opened())
    return own


def test_rows_are_spread_and_hold_no_item_twice(tiny: Published, tmp_path: Path, start: Start) -> None:
    own = published_so(tiny, tmp_path / "workspace", "publish.diversity=0.5")
    users = [*start(tiny).release.users.ids[:6], "somebody new"]
    before, service = ask(start(tiny), users, k=6), start(own)
    after = ask(service, users, k=6)
    assert all("waits" in page.rows[0].reason for page in after)
    assert [page.rows[0].items for page in before] != [page.rows[0].items for page in after]
    assert service.release.index is not None
    vectors = service.release.directions.vectors
    likeness = [
        np.mean([(vectors[page.rows[0].items] @ vectors[page.rows[0].items].T).mean() for page in pages])
        for pages in (before, after)
    ]
    assert likeness[1] < likeness[0] - 0.05
    for page in after:
        shown = [item for row in page.rows for item in row.items]
        assert len(shown) == len(set(shown))
        assert page.rows[0].items[0] == before[after.index(page)].rows[0].items[0]


def test_who_else_asks_changes_nothing_and_everybody_is_answered_alike(
    tiny: Published, tmp_path: Path, start: Start
) -> None:
    service = start(published_so(tiny, tmp_path / "workspace", "publish.diversity=0.3"))
    users = service.release.users.ids[:5]
    queries = [Query(user, NOW, k) for user, k in zip(users, (3, 5, 8, 4, 6), strict=True)]
    together = recommend(service.release, service.histories, queries)
    for query, page in zip(queries, together, strict=True):
        (alone_,) = recommend(service.release, service.histories, [query])
        assert [row.items for row in page.rows] == [row.items for row in alone_.rows]
    found = {
        int(user): items.tolist()
        for block in recommend_everyone(service.release, service.histories, NOW, 5)
        for user, items in zip(block.users, block.items, strict=True)
    }
    for page in ask(service, users, k=5):
        assert found[service.release.users.dense(page.user_id)] == page.rows[0].items


def test_a_ranker_and_many_rows_at_once(hours: Published, tmp_path: Path, start: Start) -> None:
    service = start(published_so(hours, tmp_path / "workspace", "publish.diversity=0.4"))
    users = service.release.users.ids[:4]
    together = recommend(service.release, service.histories, [Query(user, NOW, 7) for user in users])
    for user, page in zip(users, together, strict=True):
        (alone_,) = recommend(service.release, service.histories, [Query(user, NOW, 7)])
        assert [row.items for row in page.rows] == [row.items for row in alone_.rows]
    assert service.release.index is not None
    best = [(np.array([[2, 3, -1], [4, 5, 6]]), np.array([[0.5, 0.2, -np.inf], [3, 2, 1]], np.float32))] * 2
    rows = diversified(service.histories.assortment, best, np.array([3, 2]), 0.4, 3)
    assert rows[0][0][0].tolist()[2] == rows[0][0][1].tolist()[2] == -1
    assert set(rows[1][0][1].tolist()) == {4, 5, -1}
    for first, second in zip(*rows, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("publish.diversity=0.2", "the retriever 'now' has no item vectors"),
        ("publish.diversity=1.5", "publish.diversity"),
        ("publish.diversity=-0.1", "publish.diversity"),
    ],
)
def test_what_cannot_be_is_refused(counts: Published, tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        make(alone(counts, tmp_path / "workspace"), [setting])
