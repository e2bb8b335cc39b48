"""Scores of a table: what evaluation computes at the same moments, and nothing of the future."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.end_to_end.test_tiny_project import succeed
from tests.serving.asking import NOW
from tests.serving.projects import Published
from upnext.base.artifacts import Workspace
from upnext.base.errors import BadConfig, BadData
from upnext.base.views import ALL
from upnext.commands import score as command
from upnext.commands.score import score_table
from upnext.evaluation.cases import find_cases
from upnext.evaluation.feedback import predict_feedback
from upnext.evaluation.ranking import retriever_scores
from upnext.events.log import EventLog
from upnext.events.split import TEST
from upnext.features.vocabulary import Vocabulary
from upnext.models.argus import ARGUS
from upnext.serving.histories import Histories, LiveEvent
from upnext.serving.recommend import Query, recommend
from upnext.serving.release import Release
from upnext.serving.service import Service
from upnext.store.embedded import LmdbStore


def scored(workspace: Path, folder: Path, table: pa.Table, with_vectors: bool = False) -> pa.Table:
    """The table with its scores."""
    pq.write_table(table, folder / "asked.parquet")
    out = folder / "scores.parquet"
    score_table(workspace, folder / "asked.parquet", out, with_vectors, True, Console(file=io.StringIO()))
    return pq.read_table(out)


def rows_of(workspace: Workspace, log: EventLog, rows: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Table:
    """Events of a log as somebody else would ask about them."""
    folder = workspace.current("log", "log").folder
    users, items = (Vocabulary.load(folder / f"{name}.vocabulary.arrow") for name in ("users", "items"))
    columns = {
        "user_id": users.externals(log.rows.user[rows]),
        "item_id": items.externals(log.rows.item[rows]).dictionary_encode(),
        "time_ms": pa.array(log.rows.time_ms[rows]),
        "note": pa.array([f"row {row}" for row in rows]),
    }
    for name in ("hour", "surface"):
        codes = Vocabulary.load(folder / f"context.{name}.vocabulary.arrow")
        columns[name] = codes.externals(log.rows.columns[f"context.{name}"].values[rows])
    return pa.table(columns)


def test_it_is_what_evaluation_computes(hours: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_ROWS", 70)  # several blocks, the last one smaller
    workspace = Workspace(hours.workspace)
    artifact = workspace.current("log", "log")
    log, part = EventLog.open(artifact.folder / "log"), np.load(artifact.folder / "split.npy")
    # Every test event, and some from the middle of histories, in no order.
    rows = np.unique(np.concatenate([np.flatnonzero(part == TEST), np.arange(0, len(log.rows.user), 7)]))
    rows = np.random.default_rng(0).permutation(rows)
    found = scored(hours.workspace, tmp_path, rows_of(workspace, log, rows))
    assert found["note"].to_pylist() == [f"row {row}" for row in rows]
    release = Release.load(hours.release)
    assert isinstance(release.retriever, ARGUS)
    expected = predict_feedback(release.retriever, log, rows)
    for name in ("like", "dislike"):
        np.testing.assert_allclose(found[f"argus.{name}"].to_numpy(), expected[name], rtol=1e-4, atol=1e-5)
    cases = find_cases(log, part, TEST, ALL)
    scores = retriever_scores(release.retriever, log, cases, len(release.catalogue))(np.arange(len(cases)))
    place = {row: number for number, row in enumerate(rows.tolist())}
    ours = found["argus.score"].to_numpy()[[place[row] for row in cases.first_target.tolist()]]
    theirs = scores[np.arange(len(cases)), log.rows.item[cases.first_target]]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    release.histories.close()


def ask(times: list[int], users: str | list[str] = "u21", items: str | list[str] = "i08", **columns: Any) -> pa.Table:
    count = len(times)
    return pa.table(
        {
            "user_id": [users] * count if isinstance(users, str) else users,
            "item_id": [items] * count if isinstance(items, str) else items,
            "time_ms": times,
            **columns,
        }
    )


def test_a_row_knows_what_came_strictly_before_it(hours: Published, tmp_path: Path) -> None:
    first = 1_700_000_000_000 + 21_000  # of u21, who did something every hour
    found = scored(hours.workspace, tmp_path, ask([first - 1, first, first + 1, first + 3_600_000, first + 3_600_001]))
    before, at, after, later, last = found["argus.like"].to_pylist()
    # The first two know nothing; the next two know the first event, some time ago; the last one knows two.
    assert before == at
    assert len({at, after, later, last}) == 4
    stranger = scored(hours.workspace, tmp_path, ask([first], users="a stranger"))["argus.like"].to_pylist()
    assert stranger == [pytest.approx(at, abs=1e-6)]


def test_contexts_matter_and_may_be_missing(hours: Published, tmp_path: Path) -> None:
    days = [f"i{number:02d}" for number in range(0, 40, 2)]
    table = ask([NOW] * 80, "u21", 4 * days, hour=["08"] * 20 + ["21"] * 20 + [None] * 20 + ["no such hour"] * 20)
    day, night, unknown, strange = scored(hours.workspace, tmp_path, table)["argus.like"].to_numpy().reshape(4, 20)
    assert day.mean() > night.mean() + 0.3
    without = scored(hours.workspace, tmp_path, ask([NOW] * 20, "u21", days))["argus.like"].to_numpy()
    np.testing.assert_allclose(without, unknown, atol=1e-6)
    assert ((strange > 0) & (strange < 1)).all()


def test_posted_events_count(hours: Published, tmp_path: Path) -> None:
    workspace = hours.lend(tmp_path / "lent")
    (alone,) = scored(workspace, tmp_path, ask([NOW]))["argus.like"].to_pylist()
    store = LmdbStore(workspace / "live")
    event = LiveEvent("u21", "i10", NOW - 1000, "e", feedback={"like": 1.0}, context={"hour": "08"})
    store.put({event.key(): msgspec.msgpack.encode(event)})
    store.close()
    with_post, too_late = scored(workspace, tmp_path, ask([NOW, NOW - 1000]))["argus.like"].to_pylist()
    assert with_post != alone
    assert too_late == pytest.approx(scored(hours.workspace, tmp_path, ask([NOW - 1000]))["argus.like"].to_pylist()[0])


def test_it_is_what_recommend_says(start: Callable[[Published], Service], hours: Published, tmp_path: Path) -> None:
    service = start(hours)
    context: dict[str, str | float] = {"hour": "21", "surface": "home"}
    (page,) = recommend(service.release, service.histories, [Query("u22", NOW, 10, context)])
    row = page.rows[0]
    names = [service.histories.assortment.describe(item)["item_id"] for item in row.items]
    service.close()
    table = ask([NOW] * len(names), "u22", names, hour=["21"] * len(names), surface=["home"] * len(names))
    found = scored(hours.workspace, tmp_path, table)
    np.testing.assert_allclose(found["argus.like"].to_numpy(), row.scores, atol=1e-5)  # utility is { like = 1 } there


def test_vectors_multiply_to_the_score(hours: Published, tmp_path: Path) -> None:
    table = ask([NOW - 5, NOW, NOW], ["u01", "u02", "nobody"], ["i01", "i02", "i03"], hour=["08", "21", None])
    found = scored(hours.workspace, tmp_path, table, with_vectors=True)
    user, item = (np.array(found[f"argus.{side}_vector"].to_pylist()) for side in ("user", "item"))
    assert user.shape == item.shape == (3, 16)
    np.testing.assert_allclose((user * item).sum(1), found["argus.score"].to_numpy(), rtol=1e-4, atol=1e-5)
    plain = scored(hours.workspace, tmp_path, table)
    assert plain.column_names == [*table.column_names, "argus.score", "argus.like", "argus.dislike"]


def test_unknown_items_are_scored_as_new_ones(hours: Published, tmp_path: Path) -> None:
    workspace = hours.lend(tmp_path / "lent")
    succeed("items", "put", workspace, "new day", "--set", "family=day")
    table = ask([NOW] * 3, items=["new day", "never heard of", "i02"], hour=["08"] * 3)
    found = scored(workspace, tmp_path, table)
    described, bare, known = found["argus.like"].to_pylist()
    assert all(0 < value < 1 for value in (described, bare, known))
    assert described > bare  # its family is known, and it is morning
    scores = found["argus.score"].to_pylist()
    assert scores[0] is not None
    assert scores[1] is None  # nothing says what it is
    assert scores[2] is not None


def test_times_may_be_timestamps(hours: Published, tmp_path: Path) -> None:
    moments = [datetime.fromtimestamp(NOW / 1000, UTC), datetime(2023, 11, 15, 3, tzinfo=UTC)]
    in_ms = ask([NOW, round(moments[1].timestamp() * 1000)])
    expected = scored(hours.workspace, tmp_path, in_ms)["argus.like"]
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("s", "Europe/Berlin")):
        times = pa.array([moment.replace(tzinfo=None) for moment in moments], pa.timestamp("us")).cast(kind)
        if kind.tz == "Europe/Berlin":
            times = pa.array(moments, pa.timestamp("us", "UTC")).cast(kind)
        table = in_ms.drop_columns("time_ms").append_column("time", times)
        assert scored(hours.workspace, tmp_path, table)["argus.like"] == expected


def test_models_without_vectors_or_feedback(tiny: Published, strange: Published, tmp_path: Path) -> None:
    found = scored(strange.workspace, tmp_path, ask([NOW, NOW], "zoë", ["#hash", "not there"]))
    assert found.column_names[3:] == ["popular.score"]
    assert found["popular.score"].to_pylist() == [11.0, None]
    items = pq.read_table(next((tiny.workspace / "artifacts").glob("simulation-*/items.parquet")))["item_id"]
    found = scored(tiny.workspace, tmp_path, ask([NOW] * len(items), "u001", items.to_pylist()))
    (page,) = _pages(tiny)
    assert page
    best = found.sort_by([("sasrec.score", "descending")])["item_id"].to_pylist()
    assert [item for item in best if item in page] == page


def _pages(tiny: Published) -> list[list[str]]:
    release = Release.load(tiny.release)
    histories = Histories(release, None)
    (page,) = recommend(release, histories, [Query("u001", NOW, 10)])
    names = [histories.assortment.describe(item)["item_id"] for item in page.rows[0].items]
    release.histories.close()
    return [names]


def test_integer_ids(numbers: Published, tmp_path: Path) -> None:
    table = pa.table({"user_id": [7, -8], "item_id": [2**53 + 1, 2**53 + 7], "time_ms": [NOW, NOW]})
    assert scored(numbers.workspace, tmp_path, table)["popular.score"].null_count == 0
    with pytest.raises(BadData, match="user_id holds string; this release needs integer there"):
        scored(numbers.workspace, tmp_path, ask([NOW]))


def test_categories_may_be_integers_as_in_the_log(hours: Published, tmp_path: Path) -> None:
    found = [scored(hours.workspace, tmp_path, ask([NOW, NOW], hour=of)) for of in ([21, None], ["21", None])]
    assert found[0].drop_columns("hour").equals(found[1].drop_columns("hour"))
    likes = found[0]["argus.like"].to_pylist()
    assert likes[0] != likes[1]
    assert found[0]["hour"].to_pylist() == [21, None]


def test_an_empty_table(hours: Published, tmp_path: Path) -> None:
    found = scored(hours.workspace, tmp_path, ask([NOW]).slice(0, 0), with_vectors=True)
    assert found.num_rows == 0
    assert found.schema.field("argus.user_vector").type == pa.list_(pa.float32(), 16)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (ask([NOW]).drop_columns("user_id"), "has no column 'user_id'; it has"),
        (ask([NOW]).drop_columns("time_ms"), "has none of 'time' (a timestamp) and 'time_ms'"),
        (ask([NOW]).append_column("time", pa.array([NOW])), "has both 'time' (a timestamp) and 'time_ms'"),
        (ask([NOW]).set_column(1, "item_id", pa.array([1.0])), "item_id holds double; this release needs text there"),
        (ask([NOW]).set_column(2, "time_ms", pa.array(["now"])), "time_ms holds string; this release needs integer"),
        (ask([NOW], hour=[8.5]), "hour holds double; this release needs text or integer there"),
        (ask([NOW, NOW], users=["u01", None]), "row 1: user_id is null; every row needs one"),  # type: ignore[list-item]
        (ask([NOW, NOW, None]), "row 2: time_ms is null"),  # type: ignore[list-item]
        (ask([NOW]).append_column("argus.like", pa.array([1.0])), "has a column 'argus.like' already"),
        (ask([NOW]).append_column("item_id", pa.array(["i01"])), "has two columns of one name"),
    ],
)
def test_bad_tables_are_explained(hours: Published, tmp_path: Path, table: pa.Table, words: str) -> None:
    (tmp_path / "scores.parquet").write_text("the old one")
    with pytest.raises(BadData) as caught:
        scored(hours.workspace, tmp_path, table)
    assert words in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.parquet", "scores.parquet"]
    assert (tmp_path / "scores.parquet").read_text() == "the old one"


def test_bad_numbers_and_places_are_explained(strange: Published, tmp_path: Path) -> None:
    table = ask([NOW] * 2, "zoë", "#hash", age=[30.0, float("nan")])
    with pytest.raises(BadData, match="row 1: age is nan; give a finite number or null"):
        scored(strange.workspace, tmp_path, table)
    console, here = Console(), tmp_path / "asked.parquet"
    for out, words in ((tmp_path / "s.csv", r"\.parquet"), (tmp_path / "no" / "s.parquet", "no folder")):
        with pytest.raises(BadConfig, match=words):
            score_table(strange.workspace, here, out, False, False, console)
    with pytest.raises(BadConfig, match="there is no table"):
        score_table(strange.workspace, tmp_path / "none.parquet", tmp_path / "s.parquet", False, False, console)
    here.write_text("text")
    with pytest.raises(BadData, match="is no Parquet file"):
        score_table(strange.workspace, here, tmp_path / "s.parquet", False, False, console)


def test_on_the_command_line(hours: Published, tmp_path: Path) -> None:
    pq.write_table(ask([NOW]), tmp_path / "asked.parquet")
    out = tmp_path / "scores.parquet"
    said = json.loads(succeed("score", hours.workspace, tmp_path / "asked.parquet", "--out", out, "--json"))
    assert (said["rows"], said["columns"]) == (1, ["argus.score", "argus.like", "argus.dislike"])
    assert "1 rows with argus.score" in succeed("score", hours.workspace, tmp_path / "asked.parquet", "--out", out)
