"""Logs of one's own, in every format: what is read is what was written, in the order it was written."""

import gzip
import json
import tomllib

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.events.sources.tables import Holder, table
from upnext.base.configuration import parse_config
from upnext.events.sources import TableSource, read

BIG = 2**53 + 1
HEADER = "user,item,time,played\n"


def test_csv_becomes_canonical(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + "7,a,1719830000,0.5\n8,b,1719830001,\n")
    raw = table(path=str(tmp_path / "log.csv"), time="time", time_unit="s", feedback={"played": "fraction"})
    assert dict(raw.events.schema) == {
        "user_id": pl.Int64,
        "item_id": pl.String,
        "time_ms": pl.Int64,
        "feedback.played": pl.Float32,
    }
    assert raw.events.rows() == [(7, "a", 1719830000000, 0.5), (8, "b", 1719830001000, None)]
    assert raw.feedback == {"played": "fraction"}
    assert raw.has_times
    assert not raw.has_requests


def test_toml_with_every_key(tmp_path):
    frame = pl.DataFrame(
        {
            "user_id": ["u1", "u1"],
            "item_id": [1, 2],
            "time_ms": [1719830000123, 1719830000123],
            "request_id": [5, None],
            "position": [0, None],
            "surface": ["home", None],
            "hour": [23, 0],
            "age": [1.5, float("nan")],
            "share": [1.0, None],
            "like": [True, None],
        }
    )
    (tmp_path / "events").mkdir()
    frame.write_parquet(tmp_path / "events/one.parquet")
    pl.DataFrame(
        {"id": [1, 2], "name": ["A", None], "tags": ["x| y", None], "shelf": ["s", None], "length": [3, 4]}
    ).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"user_id": ["u1"], "country": ["CH"]}).write_parquet(tmp_path / "users.parquet")
    text = f"""
    [source]
    kind = "table"
    path = "{tmp_path}/events/*.parquet"
    user = "user_id"
    item = "item_id"
    time = "time_ms"
    time_unit = "ms"
    request = "request_id"
    position = "position"
    [source.contexts]
    surface = "categorical"
    daypart = {{ column = "hour", kind = "categorical" }}
    age = "numeric"
    [source.feedback]
    played = {{ column = "share", kind = "fraction" }}
    like = "binary"
    [source.items]
    path = "{tmp_path}/items.parquet"
    item = "id"
    title = "name"
    genres = "tags"
    collection = "shelf"
    [source.users]
    path = "{tmp_path}/users.parquet"
    user = "user_id"
    """
    source = parse_config(Holder, tomllib.loads(text), "test").source
    raw = read(source)
    assert raw.events.rows() == [
        ("u1", 1, 1719830000123, "5", 0, "home", "23", 1.5, 1.0, 1.0),
        ("u1", 2, 1719830000123, None, None, None, "0", None, None, None),
    ]
    assert raw.events.columns[3:] == [
        *("request_id", "position", "context.surface", "context.daypart", "context.age"),
        *("feedback.played", "feedback.like"),
    ]
    assert raw.contexts == {"surface": "categorical", "daypart": "categorical", "age": "numeric"}
    assert raw.items is not None
    assert raw.items.to_dict(as_series=False) == {
        "item_id": [1, 2],
        "title": ["A", None],
        "genres": [["x", "y"], []],
        "collection": ["s", None],
        "length": [3, 4],
    }
    assert raw.users is not None
    assert raw.users.rows() == [("u1", "CH")]
    assert Holder.model_validate({"source": source.model_dump()}).source == source  # the resolved file reads back


def test_lists_of_names_are_categorical_and_binary():
    source = TableSource.model_validate(
        {"kind": "table", "path": "x.csv", "user": "u", "item": "i", "contexts": ["tab"], "feedback": ["like"]}
    )
    assert source.contexts["tab"].model_dump() == {"column": "tab", "kind": "categorical"}
    assert source.feedback["like"].model_dump() == {"column": "like", "kind": "binary"}


