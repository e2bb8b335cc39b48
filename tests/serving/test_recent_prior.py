"""A model with a prior of what was chosen lately, through every stage: what is live is found, though never trained."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.serving.projects import Published, publish_project
from upnext.base.errors import BadConfig
from upnext.commands.opened import open_release
from upnext.commands.project import load_project
from upnext.pipeline import evaluate, pretrain, publish
from upnext.serving.changes import Change
from upnext.serving.everyone import recommend_everyone
from upnext.serving.generate import Rollout, generate
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.recommend import Query, recommend
from upnext.serving.release import Release
from upnext.serving.score import Asked, Scorer
from upnext.serving.service import Service

NEWS = """
[prepare.source]
kind = "table"
path = "{folder}/events.csv"
user = "who"
item = "what"
time = "when"
time_unit = "s"
contexts = { place = "categorical", age = "numeric" }
feedback = { read = "fraction" }

[prepare.split]
kind = "global_time"
validation = "5h"
test = "5h"

[pretrain.argus.model]
kind = "argus"
width = 8
layers = 1
max_length = 8

[pretrain.argus.model.recent]
window = "1h"
within = ["place"]
shrinkage = 5.0

[pretrain.argus.training]
epochs = 1
tokens_per_batch = 400

[pretrain.blind.model]
kind = "argus"
contexts = []
width = 8
layers = 1
max_length = 8
recent = { window = "1h", follows = true, shrinkage = 5.0, strangers = 0.5 }

[pretrain.blind.training]
epochs = 1
tokens_per_batch = 400

[pretrain.popular-hour.model]
kind = "recently_popular"
window = "1h"

[publish]
retriever = "argus"
popular = "popular-hour"
exclude_history = false
"""
HOURS, PLACES, BEGIN = 40, ("north", "south"), 1_700_000_000


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Each place reads the story of the hour of its own: four clicks in five; the fifth is any story of that day."""
    folder = tmp_path_factory.mktemp("news")
    rng = np.random.default_rng(0)
    rows = ["who,what,when,place,age,read"]
    for number in range(4000):
        hour, place = number * HOURS // 4000, int(rng.random() < 0.4)
        of = (
            (hour, place)
            if rng.random() < 0.8
            else (int(rng.integers(max(0, hour - 8), hour + 1)), int(rng.integers(2)))
        )
        when = BEGIN + int(number * HOURS * 3600 / 4000)
        rows.append(f"u{rng.integers(300)},story {of[0]} {PLACES[of[1]]},{when},{PLACES[place]},{rng.integers(9)},0.5")
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    return publish_project(folder, NEWS)


def live(item: str, number: int, time_ms: int, place: str = "north") -> LiveEvent:
    return LiveEvent(f"reader {number}", item, time_ms, f"e{number}", context={"place": place}, feedback={})


END_MS = (BEGIN + HOURS * 3600) * 1000


@pytest.fixture
def histories(news: Published) -> Iterator[Histories]:
    release = Release.load(news.release)
    yield Histories(release, None)
    release.histories.close()


def test_contexts_and_the_prior_show_in_the_report(news: Published) -> None:
    project = load_project(news.file)
    workspace = project.opened()
    names = ["argus", "blind", "popular-hour"]
    report = evaluate.run(project.evaluate, workspace, names)
    metrics = json.loads((report.folder / "metrics.json").read_text())
    shown = [row for row in metrics if (row["metric"], row["k"], row["history_removed"]) == ("ndcg", 10, False)]
    ndcg = {row["model"]: row["value"] for row in shown}
    losses = json.loads((report.folder / "next_item.json").read_text())
    loss = {row["model"]: row["value"] for row in losses if row["dimension"] is None}
    unscored = {row["model"]: row["unscored"] for row in losses if row["dimension"] is None}
    assert ndcg["argus"] > ndcg["popular-hour"] + 0.05
    assert abs(ndcg["blind"] - ndcg["popular-hour"]) < 0.05
    assert max(loss["argus"], loss["blind"]) < loss["frequency"]
    assert unscored["argus"] == 0


def test_the_story_of_the_hour_comes_first_in_its_place_though_it_was_never_trained(histories: Histories) -> None:
    for place in PLACES:
        queries = [Query(who, END_MS, 5, {"place": place}) for who in ("u1", "new")]
        for page in recommend(histories.release, histories, queries):
            first = histories.assortment.describe(page.rows[0].items[0])
            assert first["item_id"] == f"story {HOURS - 1} {place}"


def test_one_user_of_everybody_is_answered_as_alone(histories: Histories) -> None:
    release, context = histories.release, {"place": "south"}
    for block in recommend_everyone(release, histories, END_MS, 5, context):
        for user, items, scores in list(zip(block.users, block.items, block.scores, strict=True))[::37]:
            (page,) = recommend(release, histories, [Query(release.users.external(int(user)), END_MS, 5, context)])
            assert items.tolist() == page.rows[0].items
            np.testing.assert_allclose(scores, page.rows[0].scores, rtol=1e-4)


