"""Features of side tables: declared short or long, read by kind, and refused with the place that is wrong."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig, BadData
from upnext.events.sources import RawLog, TableSource, in_order, read

BIG = 2**53 + 1
ITEMS = {
    "id": [BIG, BIG + 1, 5],
    "name": ["Solaris", " ", None],
    "genre_list": ["drama|sf", None, ""],
    "author_id": [BIG, None, BIG + 1],
    "tag_ids": ["1, 2", "", "3"],
    "length": [1.5, float("nan"), 0.0],
    "made": [date(1972, 2, 1), None, date(1970, 1, 2)],
    "added": [datetime(1970, 1, 1, 0, 0, 1), None, datetime(1970, 1, 1)],
    "embedding": [[1.0, 2.0], None, [0.0, -1.0]],
}
ALL = {
    "author": {"column": "author_id", "kind": "categorical"},
    "tags": {"column": "tag_ids", "kind": "multi", "separator": ","},
    "length": "numeric",
    "made": "numeric",
    "added": "numeric",
    "title": "text",
    "genres": "multi",
    "embedding": "vector",
}


def source(folder: Path, items: dict[str, Any], file: str = "items.parquet", **keys: Any) -> TableSource:
    settings = {
        "kind": "table",
        "path": str(folder / "events.parquet"),
        "user": "user",
        "item": "item",
        "items": {"path": str(folder / file), "item": "id"} | items,
    }
    return parse_config(TableSource, settings | keys, "project.toml")


def read_items(folder: Path, features: Any, table: dict[str, Any] | None = None, **keys: Any) -> RawLog:
    pl.DataFrame({"user": [1, 2], "item": [BIG, 5]}).write_parquet(folder / "events.parquet")
    pl.DataFrame(table or ITEMS).write_parquet(folder / "items.parquet")
    return read(source(folder, {"features": features} | keys))


def test_every_kind_is_read(tmp_path: Path) -> None:
    raw = read_items(tmp_path, ALL, title="name", genres="genre_list")
    assert raw.item_features == {
        "author": "categorical",
        "tags": "multi",
        "length": "numeric",
        "made": "numeric",
        "added": "numeric",
        "title": "text",
        "genres": "multi",
        "embedding": "vector",
    }
    assert raw.items is not None
    assert raw.items.drop("item_id").to_dict(as_series=False) == {
        "title": ["Solaris", " ", None],
        "genres": [["drama", "sf"], [], []],
        "author": [str(BIG), None, str(BIG + 1)],
        "tags": [["1", "2"], [], ["3"]],
        "length": [1.5, None, 0.0],
        "made": [761.0, None, 1.0],
        "added": [1000.0, None, 0.0],
        "embedding": [[1.0, 2.0], None, [0.0, -1.0]],
    }


def test_a_list_of_names_is_categorical(tmp_path: Path) -> None:
    raw = read_items(tmp_path, ["author_id", "name"])
    assert raw.item_features == {"author_id": "categorical", "name": "categorical"}
    assert raw.items is not None
    assert raw.items["author_id"].to_list() == [str(BIG), None, str(BIG + 1)]
    assert raw.items.columns[:3] == ["item_id", "author_id", "name"]
    assert "length" in raw.items.columns  # other columns are kept


def test_users_and_text_files(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,item\nu1,a\nu2,b\n")
    (tmp_path / "users.csv").write_text("who,age,likes,taste\nu2,,x|y,0.5|1\nu1,31,,\n")
    users = {"path": str(tmp_path / "users.csv"), "user": "who"}
    features = {"age": "numeric", "likes": "multi", "taste": "vector"}
    config = {"kind": "table", "path": str(tmp_path / "events.csv"), "user": "user", "item": "item"}
    raw = read(parse_config(TableSource, config | {"users": users | {"features": features}}, "project.toml"))
    assert raw.user_features == features
    assert raw.users is not None
    table = in_order(pl.Series("user_id", ["u1", "u3", "u2"]), raw.users)
    assert table.to_pydict() == {
        "age": [31.0, None, None],
        "likes": [[], None, ["x", "y"]],
        "taste": [None, None, [0.5, 1.0]],
    }


def test_a_table_without_columns_of_its_own(tmp_path: Path) -> None:
    assert in_order(pl.Series("item_id", [5, 6]), None).num_rows == 2
    assert in_order(pl.Series("item_id", [5, 6]), pl.DataFrame({"item_id": [6]})).num_rows == 2


def test_the_separator_of_genres_serves_their_copy(tmp_path: Path) -> None:
    table = ITEMS | {"genres": ["a,b", "c", None]}
    features = {"kinds": {"column": "genres", "kind": "multi"}}
    raw = read_items(tmp_path, features, table, genre_separator=",")
    assert raw.items is not None
    assert raw.items["kinds"].to_list() == raw.items["genres"].to_list() == [["a", "b"], ["c"], []]


@pytest.mark.parametrize(
    ("features", "keys", "problem"),
    [
        ({"id": "categorical"}, {}, "the feature 'id' reads the id, column 'id': models know it by itself; remove it"),
        ({"x": {"column": "id", "kind": "numeric"}}, {}, "the feature 'x' reads the id, column 'id'"),
        ({"item_id": {"column": "name", "kind": "text"}}, {}, "the feature 'item_id' reads the id, column 'name'"),
        (
            {"a": {"column": "name", "kind": "text"}, "b": {"column": "name", "kind": "text"}},
            {},
            "the features 'a' and 'b' both read column 'name'; remove one",
        ),
        (
            {"title": {"column": "genre_list", "kind": "text"}},
            {"title": "name"},
            "'title' is column 'name' to the page; give the feature that reads 'genre_list' another name",
        ),
        ({"title": "numeric"}, {"title": "name"}, "the feature 'title' has kind 'numeric'; allowed: text or categori"),
        ({"genres": "categorical"}, {"genres": "genre_list"}, "'genres' has kind 'categorical'; allowed: multi"),
        (
            {"genres": {"kind": "multi", "separator": ","}},
            {"genres": "genre_list"},
            "separator has no effect on the feature 'genres'; set genre_separator beside it",
        ),
        ({"name": {"kind": "text", "separator": ","}}, {}, "separator = ',' has no effect on kind = \"text\""),
        ({"name": "words"}, {}, "categorical"),
        ({"a b": "text"}, {}, "'a b' cannot be a name; use letters, digits and underscores"),
        ({"name": {"kind": "text", "unit": "s"}}, {}, "unknown key"),
    ],
)
def test_what_cannot_be_declared(tmp_path: Path, features: Any, keys: dict[str, str], problem: str) -> None:
    with pytest.raises(BadConfig) as caught:
        source(tmp_path, {"features": features} | keys)
    assert problem in str(caught.value)


def test_one_column_may_be_two_kinds(tmp_path: Path) -> None:
    both = {"year": {"column": "made", "kind": "numeric"}, "decade": {"column": "made", "kind": "categorical"}}
    assert read_items(tmp_path, both).item_features == {"year": "numeric", "decade": "categorical"}


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        ("categorical", [1.5, 2.0, 3.0], "items.parquet row 1: column 'x' is 1.5"),
        ("categorical", [["a"], ["b"], []], "of type List(String); allowed: text, integers or booleans"),
        ("multi", [1, 2, 3], "of type Int64; allowed: lists, or text with a separator"),
        ("multi", [[1.5], [], []], "of type List(Float64); allowed: lists of text or integers"),
        ("numeric", ["a", "1", "2"], "row 1: column 'x' is 'a'; allowed: numbers"),
        ("numeric", [1.0, float("inf"), 2.0], "row 2: column 'x' is inf; allowed: finite numbers"),
        ("numeric", [[1.0], [2.0], [3.0]], "of type List(Float64); allowed: numbers"),
        ("text", [1, 2, 3], 'of type Int64; allowed: text; convert the column, or declare kind = "categorical"'),
        ("vector", [1.0, 2.0, 3.0], "of type Float64; allowed: lists of numbers, or text with a separator"),
        ("vector", [None, [1.0, 2.0], [1.0]], "row 3: column 'x' is '1 numbers'; allowed: 2 numbers, as on the first"),
        ("vector", [[1.0], [None], [2.0]], "row 2: column 'x' is 'a vector with a gap, or with a number that is not f"),
        ("vector", [[1.0], [2.0], [float("nan")]], "row 3: column 'x' is 'a vector with a gap"),
        ("vector", [[1.0], [1e39], [2.0]], "row 2: column 'x' is 'a vector with a gap"),
        ("vector", ["1|b", "2|3", None], "row 1: column 'x' is 'a vector with a gap"),
        ("vector", ["", None, " "], "row 1: column 'x' is '' (3 rows like it); allowed: a vector on at least one"),
    ],
)
def test_values_of_another_kind_are_named(tmp_path: Path, kind: str, values: list[Any], problem: str) -> None:
    table = {"id": [BIG, BIG + 1, 5], "x": pl.Series(values, strict=False)}
    with pytest.raises(BadData) as caught:
        read_items(tmp_path, {"x": kind}, table)
    assert problem in str(caught.value)


def test_an_unknown_column_is_named_with_the_key_that_asks(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"has no column 'lenght' \(asked for by items.features.lenght\).*'length'"):
        read_items(tmp_path, {"lenght": "numeric"})
