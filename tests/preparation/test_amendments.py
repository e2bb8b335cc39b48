"""A file may amend what an older one told: append, compaction and forgetting keep the rows and what they mean."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upnext
from tests.preparation.logs import DAY, HEADER, START, config_of, meaning, prepared, segments
from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig, BadData
from upnext.events.log import EventLog
from upnext.features.vocabulary import Vocabulary
from upnext.pipeline import pretrain, publish
from upnext.pipeline.prepare import PrepareConfig
from upnext.pipeline.pretrain import PretrainConfig
from upnext.pipeline.publish import ReleaseSettings
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.rewritten import compacted, log_without
from upnext.serving.histories import Histories
from upnext.serving.release import Release

MERGE = {"played": "max"}

OLD = [
    ("ann", "a", 0 * DAY, 0.5, None, "i1"),
    ("ann", "b", 1 * DAY, 0.2, None, "i2"),
    ("bob", "a", 1 * DAY, 0.9, None, None),
    ("bob", "b", 6 * DAY, 0.9, None, "i1"),
]
NEW = [
    ("ann", "a", 2 * DAY, None, 1, "i1"),
    ("ann", "b", 7 * DAY + 1, 1.0, 1, "i2"),  # training has ended
    ("bob", "c", 9 * DAY, 0.1, None, "i3"),
    ("bob", "b", 6 * DAY + 60, 1.0, None, "i1"),
    ("ann", "c", 8 * DAY, 0.4, 0, None),
]


def write(folder: Path, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write a file of events: user, item, seconds since START, played, like, interaction."""
    (folder / "events").mkdir(exist_ok=True)
    lines = [f"{HEADER},interaction"]
    for user, item, seconds, *rest in rows:
        played, like, interaction = ("" if cell is None else cell for cell in rest)
        lines.append(f"{user},{item},{START + seconds},,,home,,{played},{like},{interaction}")
    (folder / "events" / name).write_text("\n".join(lines) + "\n")


def config(folder: Path, merge: dict[str, str] | None = None, **changes: Any) -> PrepareConfig:
    return config_of(
        folder, source={"interaction": "interaction", "merge": MERGE if merge is None else merge}, **changes
    )


def feedback(log: Artifact, amended: Any = "in_time") -> list[tuple[Any, ...]]:
    """Each event as user, item, played and like."""
    rows = EventLog.open(log.folder / "log", amended).rows
    ids = [Vocabulary.load(log.folder / f"{name}.vocabulary.arrow") for name in ("users", "items")]
    columns = [rows.columns[f"feedback.{name}"] for name in ("played", "like")]
    values = [
        [round(v, 3) if seen else None for v, seen in zip(c.values.tolist(), c.observed.tolist(), strict=True)]
        for c in columns
    ]
    named = [[of.external(n) for n in a.tolist()] for of, a in zip(ids, (rows.user, rows.item), strict=True)]
    return sorted(zip(*named, *values, strict=True), key=str)


IN_TIME = [
    ("ann", "a", 0.5, 1.0),
    ("ann", "b", 0.2, None),
    ("ann", "c", 0.4, 0.0),
    ("bob", "a", 0.9, None),
    ("bob", "b", 1.0, None),
    ("bob", "c", 0.1, None),
]
"""By hand: the log ends with day 9, so that training ends with day 7, both included."""
FULLY = [("ann", "b", 1.0, 1.0) if event[:2] == ("ann", "b") else event for event in IN_TIME]


@pytest.fixture
def grown(tmp_path: Path) -> Artifact:
    """A log of two segments, in `work`; the second one amends events of the first."""
    write(tmp_path, "1.csv", OLD)
    prepared(config(tmp_path), tmp_path / "work")
    write(tmp_path, "2.csv", NEW)
    return prepared(config(tmp_path), tmp_path / "work")


