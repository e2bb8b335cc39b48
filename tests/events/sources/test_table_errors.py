"""What is wrong with a log of one's own, said with file, row, column, value, what is allowed and what to do."""

import gzip
from typing import Any

import polars as pl
import pytest

from tests.events.sources.tables import table
from upnext.base.errors import BadConfig, BadData


def refusal(**keys: Any) -> str:
    with pytest.raises(BadData) as caught:
        table(**keys)
    return str(caught.value)


@pytest.fixture
def log(tmp_path):
    def write(text: str, name: str = "log.csv") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_missing_ids(log, tmp_path):
    path = log("user,item\n1,a\n,b\n3,c\n")
    assert refusal(path=path) == (
        f"{path} row 2 (line 3): column 'user' is missing; allowed: an id on every row; add it, or remove the row"
    )
    path = log('user,item\n1,a\n2,"  "\n3,\n')
    assert "row 2 (line 3): column 'item' is '  ' (2 rows like it)" in refusal(path=path)
    pl.DataFrame({"user": [1, None], "item": ["a", ""]}).write_parquet(tmp_path / "log.parquet")
    assert "log.parquet row 2: column 'user' is missing" in refusal(path=str(tmp_path / "log.parquet"))


def test_a_row_is_named_in_its_own_file_and_on_its_own_line(log, tmp_path):
    log('user,item,note\n1,a,"two\nlines"\n2,b,\n', "a.csv")
    log('user,item,note\n3,c,"two\nlines"\n,d,\n', "b.csv")
    assert f"{tmp_path}/b.csv row 2 (line 4): column 'user' is missing" in refusal(path=str(tmp_path / "*.csv"))
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress((tmp_path / "b.csv").read_bytes()))
    assert "c.csv.gz row 2 (line 4): column 'user'" in refusal(path=str(tmp_path / "c.csv.gz"))


def test_float_ids(log, tmp_path):
    pl.DataFrame({"user": [1, 2], "item": [None, 7.0]}).write_parquet(tmp_path / "log.parquet")
    message = refusal(path=str(tmp_path / "log.parquet"))
    assert "log.parquet row 2: column 'item' is 7.0" in message
    assert "2^53" in message
    assert "store it as integers or text" in message
    path = log("user,item\n1,7\n2,8.0\n")
    assert "row 2 (line 3): column 'item' is '8.0'" in refusal(path=path)
    path = log("user,item\n1,7\n2,9.007199254740993e+15\n")
    assert "column 'item' is '9.007199254740993e+15'" in refusal(path=path)
    path = log('{"user": 1, "item": 7}\n{"user": 1.5, "item": 7}\n', "log.jsonl")
    assert "log.jsonl row 1: column 'user' is 1.0 (2 rows like it)" in refusal(path=path)


def test_dotted_text_is_no_float_id(log):
    assert table(path=log("user,item\n1,1.10\n2,2.0\n")).events["item_id"].to_list() == ["1.10", "2.0"]


def test_ids_of_other_types(tmp_path):
    pl.DataFrame({"user": [1, 2], "item": [True, False]}).write_parquet(tmp_path / "log.parquet")
    message = refusal(path=str(tmp_path / "log.parquet"))
    assert "column 'item' is of type Boolean; allowed: integers or text" in message
    frame = pl.DataFrame({"user": [1, 2], "item": pl.Series([1, 2**63], dtype=pl.UInt64)})
    frame.write_parquet(tmp_path / "log.parquet")
    assert "row 2: column 'item' is 9223372036854775808" in refusal(path=str(tmp_path / "log.parquet"))


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        ("fraction", "1.5", "0 to 1 for a fraction"),
        ("fraction", "-0.1", "0 to 1 for a fraction"),
        ("amount", "-3", "0 or more for an amount"),
        ("binary", "2", "0 or 1 for binary feedback"),
        ("binary", "0.5", "0 or 1 for binary feedback"),
        ("amount", "inf", "finite numbers"),
        ("amount", "1e39", "numbers up to 3.4e38"),
        ("amount", "3,5", "numbers"),
        ("amount", "lots", "numbers"),
    ],
)
def test_feedback_outside_its_range(log, kind, value, allowed):
    path = log(f'user,item,f\n1,a,1\n2,b,\n3,c,"{value}"\n')
    message = refusal(path=path, feedback={"f": kind})
    assert f"{path} row 3 (line 4): column 'f' is '{value}'; allowed: {allowed}" in message


