"""Everyone at once: each user's row is the one that they would be served alone, and the file is whole or not there."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from tests.serving.asking import NOW, ask, post
from tests.serving.conftest import Client
from tests.serving.projects import LARGE, Published
from upnext.base.errors import BadConfig
from upnext.commands.recommend import recommend_all, write_all
from upnext.serving import everyone, retrieve
from upnext.serving.everyone import Block, recommend_everyone
from upnext.serving.histories import Histories
from upnext.serving.recommend import Query, recommend
from upnext.serving.release import Release
from upnext.serving.service import Service


def alone(release: Release, histories: Histories, k: int) -> list[tuple[list[int], list[float]]]:
    """Each user's first row, asked for one by one; empty where they get none of their own."""
    pages = [recommend(release, histories, [Query(user, NOW, k)])[0] for user in release.users.ids]
    rows = [page.rows[0] if page.rows and page.rows[0].name == "for-you" else None for page in pages]
    return [([], []) if row is None else (row.items, row.scores) for row in rows]


def check_same(release: Release, histories: Histories, k: int) -> None:
    blocks = list(recommend_everyone(release, histories, NOW, k))
    assert np.concatenate([block.users for block in blocks]).tolist() == list(range(2, len(release.users)))
    items, scores = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("items", "scores"))
    for number, (expected, expected_scores) in enumerate(alone(release, histories, k)):
        assert items[number][items[number] > 0].tolist() == expected
        # Float32 products are summed in another order in a larger batch.
        np.testing.assert_allclose(scores[number][: len(expected)], expected_scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 10, 200])
def test_each_row_is_that_of_the_user_alone(service: Service, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everyone, "_USERS", 64)  # several blocks, the last one smaller
    monkeypatch.setattr(everyone, "_TOKENS", 50)
    check_same(service.release, service.histories, k)


def test_a_retriever_without_vectors_is_asked_in_parts(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve, "_SCORES", 5 * len(service.release.catalogue))
    check_same(replace(service.release, index=None), service.histories, 7)


def test_strange_ids_and_a_catalogue_smaller_than_k(strange: Published, numbers: Published) -> None:
    for published in (strange, numbers):
        release = Release.load(published.release)
        try:
            check_same(release, Histories(release, None), 50)
        finally:
            release.histories.close()


def test_posted_events_count(client: Client, service: Service) -> None:
    users = service.release.users.ids
    before = alone(service.release, service.histories, 5)
    chosen = service.release.catalogue.vocabulary.external(before[3][0][0])
    post(client, {"user_id": users[3], "item_id": chosen, "feedback": {"played": 1.0}, "context": {"hour": "3"}})
    check_same(service.release, Histories(service.release, service.histories.live), 5)
    (block,) = recommend_everyone(service.release, Histories(service.release, service.histories.live), NOW, 5)
    assert before[3][0][0] not in block.items[3]


def test_many_histories_are_read_as_one_by_one(service: Service) -> None:
    users = [*service.release.users.ids[:7], "nobody"]
    pasts = service.histories.read_many(users)
    assert len(pasts) == 8
    for number, (events, _) in enumerate(service.histories.read(users)):
        part = pasts.events.take(slice(pasts.offsets[number], pasts.offsets[number + 1]))
        assert part.item.tolist() == events.item.tolist()
        assert part.time_ms.tolist() == events.time_ms.tolist()
        for name, column in events.columns.items():
            np.testing.assert_array_equal(part.columns[name].values, column.values)
            np.testing.assert_array_equal(part.columns[name].observed, column.observed)
    assert len(service.histories.read_many(["nobody"]).events) == 0


def test_encoding_by_length_gives_each_user_their_own_state(service: Service) -> None:
    pasts = service.histories.read_many(service.release.users.ids[:40])
    with torch.inference_mode():
        one = retrieve.encode(service.release.retriever, pasts).tensors["hidden"]
        other = retrieve.encode(service.release.retriever, pasts, 30).tensors["hidden"]
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_file_holds_rows_in_order(tiny: Published, tmp_path: Path) -> None:
    screen = io.StringIO()
    recommend_all(tiny.workspace, tmp_path / "recs.parquet", 4, True, Console(file=screen, width=40))
    said = json.loads(screen.getvalue())
    table = pq.read_table(tmp_path / "recs.parquet")
    assert table.column_names == ["user_id", "rank", "item_id", "score"]
    release = Release.load(tiny.release)
    assert (said["users"], said["rows"]) == (len(release.users.ids), table.num_rows)
    assert list(dict.fromkeys(table["user_id"].to_pylist())) == release.users.ids
    assert table["rank"].to_pylist() == [1, 2, 3, 4] * said["users"]
    release.histories.close()


def test_integer_ids_beyond_floats_come_back(numbers: Published, tmp_path: Path) -> None:
    recommend_all(numbers.workspace, tmp_path / "recs.parquet", 3, False, Console(file=io.StringIO()), 1)
    table = pq.read_table(tmp_path / "recs.parquet")
    assert LARGE in table["user_id"].to_pylist()
    assert all(item >= LARGE for item in table["item_id"].to_pylist())


def test_an_interrupted_file_does_not_appear(service: Service, tmp_path: Path) -> None:
    def fail() -> Iterator[Block]:
        yield from recommend_everyone(service.release, service.histories, NOW, 3)
        raise OSError(28, "No space left on device")

    out = tmp_path / "out" / "recs.parquet"
    out.parent.mkdir()
    out.write_text("the old one")
    with pytest.raises(OSError, match="space"):
        write_all(service.histories, fail(), out, Console(file=io.StringIO()))
    assert [path.name for path in out.parent.iterdir()] == ["recs.parquet"]
    assert out.read_text() == "the old one"


def test_bad_places_are_refused(tiny: Published, tmp_path: Path) -> None:
    for out, words in ((tmp_path / "recs.csv", r"\.parquet"), (tmp_path / "no" / "recs.parquet", "no folder")):
        with pytest.raises(BadConfig, match=words):
            recommend_all(tiny.workspace, out, 3, False, Console())


def test_the_page_still_agrees(service: Service) -> None:
    users = service.release.users.ids[:5]
    rows = [page.rows[0].items for page in ask(service, users, k=10)]
    assert rows == [items for items, _ in alone(service.release, service.histories, 10)[:5]]