def test_leading_zeros_stay_and_only_canonical_integers_become_integers(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n0054890,7\n12,8\n")
    events = table(path=str(tmp_path / "log.csv")).events
    assert events.rows() == [("0054890", 7), ("12", 8)]
    for spelling in ("+7", " 7", "-0", "7 ", "1_0", "9223372036854775808"):
        (tmp_path / "log.csv").write_text(f"user,item\n{spelling},7\n12,8\n")
        assert table(path=str(tmp_path / "log.csv")).events["user_id"].to_list() == [spelling, "12"]


@pytest.mark.parametrize("user", [BIG, 2**63 - 1, -BIG])
def test_large_ids_survive_every_format(tmp_path, user):
    (tmp_path / "a.csv").write_text(f"user,item\n{user},7\n")
    (tmp_path / "a.jsonl").write_text(f'{{"user": {user}, "item": 7}}\n{{"user": 1, "item": 7}}\n')
    pl.DataFrame({"user": [user], "item": [7]}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert table(path=str(tmp_path / name)).events["user_id"][0] == user


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.integers(-(2**63), 2**63 - 1) | st.from_regex(r"[0-9a-zA-Z+. _,\"'é-]*[a-z]", fullmatch=True), min_size=1
    )
)
def test_ids_come_back_unchanged(tmp_path, ids):
    frame = pl.DataFrame({"user": [str(value) for value in ids], "item": ["x"] * len(ids)})
    frame.write_csv(tmp_path / "log.csv")
    frame.write_parquet(tmp_path / "log.parquet")
    frame.write_ndjson(tmp_path / "log.jsonl")
    for name in ("log.csv", "log.parquet", "log.jsonl"):
        found = table(path=str(tmp_path / name)).events["user_id"]
        assert found.cast(pl.String).to_list() == [str(value) for value in ids]


def test_uint64_and_categorical_ids(tmp_path):
    frame = pl.DataFrame(
        {"user": pl.Series([BIG, 1], dtype=pl.UInt64), "item": pl.Series(["a", "b"], dtype=pl.Categorical)}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    assert table(path=str(tmp_path / "log.parquet")).events.rows() == [(BIG, "a"), (1, "b")]


def test_text_ids_of_typed_formats_stay_text(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"user": "1", "item": "2"}\n')
    assert table(path=str(tmp_path / "log.jsonl")).events.rows() == [("1", "2")]


@pytest.mark.parametrize(
    ("name", "separator", "keys"),
    [
        ("log.csv", ",", {}),
        ("log.txt", ",", {}),
        ("log.txt", "\t", {}),
        ("log.tsv", "\t", {}),
        ("log.csv", ";", {"separator": ";"}),
        ("log.data", "\t", {"format": "tsv"}),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_text_formats(tmp_path, name, separator, keys, compressed):
    text = "item,user\nü,1\nb,2\n".replace(",", separator).encode()
    path = tmp_path / (name + ".gz" if compressed else name)
    path.write_bytes(gzip.compress(text) if compressed else text)
    assert table(path=str(path), **keys).events.rows() == [(1, "ü"), (2, "b")]


def test_csv_from_other_systems(tmp_path):
    """A byte order mark, Windows line ends, quoted separators, blank lines at the end."""
    (tmp_path / "log.csv").write_bytes(b'\xef\xbb\xbfuser,item,note\r\n1,"a,b",\r\n2,"c""d",\r\n\r\n,,\r\n')
    assert table(path=str(tmp_path / "log.csv")).events.rows() == [(1, "a,b"), (2, 'c"d')]


def test_json_lines_with_absent_keys(tmp_path):
    rows = [{"user": 1, "item": "a"}, {"user": 2, "item": "b", "like": True}, {"user": 3, "item": "c", "like": None}]
    (tmp_path / "1.ndjson").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "2.ndjson").write_text('{"user": 4, "item": "d"}\n')
    (tmp_path / "1.ndjson.gz").write_bytes(gzip.compress((tmp_path / "1.ndjson").read_bytes()))
    expected = [None, 1.0, None]
    raw = table(path=str(tmp_path / "*.ndjson"), feedback=["like"])
    assert raw.events["feedback.like"].to_list() == [*expected, None]
    raw = table(path=str(tmp_path / "1.ndjson.gz"), feedback=["like"])
    assert raw.events["feedback.like"].to_list() == expected


def test_boolean_words_and_empty_fields_of_text(tmp_path):
    (tmp_path / "log.csv").write_text('user,item,like,tab\n1,a,true,x\n2,b,False,\n3,c,,""\n4,d,1,y\n5,e,nan,z\n')
    events = table(path=str(tmp_path / "log.csv"), feedback=["like"], contexts=["tab"]).events
    assert events["feedback.like"].to_list() == [1.0, 0.0, None, 1.0, None]
    assert events["context.tab"].to_list() == ["x", None, None, "y", "z"]


def test_categories_from_numbers_and_booleans(tmp_path):
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "a": [1.0, None], "b": [True, False], "c": [3, 4]})
    frame.write_parquet(tmp_path / "log.parquet")
    events = table(path=str(tmp_path / "log.parquet"), contexts=["a", "b", "c"]).events
    assert events.rows() == [(1, 1, "1", "true", "3"), (2, 2, None, "false", "4")]