def test_contexts_that_are_none(tmp_path):
    frame = pl.DataFrame({"user": [1], "item": [2], "x": [1.5], "y": [[1]], "z": ["warm"]})
    frame.write_parquet(tmp_path / "log.parquet")
    path = str(tmp_path / "log.parquet")
    assert "row 1: column 'x' is 1.5; allowed: text, booleans, or whole numbers" in refusal(path=path, contexts=["x"])
    assert "column 'y' is of type List(Int64)" in refusal(path=path, contexts=["y"])
    assert "column 'y' is of type List(Int64)" in refusal(path=path, contexts={"y": "numeric"})
    assert "row 1: column 'z' is 'warm'; allowed: numbers" in refusal(path=path, contexts={"z": "numeric"})


@pytest.mark.parametrize("position", ["-1", "1.5", "2147483648"])
def test_positions(log, position):
    path = log(f"user,item,position\n1,a,0\n1,b,\n1,c,{position}\n")
    message = refusal(path=path, position="position")
    assert f"row 3 (line 4): column 'position' is '{position}'; allowed: integers from 0 to 2147483647" in message


def test_float_request_ids(tmp_path):
    pl.DataFrame({"user": [1, 2], "item": [1, 2], "request": [None, 3.0]}).write_parquet(tmp_path / "log.parquet")
    assert "row 2: column 'request' is 3.0" in refusal(path=str(tmp_path / "log.parquet"), request="request")


def test_a_missing_column_shows_those_there_are(log, tmp_path):
    path = log("User_ID,item,note\n1,a,\n")
    assert refusal(path=path, user="user_id") == (
        f"{path} has no column 'user_id' (asked for by user); its columns: User_ID, item, note; did you mean 'User_ID'?"
    )
    assert "asked for by feedback.like" in refusal(path=path, user="User_ID", feedback=["like"])
    path = log('{"item": 1}\n', "log.jsonl")
    assert "has no column 'user'" in refusal(path=path)
    pl.DataFrame({"item": [1]}).write_parquet(tmp_path / "log.parquet")
    assert "log.parquet has no column 'user'" in refusal(path=str(tmp_path / "log.parquet"))
    assert "set separator" in refusal(path=log("user;item\n1;a\n"))


def test_files_of_different_columns(log, tmp_path):
    log("user,item\n1,a\n", "a.csv")
    log("user,thing\n1,a\n", "b.csv")
    message = refusal(path=str(tmp_path / "*.csv"))
    assert "b.csv has no column 'item' (asked for by item); its columns: user, thing" in message
    items = {"path": [str(tmp_path / "a.csv"), str(tmp_path / "c.csv")], "item": "item"}
    log("item,user,extra\nb,1,2\n", "c.csv")
    message = refusal(path=str(tmp_path / "a.csv"), items=items)
    assert "c.csv has a column 'extra', but" in message


