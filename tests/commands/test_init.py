"""`upnext init`: what it writes is accepted and prepares; what is there is kept."""

import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from upnext.base.errors import BadConfig, BadData
from upnext.cli import app
from upnext.commands.init import init_project
from upnext.commands.project import load_project
from upnext.pipeline import prepare

DAY_MS = 86_400_000
QUIET = Console(quiet=True)


def events(num_rows: int = 200) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user id": [f"u{i % 9}" for i in range(num_rows)],
            "item": [1 + i * i % 23 for i in range(num_rows)],
            "time_ms": [1_700_000_000_000 + i * DAY_MS // 4 for i in range(num_rows)],
            "clicked?": [int(i % 3 == 0) for i in range(num_rows)],
            "device": [("tv", "phone", "web")[i % 5 % 3] for i in range(num_rows)],
            "2nd surface!": [("home", "search")[i % 7 % 2] for i in range(num_rows)],
        }
    )


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "semicolon.csv"])
def test_init_then_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.chdir(tmp_path)
    file = f"My log.{ending}"
    match ending:
        case "jsonl":
            events().write_ndjson(file)
        case "parquet":
            events().write_parquet(file)
        case _:
            events().write_csv(file, separator={"csv": ",", "tsv": "\t"}.get(ending, ";"))
    init_project(file, None, {}, False, QUIET)
    project = load_project(Path("project.toml"))
    artifact = prepare.run(project.prepare, project.opened())
    metrics = artifact.manifest["metrics"]
    assert (metrics["num_events"], metrics["num_users"]) == (200, 9)
    assert metrics["schema"]["contexts"] == {"device": "categorical", "c_2nd_surface_": "categorical"}
    assert metrics["schema"]["feedback"] == {"clicked_": "binary"}
    assert metrics["schema"]["views"] == {"chosen": "clicked_ == 1"}
    assert metrics["split"]["kind"] == "global_time"
    assert project.publish is not None
    assert project.publish.actions == {"clicked_": {"clicked_": 1.0}}  # a button that posts what counts as chosen
    assert metrics["split"]["test"] == 3 * DAY_MS  # a tenth of 50 days holds 3 days


def test_a_log_without_times_is_split_by_last_events(tmp_path: Path) -> None:
    events().drop("time_ms").write_csv(tmp_path / "a.csv")
    init_project(str(tmp_path / "a.csv"), tmp_path / "a.toml", {}, False, QUIET)
    written = tomllib.loads((tmp_path / "a.toml").read_text())
    assert written["prepare"]["split"] == {"kind": "leave_last_out", "view": "chosen"}
    assert "time" not in written["prepare"]["source"]


def test_rows_that_say_more_of_an_earlier_one_are_merged(tmp_path: Path) -> None:
    first = events().with_columns(event_id=pl.int_range(pl.len()))
    later = first.filter(pl.col("event_id") % 4 == 0).with_columns(pl.lit(1, pl.Int64).alias("clicked?"))
    pl.concat([first, later]).write_csv(tmp_path / "a.csv")
    init_project(str(tmp_path / "a.csv"), tmp_path / "a.toml", {}, False, QUIET)
    project = load_project(tmp_path / "a.toml", [f"workspace={tmp_path}/work"])
    assert project.prepare.source.model_dump()["interaction"] == "event_id"
    assert prepare.run(project.prepare, project.opened()).manifest["metrics"]["num_events"] == 200


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    events().write_csv(tmp_path / "a.csv")
    (tmp_path / "a.toml").write_text("mine")
    with pytest.raises(BadConfig, match=r"a.toml exists, and is not overwritten; choose another name with --out"):
        init_project(str(tmp_path / "a.csv"), tmp_path / "a.toml", {}, False, QUIET)
    assert (tmp_path / "a.toml").read_text() == "mine"


def test_json_prints_and_writes_only_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events().write_csv("a.csv")
    shown = json.loads(CliRunner().invoke(app, ["init", "a.csv", "--json"]).stdout)
    assert shown["num_rows"] == 200
    assert shown["problems"] == []
    assert [column["role"] for column in shown["columns"]][:4] == ["user", "item", "time", "feedback"]
    assert not Path("project.toml").exists()
    CliRunner().invoke(app, ["init", "a.csv", "--json", "--out", "deep/a.toml"])
    assert load_project(Path("deep/a.toml")).workspace == Path("runs/a")