def test_files_keep_their_order(tmp_path):
    """A glob is read by name, a list as given; rows of a file stay as they are."""
    for name in ("b", "a", "c[1]"):
        rows = "".join(f"{name},{number}\n" for number in (2, 1, 2))
        (tmp_path / f"{name}.csv").write_text("user,item\n" + rows)
    events = table(path=str(tmp_path / "?.csv")).events
    assert events.rows() == [(name, number) for name in "ab" for number in (2, 1, 2)]
    events = table(path=[str(tmp_path / "b.csv"), str(tmp_path / "a.csv"), str(tmp_path / "c[1].csv")]).events
    assert events["user_id"].to_list() == ["b"] * 3 + ["a"] * 3 + ["c[1]"] * 3


def test_columns_may_lie_in_another_order_in_each_file(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,extra\n1,x,0\n")
    (tmp_path / "b.csv").write_text("item,user\ny,2\n")
    assert table(path=str(tmp_path / "*.csv")).events.rows() == [(1, "x"), (2, "y")]


def test_a_file_without_rows_among_others(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n")
    (tmp_path / "b.csv").write_text("user,item\n2,y\n")
    assert table(path=str(tmp_path / "*.csv")).events.rows() == [(2, "y")]
    pl.DataFrame({"user": [], "item": []}, schema={"user": pl.String, "item": pl.Null}).write_parquet(
        tmp_path / "a.parquet"
    )
    pl.DataFrame({"user": [2], "item": ["y"]}).write_parquet(tmp_path / "b.parquet")
    assert table(path=str(tmp_path / "*.parquet")).events.rows() == [(2, "y")]


def test_side_tables_take_the_type_of_the_events_ids(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n1,7\n")
    (tmp_path / "text.csv").write_text("item,title\n7,A\nspecial,B\n")
    raw = table(path=str(tmp_path / "log.csv"), items={"path": str(tmp_path / "text.csv"), "item": "item"})
    assert raw.items is not None
    assert raw.events["item_id"].to_list() == ["7"]
    assert raw.items.rows() == [("7", "A"), ("special", "B")]
    pl.DataFrame({"item": ["7"]}).write_parquet(tmp_path / "text.parquet")
    raw = table(path=str(tmp_path / "log.csv"), items={"path": str(tmp_path / "text.parquet"), "item": "item"})
    assert raw.items is not None
    assert raw.items.cast(raw.events.select("item_id").schema).rows() == [(7,)]
    pl.DataFrame({"user": ["1"], "item": ["x"]}).write_parquet(tmp_path / "log.parquet")
    pl.DataFrame({"user": [1, 2]}).write_parquet(tmp_path / "users.parquet")
    raw = table(path=str(tmp_path / "log.parquet"), users={"path": str(tmp_path / "users.parquet"), "user": "user"})
    assert raw.users is not None
    assert raw.users.cast(raw.events.select("user_id").schema).rows() == [("1",), ("2",)]


def test_side_tables_keep_other_columns_in_their_plainest_type(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n1,7\n")
    (tmp_path / "items.csv").write_text("id,genres,zip,year,score,name\n7,a; b;;c,012,1999,1.5,N\n8,,34,,2,\n")
    raw = table(
        path=str(tmp_path / "log.csv"),
        items={"path": str(tmp_path / "items.csv"), "item": "id", "title": "name", "genre_separator": ";"},
    )
    assert raw.items is not None
    assert raw.items.to_dict(as_series=False) == {
        "item_id": [7, 8],
        "title": ["N", None],
        "genres": [["a", "b", "c"], []],
        "zip": ["012", "34"],
        "year": [1999, None],
        "score": [1.5, 2.0],
    }


def test_genres_from_a_list_column(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n1,7\n")
    pl.DataFrame({"item": [7, 8], "genres": [["a", None, ""], None]}).write_parquet(tmp_path / "items.parquet")
    raw = table(path=str(tmp_path / "log.csv"), items={"path": str(tmp_path / "items.parquet"), "item": "item"})
    assert raw.items is not None
    assert raw.items["genres"].to_list() == [["a"], []]


def test_parquet_reads_only_the_columns_with_a_role(tmp_path):
    pl.DataFrame({"user": [1], "item": [2], "time": [3.5], "blob": [b"x"]}).write_parquet(tmp_path / "log.parquet")
    assert table(path=str(tmp_path / "log.parquet")).events.columns == ["user_id", "item_id"]