def test_a_new_file_amends_events_of_an_old_segment(tmp_path: Path, grown: Artifact) -> None:
    assert len(segments(grown)) == 2
    assert feedback(grown) == IN_TIME
    assert feedback(grown, "fully") == FULLY
    assert meaning(grown) == meaning(prepared(config(tmp_path), tmp_path / "fresh"))
    assert grown.manifest["metrics"]["num_events"] == 6
    write(tmp_path, "3.csv", [("bob", "c", 10 * DAY, None, 1, "i3")])  # what follows comes after the amendments, too
    third = prepared(config(tmp_path), tmp_path / "work")
    assert len(segments(third)) == 3
    assert meaning(third) == meaning(prepared(config(tmp_path), tmp_path / "fresh"))
    assert ("bob", "c", 0.1, 1.0) in feedback(third)


def test_a_new_file_comes_after_the_amendments_of_old_ones(tmp_path: Path) -> None:
    """At one instant the order of the rows decides what was said last, also where the old rows are no events."""
    amending = [("ann", "a", 2 * DAY, None, like, "i1") for like in (0, 0, 0)]
    write(tmp_path, "1.csv", [*OLD, *amending])
    prepared(config(tmp_path), tmp_path / "work")
    write(tmp_path, "2.csv", [("ann", "a", 2 * DAY, None, 1, "i1")])
    log = prepared(config(tmp_path), tmp_path / "work")
    assert len(segments(log)) == 2
    assert ("ann", "a", 0.5, 1.0) in feedback(log)


def test_the_audit_counts_amendments(grown: Artifact) -> None:
    [finding] = [row for row in json.loads((grown.folder / "audit.json").read_text()) if row["check"] == "amendments"]
    assert (finding["level"], finding["count"]) == ("note", 3)
    assert "3 rows amend an event; 1 of them are left out" in finding["message"]
    assert "; 1 events were amended after the user's next event" in finding["message"]  # ann's first


def test_compaction_keeps_rows_and_what_they_amend(tmp_path: Path, grown: Artifact) -> None:
    one = compacted(Workspace(tmp_path / "work"), grown)
    assert segments(one) == ["segment-000000.arrow"]
    assert meaning(one) == meaning(grown)
    assert feedback(one, "fully") == FULLY
    assert len(EventLog.open(one.folder / "log", "not")) == len(OLD) + len(NEW)
    write(tmp_path, "3.csv", [("bob", "c", 10 * DAY, None, 1, "i3")])
    third = prepared(config(tmp_path), tmp_path / "work")
    assert len(segments(third)) == 2
    assert meaning(third) == meaning(prepared(config(tmp_path), tmp_path / "fresh"))


