"""Expected utility: the order of a row is that of what would come of its items, here and now, on this surface."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from rich.console import Console

from tests.end_to_end.test_tiny_project import succeed, upnext
from tests.reference.pages import slow_utility
from tests.serving.asking import NOW
from tests.serving.projects import Published
from upnext.base.artifacts import Workspace
from upnext.base.batches import SequenceBatch, State
from upnext.base.errors import BadConfig
from upnext.base.ids import FIRST, ExternalId
from upnext.commands.project import load_project
from upnext.commands.recommend import Setting, recommend_all
from upnext.models.argus import ARGUS
from upnext.pipeline import publish
from upnext.serving.app import create_app
from upnext.serving.changes import Change
from upnext.serving.everyone import recommend_everyone
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.recommend import Page, Query, recommend
from upnext.serving.release import Release
from upnext.serving.service import Service

MORNING: dict[str, str | float] = {"hour": "08"}
NIGHT: dict[str, str | float] = {"hour": "21"}


@pytest.fixture
def service(start: Callable[[Published], Service], hours: Published) -> Service:
    return start(hours)


def ask(service: Service, *queries: Query) -> list[Page]:
    return recommend(service.release, service.histories, queries)


def is_night(service: Service, items: list[int]) -> list[bool]:
    """Whether titles are night titles: by the plan, those of odd numbers."""
    return [int(service.histories.assortment.describe(item)["item_id"][1:]) % 2 == 1 for item in items]


def rank_all(service: Service, settings: Mapping[str, Any]) -> Release:
    """The same release under other settings."""
    return replace(service.release, settings=service.release.settings.model_copy(update=settings))


def test_the_hour_turns_the_order_as_the_truth_does(service: Service) -> None:
    for user in [*service.release.users.ids[:12], "a stranger"]:
        morning, night = ask(service, Query(user, NOW, 8, MORNING), Query(user, NOW, 8, NIGHT))
        first, other = (is_night(service, page.rows[0].items) for page in (morning, night))
        # By the plan a fitting title is liked nine times in ten, another once in ten; eight of each kind are there.
        assert sum(first) <= 2
        assert sum(other) >= 6
        assert "in the order of the utility that argus expects" in morning.rows[0].reason


def test_scores_are_the_weighted_expectations_of_each_item_alone(service: Service) -> None:
    release = service.release
    for user in (*release.users.ids[:3], "a stranger"):
        for context in (MORNING, {"hour": "21", "surface": "both"}, {"surface": "critics"}, {}):
            query = Query(user, NOW, 6, context)
            (page,) = ask(service, query)
            assert [row.name for row in page.rows] == ["for-you", "Even", "Odd"]
            for row in page.rows:
                alone = [slow_utility(release, service.histories, query, item) for item in row.items]
                np.testing.assert_allclose(row.scores, alone, rtol=1e-4, atol=1e-5)
                assert row.scores == sorted(row.scores, reverse=True)
            # The first row has the best of everything that is not hidden: 40 titles are fewer than the candidates.
            shown = {item for row in page.rows for item in row.items}
            least = page.rows[0].scores[-1]
            assert all(score <= least for row in page.rows[1:] for score in row.scores)
            assert len(shown) == sum(len(row.items) for row in page.rows)


def test_each_surface_has_its_weights(service: Service) -> None:
    user = service.release.users.ids[4]
    home, critics, both, unlisted = (
        ask(service, Query(user, NOW, 20, {**MORNING, "surface": surface}))[0].rows[0]
        for surface in ("home", "critics", "both", "no such surface")
    )
    assert sum(is_night(service, home.items[:8])) <= 2
    assert sum(is_night(service, critics.items[:8])) >= 6  # there a like counts against a title
    assert max(critics.scores) <= 0
    assert home.scores != both.scores
    assert sum(is_night(service, unlisted.items[:8])) <= 2


def test_the_retriever_chooses_the_candidates(service: Service) -> None:
    release = rank_all(service, {"num_candidates": 1, "ranker": None})
    query = Query(service.release.users.ids[2], NOW, 2, NIGHT)
    (by_retriever,) = recommend(replace(release, ranker=None), service.histories, [replace(query, k=6)])
    (page,) = recommend(rank_all(service, {"num_candidates": 1}), service.histories, [query])
    # Three times two is more than one: the six most probable next items, the two of most utility among them.
    candidates = by_retriever.rows[0].items
    utility = {item: slow_utility(service.release, service.histories, query, item) for item in candidates}
    assert page.rows[0].items == sorted(candidates, key=lambda item: -utility[item])[:2]
    assert by_retriever.rows[0].reason.startswith("Ranked by argus from ")


def test_together_as_alone_and_everyone_as_each(service: Service) -> None:
    release = rank_all(service, {"num_candidates": 10})
    users = release.users.ids
    queries = [
        Query(users[0], NOW, 1, MORNING),
        Query(users[1], NOW, 9, {"hour": "21", "surface": "critics"}),
        Query(users[2], NOW, 4, {"surface": "both"}, unfamiliar=True),
        Query("a stranger", NOW, 40),
    ]
    for query, page in zip(queries, recommend(release, service.histories, queries), strict=True):
        (alone,) = recommend(release, service.histories, [query])
        assert [row.items for row in page.rows] == [row.items for row in alone.rows]
        for row, twin in zip(page.rows, alone.rows, strict=True):
            np.testing.assert_allclose(row.scores, twin.scores, atol=1e-5)
    for unfamiliar in (False, True):
        (block,) = recommend_everyone(release, service.histories, NOW, 4, NIGHT, unfamiliar)
        pages = recommend(release, service.histories, [Query(user, NOW, 4, NIGHT, unfamiliar) for user in users])
        assert [row[row > 0].tolist() for row in block.items] == [page.rows[0].items for page in pages]
        np.testing.assert_allclose(block.scores[0], pages[0].rows[0].scores, atol=1e-5)


def test_a_retriever_that_ranks_is_asked_once(
    service: Service, hours: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = ARGUS.encode

    def counting(model: ARGUS, histories: SequenceBatch) -> State:
        encoded.append(len(histories))
        return encode(model, histories)

    monkeypatch.setattr(ARGUS, "encode", counting)
    assert service.release.ranker is service.release.retriever
    ask(service, Query("u01", NOW, 5, MORNING), Query("u02", NOW, 5, MORNING))
    assert encoded == [2]
    # A ranker of its own reads the same pasts by its own view.
    config = load_project(hours.file).publish
    assert config is not None
    workspace = Workspace(hours.lend(tmp_path / "lent"))
    release = Release.load(publish.run(config.model_copy(update={"retriever": "sasrec"}), workspace).folder)
    histories = Histories(release, None)
    (page,) = recommend(release, histories, [Query("u01", NOW, 5, MORNING)])
    assert encoded == [2, 1]
    assert page.rows[0].reason.startswith("Chosen by sasrec from ")
    query = Query("u01", NOW, 5, MORNING)
    for item, score in zip(page.rows[0].items, page.rows[0].scores, strict=True):
        assert score == pytest.approx(slow_utility(release, histories, query, item), abs=1e-5)
    release.histories.close()


def test_new_items_are_ranked_by_what_is_known_of_them(service: Service) -> None:
    changes = [Change(f"n{n:02d}", {"family": ("day", "night")[n % 2], "shelf": None}) for n in range(12)]
    service._change([(service.running, changes)])
    (morning,) = ask(service, Query("a stranger", NOW, 200, MORNING))
    (night,) = ask(service, Query("a stranger", NOW, 200, NIGHT))
    for page, wanted in ((morning, False), (night, True)):
        place = {service.histories.assortment.describe(i)["item_id"]: n for n, i in enumerate(page.rows[0].items)}
        assert place.keys() >= {change.item_id for change in changes}
        fitting = [place[f"n{n:02d}"] for n in range(12) if bool(n % 2) == wanted]
        others = [place[f"n{n:02d}"] for n in range(12) if bool(n % 2) != wanted]
        assert np.mean(fitting) < np.mean(others)


# --- the unfamiliar setting ------------------------------------------------------------------------------------------


def met(service: Service, user: ExternalId) -> set[int]:
    ((events, _),) = service.histories.read([user])
    return set(events.item.tolist())


def test_unfamiliar_leaves_only_what_the_user_never_met(service: Service) -> None:
    for user in service.release.users.ids[:5]:
        usual, unfamiliar = ask(service, Query(user, NOW, 200), Query(user, NOW, 200, unfamiliar=True))
        everything = set(range(FIRST, len(service.release.catalogue)))
        assert {item for row in unfamiliar.rows for item in row.items} == everything - met(service, user)
        # Otherwise what was met and not liked is shown again.
        assert {item for row in usual.rows for item in row.items} & met(service, user)


def test_unfamiliar_over_http_and_on_the_command_line(service: Service, hours: Published, tmp_path: Path) -> None:
    known = {item["item_id"] for item in map(service.histories.assortment.describe, met(service, "u07"))}
    with TestClient(create_app(service)) as client:
        event = {"user_id": "u05", "item_id": "i00", "feedback": {"like": 0.0}}
        assert client.post("/v1/events", json={"events": [event]}).status_code == 201
        names = {item["item_id"] for item in map(service.histories.assortment.describe, met(service, "u05"))}
        for given, is_shown in (({"unfamiliar": "true"}, False), ({"unfamiliar": "false"}, True), ({}, True)):
            answer = client.get("/v1/recommendations", params={"user_id": "u05", "k": 200, "hour": "08", **given})
            assert answer.status_code == 200, answer.text
            shown = {item["item_id"] for row in answer.json()["rows"] for item in row["items"]}
            assert bool(shown & names) is is_shown
            assert "i00" in names
        refused = client.get("/v1/recommendations", params={"user_id": "u05", "unfamiliar": "maybe"})
        assert refused.status_code == 400
    workspace = hours.lend(tmp_path / "lent")
    for context, wanted in (("hour=08", 0), ("hour=21", 1)):
        said = succeed("recommend", workspace, "-u", "u07", "-k", "5", "--context", context, "--unfamiliar", "--json")
        items = [item["item_id"] for item in json.loads(said)["rows"][0]["items"]]
        assert sum(int(item[1:]) % 2 == wanted for item in items) >= 4
        assert not known & set(items)
    out = tmp_path / "recs.parquet"
    recommend_all(workspace, out, 3, True, Console(file=io.StringIO()), 1, Setting(["hour=21"], True))
    assert out.is_file()


@pytest.mark.parametrize(
    ("context", "words"),
    [("hour", "--context hour has no value; write --context NAME=VALUE"), ("mood=x", "unknown name 'mood'")],
)
def test_bad_contexts_are_explained(hours: Published, context: str, words: str) -> None:
    done = upnext("recommend", hours.workspace, "-u", "u07", "--context", context)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


# --- the lag ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag_ms", [1, 600_000])
def test_the_lag_is_kept_to_the_millisecond(service: Service, lag_ms: int) -> None:
    lagging, prompt = rank_all(service, {"lag": lag_ms}), service.release
    event = LiveEvent("u09", "i08", NOW, "an event", feedback={"like": 1.0}, context=MORNING)
    query = Query("u09", NOW + lag_ms, 6, NIGHT)

    def page(release: Release, time_ms: int) -> Page:
        return recommend(release, service.histories, [replace(query, time_ms=time_ms)])[0]

    before = page(lagging, NOW + lag_ms), page(lagging, NOW + lag_ms + 1)
    service.intake._write([[event]])
    # At exactly the lag the event is not strictly before: nothing that the models read has changed, but what was
    # liked is hidden at once.
    at, after = page(lagging, NOW + lag_ms), page(lagging, NOW + lag_ms + 1)
    dense = service.histories.assortment.dense("i08")
    for row, same in zip(at.rows, before[0].rows, strict=True):
        kept = {item: score for item, score in zip(same.items, same.scores, strict=True) if item != dense}
        shared = {item: score for item, score in zip(row.items, row.scores, strict=True) if item in kept}
        assert shared.keys() == kept.keys()
        assert list(shared.values()) == pytest.approx([kept[item] for item in shared], abs=1e-6)
        assert dense not in row.items
        assert row.reason == same.reason
    assert after.rows[0].scores != before[1].rows[0].scores
    assert after.rows[0].reason != before[1].rows[0].reason  # one event more is counted
    assert after.rows[0].items == page(prompt, NOW + lag_ms + 1).rows[0].items
    np.testing.assert_allclose(after.rows[0].scores, page(prompt, NOW + lag_ms + 1).rows[0].scores, atol=1e-6)


def test_a_newcomer_is_known_before_the_lag_is_over(service: Service) -> None:
    service.intake._write([[LiveEvent("fresh", "i08", NOW, "an event", feedback={"like": 1.0})]])
    (page,) = recommend(rank_all(service, {"lag": 1000}), service.histories, [Query("fresh", NOW + 10, 5)])
    assert page.is_known
    assert page.rows[0].reason.startswith("Nothing known yet")


# --- bad settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('publish.ranker="best"', "publish.ranker is 'best'; the models are ['argus', 'sasrec']"),
        ("publish.utility={}", "ranker 'argus' has to know what feedback is worth: add [publish.utility]"),
        ("publish.utility.like=0", "every feedback in utility is worth nothing"),
        ("publish.surfaces.both={}", "every feedback in surfaces.both is worth nothing"),
        ("publish.utility.like=inf", "finite number"),
        ("publish.num_candidates=0", "greater than or equal to 1"),
        ('publish.lag="-1s"', "'-1s' is no duration"),
        ("publish.lag=-1", "greater than or equal to 0"),
    ],
)
def test_bad_settings_are_explained_when_they_are_read(hours: Published, setting: str, words: str) -> None:
    with pytest.raises(BadConfig) as caught:
        load_project(hours.file, [setting])
    assert words in str(caught.value)


def test_weights_without_a_ranker_are_refused(hours: Published) -> None:
    text = hours.file.read_text().replace('ranker = "argus"\n', "")
    hours.file.with_name("without.toml").write_text(text)
    with pytest.raises(BadConfig, match="utility says what feedback is worth, but nothing ranks by it"):
        load_project(hours.file.with_name("without.toml"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("publish.utility.loved=1", "publish.utility gives a weight to 'loved'; the log has ['dislike', 'like']"),
        ("publish.surfaces.both.loved=1", "publish.surfaces.both gives a weight to 'loved'"),
        ('publish.page_context={room="attic"}', "publish.page_context has the unknown name 'room'; this log knows"),
        ('publish.surface_context="room"', "told apart by the context 'room'; the log has the categorical contexts"),
        ('publish.ranker="sasrec"', "'sasrec', which does not foresee the feedback 'dislike': it foresees none"),
    ],
)
def test_bad_settings_are_explained_when_it_is_published(hours: Published, setting: str, words: str) -> None:
    config = load_project(hours.file, [setting]).publish
    assert config is not None
    with pytest.raises(BadConfig) as caught:
        publish.run(config, Workspace(hours.workspace))
    assert words in str(caught.value)