def test_the_table_shows_samples_and_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    events().write_csv("a.csv")
    shown = CliRunner().invoke(app, ["init", "a.csv", "--user", "device"]).stdout
    assert "given as --user" in shown
    assert "milliseconds from 2023-11-14" in shown
    assert "u0, u1, u2" in shown
    assert "upnext run project.toml" in shown


def test_a_table_that_is_no_log_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events().with_columns(pl.col("item").cast(pl.Float64)).write_csv("a.csv")
    with pytest.raises(BadData, match=r"a.csv is no log yet: column 'item' holds item ids as floats"):
        init_project("a.csv", None, {}, False, QUIET)
    assert not Path("project.toml").exists()


FILMS = {
    "item": list(range(1, 24)),
    "Film title": [f"Part {number}" for number in range(23)],
    "genres": ["a|b", "b", "c|a|b"] * 7 + ["c", "a"],
    "studio code": [7, 8, 9] * 7 + [7, 8],
    "minutes": [60 + 3 * number for number in range(23)],
    "year": [1990 + number % 5 for number in range(23)],
    "plot": [f"In which {number} people meet" for number in range(23)],
    "color": ["red", "blue"] * 11 + ["red"],
    "play_count": list(range(23)),
    "barcode": [f"x{number}" for number in range(23)],
    "isbn_id": list(range(100, 123)),
    "void": [None] * 22 + ["x"],
}
PEOPLE = {
    "id": [f"u{number}" for number in range(9)],
    "age": [20.5 + number for number in range(9)],
    "pro": [True, False, True] * 3,
}


def test_side_tables_become_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events().write_csv("events.csv")
    pl.DataFrame(FILMS).write_csv("films.csv")
    pl.DataFrame(PEOPLE | {"taste": [[0.5, float(number)] for number in range(9)]}).write_parquet("people.parquet")
    done = CliRunner().invoke(app, ["init", "events.csv", "--items", "films.csv", "--users", "people.parquet"])
    assert done.exit_code == 0, done.output
    source = tomllib.loads(Path("project.toml").read_text())["prepare"]["source"]
    assert source["items"] == {
        "path": "films.csv",
        "item": "item",
        "title": "Film title",
        "genres": "genres",
        "features": {
            "title": "text",
            "genres": "multi",
            "studio_code": {"column": "studio code", "kind": "categorical"},
            "minutes": "numeric",
            "year": "numeric",
            "plot": "text",
            "color": "categorical",
        },
    }
    kinds = {"age": "numeric", "pro": "categorical", "taste": "vector"}
    assert source["users"] == {"path": "people.parquet", "user": "id", "features": kinds}
    text = Path("project.toml").read_text()
    assert "# Read by no model: play_count: its name says that it was counted" in text
    assert "# Read by no model: barcode: different on nearly every row" in text
    assert "# Read by no model: isbn_id: different on every row: another id" in text
    assert "# Read by no model: void: empty, or the same on every row" in text
    project = load_project(Path("project.toml"))
    schema = prepare.run(project.prepare, project.opened()).manifest["metrics"]["schema"]
    assert list(schema["item_features"]) == list(source["items"]["features"])
    assert schema["user_features"] == kinds


def test_side_tables_in_json(tmp_path: Path) -> None:
    events().write_csv(tmp_path / "events.csv")
    pl.DataFrame({"film": ["a", "b", "c"], "cast": [["x"], ["y", "z"], []], "x": [[1.5], [], [2.0]]}).write_parquet(
        tmp_path / "f.parquet"
    )
    done = CliRunner().invoke(
        app, ["init", str(tmp_path / "events.csv"), "--items", str(tmp_path / "f.parquet"), "--json"]
    )
    shown = json.loads(done.output)["items"]
    assert [(guess["column"], guess["role"], guess["kind"]) for guess in shown] == [
        ("film", "item", None),
        ("cast", "feature", "multi"),
        ("x", "left out", None),
    ]


def test_a_side_table_that_repeats_its_ids_is_named(tmp_path: Path) -> None:
    events().write_csv(tmp_path / "events.csv")
    pl.DataFrame({"item": [1, 1, 2], "size": [1.5, 2.5, 3.5]}).write_csv(tmp_path / "films.csv")
    with pytest.raises(BadData, match=r"no column of the item table holds each id once \(item, size\); keep one row"):
        init_project(
            str(tmp_path / "events.csv"), tmp_path / "a.toml", {}, False, QUIET, {"item": str(tmp_path / "films.csv")}
        )
    assert not (tmp_path / "a.toml").exists()