def test_nothing_of_a_forgotten_user_is_left_and_others_keep_their_amendments(tmp_path: Path, grown: Artifact) -> None:
    forgotten = Forgotten(b"salt").with_users(["ann"])
    left = log_without(Workspace(tmp_path / "work"), grown, forgotten)
    assert feedback(left) == [event for event in IN_TIME if event[0] == "bob"]
    logged, before = (EventLog.open(log.folder / "log", "not").rows for log in (left, grown))
    ann = Vocabulary.load(grown.folder / "users.vocabulary.arrow").dense("ann")
    assert len(logged.user) == (before.user != ann).sum()
    assert logged.interaction is not None
    assert before.interaction is not None
    assert np.array_equal(logged.interaction, before.interaction[before.user != ann])
    assert len(np.load(left.folder / "log" / "late.npy")) == len(logged.user)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob"]),
        st.integers(0, 9).map(lambda day: day * DAY),
        st.sampled_from([None, 0.25, 0.5]),
        st.sampled_from([None, 0, 1]),
        st.sampled_from([None, "a", "b"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=15, deadline=None)
@given(ROWS, ROWS, st.sampled_from(["global_time", "leave_last_out"]))
def test_any_amendments_in_any_files(
    tmp_path_factory: pytest.TempPathFactory, old: list[Any], new: list[Any], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("amend")
    files = [
        [(row[0], row[4] or "c", *row[1:]) for row in rows] for rows in (old, new)
    ]  # an interaction's item is its own
    split = {"kind": kind}
    write(folder, "1.csv", [*OLD, ("bob", "a", 20 * DAY, 0.1, None, None), *files[0]])
    prepared(config(folder, split=split), folder / "work")
    write(folder, "2.csv", files[1])
    log = prepared(config(folder, split=split), folder / "work")
    assert len(segments(log)) == 2
    assert meaning(log) == meaning(prepared(config(folder, split=split), folder / "fresh"))
    shutil.rmtree(folder)


def test_an_interaction_is_one_item(tmp_path: Path) -> None:
    write(tmp_path, "1.csv", [*OLD, ("ann", "c", 3 * DAY, None, 1, "i1"), ("ann", "c", 9 * DAY, 0.5, None, None)])
    with pytest.raises(BadData, match=r"1 rows have the interaction .* user 'ann' and item 'c' at 1700259200000 ms"):
        prepared(config(tmp_path), tmp_path / "work")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"merge": {"like": "max"}}, "merge has no effect without interaction"),
        ({"interaction": "interaction", "merge": {"liked": "max"}}, r"merge names 'liked'; .*\['like', 'played'\]"),
        ({"interaction": "interaction", "merge": {"played": "sum"}}, "'played' is a fraction, which a sum may exceed"),
        ({"interaction": "interaction", "merge": {"like": "mean"}}, "merge.like.*'last', 'first', 'max' or 'sum'"),
        ({"interaction": "request"}, "column 'request' is used for both request and interaction"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path: Path, source: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        config_of(tmp_path, source=source)


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.5, None, 2.5], "never floats"), ([[1], [2], [3]], "allowed: integers or text")],
)
def test_an_interaction_is_text_or_an_integer(values: list[Any], message: str) -> None:
    events = pl.DataFrame({"user": [1, 1, 1], "item": [1, 2, 3], "told": values})
    with pytest.raises(BadData, match=f"'told' .*{message}"):
        upnext.EventLog.from_frame(events, {"user": "user", "item": "item", "interaction": "told"})


def test_integers_tell_of_one_event_from_the_python_face(tmp_path: Path) -> None:
    events = pl.DataFrame(
        {
            "user": [1] * 5,
            "item": [1, 2, 3, 4, 1],
            "told": [2**53 + 1, 2**53, None, None, 2**53 + 1],
            "seconds": [10.0, 1.0, 1.0, 1.0, 5.0],
        }
    )
    columns: upnext.Columns = {
        "user": "user",
        "item": "item",
        "interaction": "told",
        "merge": {"seconds": "sum"},
        "feedback": {"seconds": "amount"},
    }
    log = upnext.EventLog.from_frame(events, columns, split={"kind": "leave_last_out"})
    assert len(log) == 4
    fully, in_time = (EventLog.open(log.artifact.folder / "log", how).rows for how in ("fully", "in_time"))
    assert fully.columns["feedback.seconds"].values.tolist() == [15, 1, 1, 1]
    assert in_time.columns["feedback.seconds"].values.tolist() == [10, 1, 1, 1]  # it came after the tested event


def test_a_release_knows_all_that_was_said(tmp_path: Path, grown: Artifact) -> None:
    """Also what came after training had ended, and what models must not see."""
    work = Workspace(tmp_path / "work")
    pretrain.run(parse_config(PretrainConfig, {"model": {"kind": "popular"}}, "test"), work, "popular")
    release = Release.load(publish.run(ReleaseSettings(retriever="popular"), work).folder)
    [(events, _)] = Histories(release, None).read(["ann"])
    release.histories.close()
    assert events.columns["feedback.played"].values.tolist() == [0.5, 1, np.float32(0.4)]
    assert events.columns["feedback.like"].observed.tolist() == [True, True, True]
    assert events.views["watched"].tolist() == [True, True, False]
