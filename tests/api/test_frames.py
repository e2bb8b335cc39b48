"""Tables of every kind become the same log, checked as files are; errors name the table and what it has."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import upnext
from tests.api.logs import COLUMNS, SPLIT, VIEWS, events, items
from upnext.base.errors import BadArtifact, BadConfig, BadData
from upnext.events.sources.frames import as_frame, fingerprint


class Foreign:
    """A table of another library: all that is known of it is that it exports an Arrow stream, as pandas does."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._table = frame.to_arrow()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


KINDS = {
    "polars": lambda frame: frame,
    "lazy": lambda frame: frame.lazy(),
    "chunked": lambda frame: pl.concat([frame.head(7), frame.tail(-7)], rechunk=False),
    "arrow": lambda frame: frame.to_arrow(),
    "dictionaries": lambda frame: frame.with_columns(pl.col(pl.String).cast(pl.Categorical)).to_arrow(),
    "foreign": Foreign,
}


@pytest.fixture(scope="module")
def expected() -> upnext.EventLog:
    return upnext.EventLog.from_frame(events(), COLUMNS, items=items(), views=VIEWS, split=SPLIT)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_log(expected: upnext.EventLog, kind: str):
    of_kind = KINDS[kind]
    log = upnext.EventLog.from_frame(of_kind(events()), COLUMNS, items=of_kind(items()), views=VIEWS, split=SPLIT)
    assert log.artifact.manifest["files"] == expected.artifact.manifest["files"]
    assert len(log) == 400
    assert repr(log) == "<EventLog: 400 events of 40 users and 13 items>"
    assert log.audit()["check"][0] == "parts"


def test_timestamps_need_no_unit_and_large_ids_stay():
    frame = events().with_columns(pl.from_epoch("time"), pl.col("user") + 2**53)
    log = upnext.EventLog.from_frame(frame, {"user": "user", "item": "item", "time": "time"})
    known = upnext.Popular().fit(log).recommend([2**53 + 1, 1], k=1)
    assert known["user_id"].to_list() == [2**53 + 1, 1]
    assert known["is_known"].to_list() == [True, False]


def test_without_times_the_last_event_is_left_out():
    split = {"kind": "leave_last_out"}
    log = upnext.EventLog.from_frame(events(), {"user": "user", "item": "item"}, split=split)
    figures = upnext.Popular().fit(log).evaluate()
    assert figures["cases"].unique().to_list() == [40]
    with pytest.raises(BadConfig, match="recently_popular needs times"):
        upnext.RecentlyPopular().fit(log)
    with pytest.raises(BadConfig, match="leave_last_out"):
        upnext.EventLog.from_frame(events(), {"user": "user", "item": "item"})


def test_the_log_that_a_folder_holds_is_found_and_not_made_again(tmp_path: Path):
    def make(frame: pl.DataFrame) -> upnext.EventLog:
        return upnext.EventLog.from_frame(frame, COLUMNS, folder=tmp_path / "work")

    first = make(events())
    made = (first.artifact.folder / "manifest.json").stat().st_mtime_ns
    assert make(events()).artifact.name == first.artifact.name
    assert (first.artifact.folder / "manifest.json").stat().st_mtime_ns == made
    other = make(events().head(399))
    assert other.artifact.name != first.artifact.name
    assert upnext.EventLog.open(tmp_path / "work").artifact.name == other.artifact.name
    assert upnext.Popular().fit(first).artifact.manifest["parents"] == [first.artifact.name]


def test_a_temporary_folder_goes_with_its_log():
    log = upnext.EventLog.from_frame(events(), COLUMNS)
    model = upnext.Popular().fit(log)
    root = log.workspace.root
    assert root.is_dir()
    del log
    assert model.recommend([3]).height  # the model keeps what it was fitted on
    del model
    assert not root.exists()


def test_equal_tables_have_equal_fingerprints_and_others_not():
    assert fingerprint(events()) == fingerprint(events())
    assert fingerprint(events()) == fingerprint(as_frame(events().to_arrow(), "events"))
    changed = [
        events().with_columns(pl.col("user") + 1),
        events().with_columns(pl.col("user").cast(pl.Int32)),
        events().rename({"user": "who"}),
        events().reverse(),
        events().head(0),
    ]
    assert len({fingerprint(frame) for frame in [events(), *changed]}) == 6


@pytest.mark.parametrize("table", [[1], {"user": [1]}, "events.csv", None, pa.array([1]), pl.Series("user", [1])])
def test_what_is_no_table_is_refused(table: object):
    with pytest.raises(BadData, match=r"^events is of the type .*; allowed: a Polars, pandas or Arrow table"):
        upnext.EventLog.from_frame(table, COLUMNS)
    with pytest.raises(BadData, match=r"^events cannot be read as a table: .*once"):
        upnext.EventLog.from_frame(pa.table([[1], [2]], names=["user", "user"]), COLUMNS)