def test_a_page_is_what_the_model_itself_scores_best(histories: Histories) -> None:
    release = histories.release
    (page,) = recommend(release, histories, [Query("u1", END_MS, 5, {"place": "north"})])
    table = Asked(
        pa.array(["u1"] * 5),
        pa.array([histories.assortment.describe(item)["item_id"] for item in page.rows[0].items]),
        np.full(5, END_MS),
        [{"place": "north"}] * 5,
    )
    scored = Scorer(release, histories, with_vectors=False).score(table)["argus.score"]
    np.testing.assert_allclose(scored, page.rows[0].scores, rtol=1e-4)


def test_posted_events_move_the_prior_and_new_items_can_be_found(news: Published, tmp_path: Path) -> None:
    service = Service(news.release, tmp_path / "live")
    try:
        asyncio.run(service.change([Change("breaking", {"title": "Breaking"})]))

        async def post() -> None:
            now = END_MS + 60_000
            await service.accept([live("story 0 south", n, now) for n in range(300)])
            await service.accept([live("breaking", n, now) for n in range(300, 400)])

        def first(at_ms: int) -> list[object]:
            (page,) = service.running.recommend([Query("u1", at_ms, 2, {"place": "north"})])
            return [service.histories.assortment.describe(item)["item_id"] for item in page.rows[0].items]

        assert first(END_MS)[0] == f"story {HOURS - 1} north"
        asyncio.run(post())
        assert first(END_MS)[0] == f"story {HOURS - 1} north", "what comes later is not known yet"
        assert first(END_MS + 120_000) == ["story 0 south", "breaking"]
    finally:
        service.close()


def test_what_others_read_next_comes_first_after_the_same_story(news: Published, tmp_path: Path) -> None:
    work = news.lend(tmp_path / "work")
    project = load_project(news.file, [f"workspace={work}", "publish.retriever=blind"])
    assert project.publish is not None
    service = Service(publish.run(project.publish, project.opened()).folder, work / "live")

    async def post(who: str, item: str, time_ms: int) -> None:
        await service.accept([LiveEvent(who, item, time_ms, f"{who} {time_ms}", context={"place": "north"})])

    def first(who: str) -> object:
        (page,) = service.running.recommend([Query(who, END_MS + 600_000, 1)])
        return service.histories.assortment.describe(page.rows[0].items[0])["item_id"]

    async def read() -> None:
        for number in range(20):
            await post(f"reader {number}", "story 5 south", END_MS + number * 1000)
            await post(f"reader {number}", "story 6 north", END_MS + number * 1000 + 500)
        await post("asker", "story 5 south", END_MS + 30_000)
        await post("other", "story 9 south", END_MS + 30_000)

    try:
        asyncio.run(read())
        assert first("asker") == "story 6 north"
        assert "story 6 north" not in (first("other"), first("nobody"))
    finally:
        service.close()
    with open_release(work) as (release, histories):  # all at once, as a server that starts again reads them
        (page,) = recommend(release, histories, [Query("asker", END_MS + 600_000, 1)])
        assert histories.assortment.describe(page.rows[0].items[0])["item_id"] == "story 6 north"


def test_a_future_is_rolled_out_with_the_prior(histories: Histories) -> None:
    rollout = Rollout("u1", END_MS, 2, {"place": "south"}, None, 0, 1000, repeats=False)
    events = generate(histories.release, histories, rollout)
    names = [histories.assortment.describe(event.item)["item_id"] for event in events]
    assert names[0] == f"story {HOURS - 1} south"
    assert events[0].probability > 0.3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["pretrain.argus.model.recent.within=['nowhere']"], "'nowhere'; the log has the categorical contexts"),
        (["pretrain.argus.model.recent.within=['age']"], "'age'; the log has the categorical contexts"),
        (["pretrain.argus.model.recent.within=['place','place']"], "names a context twice"),
        (["pretrain.argus.loss.kind=full"], "is not trained with the loss 'full'"),
        (["pretrain.popular-hour.loss.kind=recent"], "'loss' has no effect|the loss 'recent' is that of a model"),
    ],
)
def test_what_the_log_or_the_loss_does_not_fit_is_refused(news: Published, settings: list[str], told: str) -> None:
    def attempt() -> None:
        project = load_project(news.file, settings)
        pretrain.run(project.pretrain["argus"], project.opened(), "argus")

    with pytest.raises(BadConfig, match=told):
        attempt()


def test_a_log_without_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("who,what\n" + "".join(f"u{n % 3},i{n % 5}\n" for n in range(30)))
    with pytest.raises(BadConfig, match="needs times; this log has only an order"):
        publish_project(tmp_path, ORDER_ONLY)


ORDER_ONLY = """
[prepare.source]
kind = "table"
path = "{folder}/events.csv"
user = "who"
item = "what"

[prepare.split]
kind = "leave_last_out"

[pretrain.argus.model]
kind = "argus"
recent = { window = "1h" }

[publish]
retriever = "argus"
"""