def test_files_of_different_types(tmp_path):
    pl.DataFrame({"user": [1], "item": [1], "n": [None], "x": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user": ["1"], "item": [1], "n": ["y"], "x": [1.5]}).write_parquet(tmp_path / "b.parquet")
    message = refusal(path=str(tmp_path / "*.parquet"))
    assert "column 'user' is Int64 in" in message
    assert "a.parquet but String in" in message
    pl.DataFrame({"user": [2], "item": [1.0], "n": ["y"], "x": [1.5]}).write_parquet(tmp_path / "b.parquet")
    assert "column 'item' is Int64" in refusal(path=str(tmp_path / "*.parquet"))
    pl.DataFrame({"user": [2], "item": [1], "n": ["y"], "x": [1.5]}).write_parquet(tmp_path / "b.parquet")
    raw = table(path=str(tmp_path / "*.parquet"), contexts={"n": "categorical", "x": "numeric"})
    assert raw.events.rows() == [(1, 1, None, 1.0), (2, 1, "y", 1.5)]


def test_files_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UPNEXT_DATA", raising=False)
    assert f"no file matches {tmp_path}/events/*.csv; correct the path" in refusal(path="events/*.csv")
    assert f"no file matches {tmp_path}/data/x.csv; set UPNEXT_DATA" in refusal(path="${UPNEXT_DATA}/x.csv")
    assert "is a folder" in refusal(path=str(tmp_path))
    (tmp_path / "log.csv").write_text("user,item\n1,a\n")
    assert "log.csv is matched twice" in refusal(path=["log.csv", "*.csv"])
    (tmp_path / "log.xlsx").write_text("")
    assert "the format of 'log.xlsx' is unknown" in refusal(path="log.xlsx")
    (tmp_path / "log.tsv").write_text("user\titem\n1\ta\n")
    assert "log.csv is csv, but log.tsv is tsv" in refusal(path=["log.csv", "log.tsv"])


def test_files_without_rows(log, tmp_path):
    assert "log.csv is empty" in refusal(path=log(""))
    assert "log.csv holds no rows" in refusal(path=log("user,item\n"))
    assert "log.csv holds no rows" in refusal(path=log("user,item\n\n,\n"))
    assert "log.jsonl is empty" in refusal(path=log("\n", "log.jsonl"))
    pl.DataFrame({"user": [], "item": []}).write_parquet(tmp_path / "log.parquet")
    assert "log.parquet holds no rows" in refusal(path=str(tmp_path / "log.parquet"))
    items = {"path": log("item,title\n", "items.csv"), "item": "item"}
    assert "items.csv holds no rows" in refusal(path=log("user,item\n1,2\n"), items=items)


def test_damaged_files(log, tmp_path):
    path = log("user,item\n1,a\n2,b,c\n")
    assert f"{path} row 2 (line 3) has 3 fields; allowed: 2" in refusal(path=path)
    assert "line 3 cannot be read" in refusal(path=log('user,item\n1,a\n2,"b\n3,c\n'))
    (tmp_path / "log.csv").write_bytes(b"user,item\n1,a\n2,\xe9\n")
    assert "log.csv line 3 is not UTF-8" in refusal(path=str(tmp_path / "log.csv"))
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(b"user,item\n1,a\n" * 99)[:-9])
    assert "log.csv.gz is no whole gzip file" in refusal(path=str(tmp_path / "log.csv.gz"))
    (tmp_path / "log.csv.gz").write_bytes(b"user,item\n1,a\n")
    assert "log.csv.gz is no whole gzip file" in refusal(path=str(tmp_path / "log.csv.gz"))
    (tmp_path / "log.parquet").write_bytes(b"PAR1 no PAR1")
    assert "log.parquet is no readable Parquet file" in refusal(path=str(tmp_path / "log.parquet"))
    pl.DataFrame({"user": range(5000), "item": range(5000)}).write_parquet(tmp_path / "log.parquet")
    (tmp_path / "log.parquet").write_bytes((tmp_path / "log.parquet").read_bytes()[:-100])
    assert "log.parquet is no readable Parquet file" in refusal(path=str(tmp_path / "log.parquet"))
    path = log('{"user": 1, "item": 2}\n{"user": 1, "item": \n', "log.jsonl")
    assert f"{path} row 2 is not JSON" in refusal(path=path)
    path = log('{"user": 1, "item": 2}\n[1]\n', "log.jsonl")
    assert f"{path} row 2 is no JSON object" in refusal(path=path)
    assert "two columns called 'user'" in refusal(path=log("user,user,item\n1,2,3\n"))


def test_side_tables(log, tmp_path):
    path = log("user,item\n1,7\n")
    items = {"path": log("id,title\n7,A\n8,B\n7,C\n", "items.csv"), "item": "id"}
    assert "items.csv row 3 (line 4): column 'id' is '7'; allowed: each id once" in refusal(path=path, items=items)
    assert "(asked for by items.title)" in refusal(path=path, items=items | {"title": "name"})
    users = {"path": log("id\n1\n\n2\n", "users.csv"), "user": "id"}
    assert "users.csv row 2 (line 3): column 'id' is missing" in refusal(path=path, users=users)
    pl.DataFrame({"user": [1], "item": [7]}).write_parquet(tmp_path / "log.parquet")
    items = {"path": log("id,title\n7,A\nx7,B\n", "items.csv"), "item": "id"}
    message = refusal(path=str(tmp_path / "log.parquet"), items=items)
    assert "items.csv row 2 (line 3): column 'id' is 'x7'; allowed: integers, as in column 'item' of" in message
    pl.DataFrame({"id": [7], "genres": [1.5]}).write_parquet(tmp_path / "items.parquet")
    items = {"path": str(tmp_path / "items.parquet"), "item": "id"}
    assert "column 'genres' is of type Float64" in refusal(path=path, items=items)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"item": "user"}, "column 'user' is used for both user and item"),
        ({"contexts": {"surface": {"column": "item", "kind": "categorical"}}}, "both item and contexts.surface"),
        ({"contexts": ["hour"], "feedback": ["hour"]}, "both contexts.hour and feedback.hour"),
        ({"time_unit": "ms"}, 'time_unit = "ms" has no effect without time'),
        ({"contexts": {"play-time": "numeric"}}, "'play-time' cannot be a name"),
        ({"contexts": {"tab": "category"}}, "'categorical' or 'numeric'"),
        ({"feedback": {"like": {"column": "liked"}}}, "kind' is missing"),
        ({"path": []}, "at least 1 item"),
        ({"separator": "::"}, "at most 1 character"),
        ({"colour": "red"}, "colour"),
        ({"kind": "sql"}, "sql"),
    ],
)
def test_configurations_that_cannot_be(keys, message):
    with pytest.raises(BadConfig, match=message.replace("(", r"\(")):
        table(**{"path": "log.csv"} | keys)


def test_a_separator_without_effect(tmp_path):
    pl.DataFrame({"user": [1], "item": [1]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(BadConfig, match="no effect on parquet"):
        table(path=str(tmp_path / "log.parquet"), separator=";")