def wrong(message: str, frame: pl.DataFrame | None = None, columns: Any = None, **more: Any) -> None:
    with pytest.raises((BadData, BadConfig)) as caught:
        upnext.EventLog.from_frame(events() if frame is None else frame, columns or COLUMNS, **more)
    assert message in str(caught.value)


def test_an_unknown_column_lists_those_there_are(tmp_path: Path):
    columns = COLUMNS | {"item": "itemm"}
    there = "its columns: user, item, time, visit, surface, played; did you mean 'item'?"
    wrong(f"events has no column 'itemm' (asked for by item); {there}", columns=columns)
    wrong(
        "items has no column 'item' (asked for by items.item); its columns: id",
        items=items().rename({"item": "id"})[:, :1],
    )
    # The words are those of a file.
    events().write_parquet(tmp_path / "events.parquet")
    source = {"kind": "table", "path": f"{tmp_path}/events.parquet"} | columns
    from upnext.events.sources import TableSource, read

    with pytest.raises(BadData) as caught:
        read(TableSource.model_validate(source))
    assert there in str(caught.value)


def test_a_wrong_value_is_named_with_its_table_and_row():
    frame = events()
    frame[6, "played"] = 1.5
    wrong("events row 7: column 'played' is 1.5; allowed: 0 to 1 for a fraction", frame)
    wrong("events row 1: column 'user' is 0.0", events().with_columns(pl.col("user").cast(pl.Float64)))
    wrong("looks like seconds", columns=COLUMNS | {"time_unit": "ms"})
    wrong("items row 14: column 'item' is 'a'", items=pl.concat([items(), items().head(1)]))
    wrong("events holds no rows", events().head(0))


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ({"user": "user"}, {}, "the key 'item' is missing"),
        (
            COLUMNS | {"itme": "item"},
            {},
            "unknown key 'itme'; allowed here: contexts, feedback, interaction, item, merge, position",
        ),
        (COLUMNS | {"path": "x"}, {}, "unknown key 'path'"),
        (COLUMNS | {"time_unit": "h"}, {}, "time_unit: Input should be 's', 'ms', 'us' or 'iso' (found 'h')"),
        (COLUMNS | {"position": "user"}, {}, "column 'user' is used for both user and position"),
        (["user", "item"], {}, "columns is ['user', 'item']; give the roles"),
        (COLUMNS, {"split": {"kind": "global_time", "tset": "1d"}}, "unknown key 'split.tset'; allowed here: gap"),
        (COLUMNS, {"split": {"kind": "global_time", "test": "100d"}}, "leaves nothing to train"),
        (COLUMNS, {"views": {"watched": "playd >= 0.5"}}, "reads 'playd'"),
        (COLUMNS, {"items": [1]}, "items is of the type list"),
    ],
)
def test_a_wrong_setting_is_explained(columns: Any, more: Any, message: str):
    wrong(message, columns=columns, **more)


def test_a_failure_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    wrong("leaves nothing to train", split={"kind": "global_time", "test": "100d"})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_log_is_refused(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadArtifact, match="is no workspace with a log"):
            upnext.EventLog.open(folder)


def test_features_of_tables_in_memory():
    people = pl.DataFrame({"user": events()["user"].unique()}).with_columns(age=pl.col("user") % 50)
    what = items().with_columns(studio=pl.col("item").hash() % 3)
    log = upnext.EventLog.from_frame(
        events(),
        COLUMNS,
        items=what,
        users=people,
        item_features=["studio"],
        user_features={"age": "numeric"},
        split=SPLIT,
    )
    schema = log.artifact.manifest["metrics"]["schema"]
    assert (schema["item_features"], schema["user_features"]) == ({"studio": "categorical"}, {"age": "numeric"})
    with pytest.raises(BadConfig, match="user_features need a table; give users too"):
        upnext.EventLog.from_frame(events(), COLUMNS, user_features=["age"])
    with pytest.raises(BadConfig, match=r"EventLog.from_frame, columns: items.features.studio: .*'categorical'"):
        upnext.EventLog.from_frame(events(), COLUMNS, items=what, item_features={"studio": "words"})
    with pytest.raises(BadConfig, match="allow_leaks names 'plays', which no side table has"):
        upnext.EventLog.from_frame(events(), COLUMNS, items=what, allow_leaks=["plays"], split=SPLIT)
