"""Encoding side tables: as the slow reference, the same for every order and beside anything, and with clear errors."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import side_features as reference
from upnext.base.errors import BadData
from upnext.base.schema import FeatureKind
from upnext.features.encoding import MOST_GRAMS, MOST_VALUES, Encoder, grams

BIG = 2**53 + 1
KINDS: dict[str, FeatureKind] = {
    "author": "categorical",
    "tags": "multi",
    "length": "numeric",
    "title": "text",
    "embedding": "vector",
}
TYPES = {
    "author": pa.string(),
    "tags": pa.list_(pa.string()),
    "length": pa.float64(),
    "title": pa.string(),
    "embedding": pa.list_(pa.float32()),
}

WORDS = st.text(st.sampled_from("ab1_É ǅﬁ-日"), max_size=12)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "author": st.none() | st.sampled_from(["ann", "bob", str(BIG), str(BIG + 1), " "]),
            "tags": st.none() | st.lists(st.sampled_from(["x", "y", "z", str(BIG)]), max_size=5),
            "length": st.none() | st.sampled_from([0.0, -1.5, 3.0, 7.25, 1e12]),
            "title": st.none() | WORDS,
            "embedding": st.none() | st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3),
        }
    ),
    min_size=1,
    max_size=9,
)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()})


def fitted(rows: list[dict[str, Any]], trained: list[bool] | None = None) -> Encoder:
    return Encoder.fit(KINDS, table(rows), np.array(trained if trained is not None else [True] * len(rows)))


def row_of(columns: dict[str, Any], number: int) -> dict[str, list[Any]]:
    """What a model reads of one row: observed values, and vectors whole."""
    seen = {}
    for name, column in columns.items():
        values, observed = column.values[number], column.observed[number]
        assert not values[~observed].any() if values.shape == observed.shape else True
        seen[name] = values[observed].flatten().tolist()
    return seen


@settings(deadline=None)
@given(ROWS, st.data())
def test_encoding_equals_the_reference(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    trained = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    columns = fitted(rows, trained).encode(table(rows))
    bounds = reference.boundaries(
        [r["length"] for r, t in zip(rows, trained, strict=True) if t and r["length"] is not None]
    )
    for number, row in enumerate(rows):
        author, length = row["author"], row["length"]
        assert row_of(columns, number) == {
            "author": [] if author is None or not author.strip() else [reference.hashed(author)],
            "tags": reference.hash_list(row["tags"] or [], MOST_VALUES),
            "length": [] if length is None else [float(np.float32(reference.rank(length, bounds)))],
            "title": reference.hash_list(reference.grams(row["title"] or ""), MOST_GRAMS),
            "embedding": row["embedding"] or [],
        }


@settings(deadline=None)
@given(ROWS)
def test_plain_rows_are_encoded_as_the_table_is(rows: list[dict[str, Any]]) -> None:
    encoder = fitted(rows)
    whole, given_rows = encoder.encode(table(rows)), encoder.encode_rows(rows)
    for name in KINDS:
        torch.testing.assert_close(given_rows[name].values, whole[name].values, rtol=0, atol=0)
        assert given_rows[name].observed.equal(whole[name].observed)


@settings(deadline=None)
@given(ROWS, st.randoms())
def test_permuting_rows_permutes_features(rows: list[dict[str, Any]], random: Any) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    encoder, shuffled = fitted(rows), fitted([rows[number] for number in order])
    for name, bounds in encoder.bounds.items():
        np.testing.assert_array_equal(shuffled.bounds[name], bounds)
    before, after = encoder.encode(table(rows)), shuffled.encode(table([rows[number] for number in order]))
    assert [row_of(after, place) for place in range(len(rows))] == [row_of(before, number) for number in order]


def test_shapes_and_types() -> None:
    rows: list[dict[str, Any]] = [
        {"author": "a", "tags": ["x", "y", "x"], "length": 1.0, "title": "one", "embedding": [1.0, 2.0]},
        {"author": None, "tags": [], "length": None, "title": None, "embedding": None},
    ]
    columns = fitted(rows).encode(table(rows))
    shapes = {name: (tuple(c.values.shape), c.values.dtype, tuple(c.observed.shape)) for name, c in columns.items()}
    assert shapes == {
        "author": ((2,), torch.int64, (2,)),
        "tags": ((2, 2), torch.int64, (2, 2)),
        "length": ((2,), torch.float32, (2,)),
        "title": ((2, 4), torch.int64, (2, 4)),
        "embedding": ((2, 2), torch.float32, (2,)),
    }
    assert all(column.observed.dtype == torch.bool for column in columns.values())
    assert not any(column.observed[1].any() for column in columns.values())
    empty = fitted(rows).encode_rows([])
    assert [tuple(column.values.shape) for column in empty.values()] == [(0,), (0, 1), (0,), (0, 1), (0, 2)]


def test_ids_above_2_to_the_53_stay_apart() -> None:
    encoder = Encoder({"author": "categorical", "tags": "multi"})
    rows: list[dict[str, Any]] = [{"author": BIG, "tags": [BIG]}, {"author": BIG - 1, "tags": [BIG - 1]}]
    columns = encoder.encode_rows(rows)
    assert columns["author"].values.tolist() == [reference.hashed(str(BIG)), reference.hashed(str(BIG - 1))]
    assert columns["tags"].values.tolist() == [[reference.hashed(str(BIG))], [reference.hashed(str(BIG - 1))]]


def test_missing_is_unobserved_and_zero_is_a_value() -> None:
    encoder = Encoder.fit({"length": "numeric"}, pa.table({"length": [0.0, 0.0, 5.0, None]}), np.ones(4, bool))
    column = encoder.encode_rows([{"length": 0.0}, {"length": None}, {}, {"length": math.nan}, {"length": 5}])["length"]
    assert column.observed.tolist() == [True, False, False, False, True]
    # Two thirds of the trained values are 0: 170 boundaries of 255, counted half.
    assert column.values.tolist() == [85 / 256, 0.0, 0.0, 0.0, (170 + 85 / 2) / 256]


def test_quantiles_know_the_trained_rows_alone() -> None:
    trained = np.array([True] * 100 + [False] * 100)
    values = np.concatenate([np.arange(100.0), np.arange(100.0) * 1e6])
    both = Encoder.fit({"x": "numeric"}, pa.table({"x": values}), trained)
    alone = Encoder.fit({"x": "numeric"}, pa.table({"x": values[:100]}), trained[:100])
    np.testing.assert_array_equal(both.bounds["x"], alone.bounds["x"])
    ranks = both.encode(pa.table({"x": values}))["x"].values
    assert float(ranks.max()) < 1.0
    assert float(ranks.min()) >= 0.0
    assert (ranks[:100].diff() > 0).all()
    unknown = Encoder.fit({"x": "numeric"}, pa.table({"x": values}), np.zeros(200, bool))
    column = unknown.encode(pa.table({"x": values}))["x"]
    assert not column.values.any()
    assert column.observed.all()


def test_a_hash_is_the_same_in_another_process() -> None:
    code = "from upnext.features.encoding import Encoder; import sys\n"
    code += "e = Encoder({'a': 'categorical', 't': 'text'}).encode_rows([{'a': 'Léa', 't': 'Solaris 日本'}])\n"
    code += "print(e['a'].values.tolist(), e['t'].values.tolist())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    expected = [reference.hashed("Léa")], [reference.hash_list(reference.grams("Solaris 日本"), MOST_GRAMS)]
    assert outputs == {f"{expected[0]} {expected[1]}\n"}


def test_grams_by_hand() -> None:
    assert grams("The  THE ﬁn") == ["the", "fin", "the the", "the fin", "~^th", "~the", "~he$", "~^fi", "~fin", "~in$"]
    assert grams(" …!") == []
    words = [f"w{number:02}" for number in range(40)]
    assert grams(" ".join(words)) == words[:MOST_GRAMS]


def test_the_first_of_many_values_are_kept() -> None:
    tags = [str(number) for number in range(MOST_VALUES + 9)]
    column = Encoder({"tags": "multi"}).encode_rows([{"tags": tags}, {"tags": ["7", "7", " 7 ", ""]}])["tags"]
    assert column.values.shape == (2, MOST_VALUES)
    assert column.values[0].tolist() == reference.hash_list(tags, MOST_VALUES)
    assert column.values[1][column.observed[1]].tolist() == [reference.hashed("7")]


def test_categories_are_spelt_one_way() -> None:
    rows = [{"author": value} for value in (7, 7.0, "7", np.int64(7), True, "true")]
    seven, true = reference.hashed("7"), reference.hashed("true")
    assert Encoder({"author": "categorical"}).encode_rows(rows)["author"].values.tolist() == [seven] * 4 + [true] * 2


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("author", 2.5, "text, an integer or a boolean"),
        ("author", ["ann"], "text, an integer or a boolean"),
        ("tags", "x|y", "a list of text, integers or booleans"),
        ("tags", [1.5], "a list of text, integers or booleans"),
        ("tags", [None], "a list of text, integers or booleans"),
        ("length", "long", "a finite number"),
        ("length", math.inf, "a finite number"),
        ("title", 7, "text"),
        ("embedding", 1.0, "a list of finite numbers"),
        ("embedding", [1.0, math.nan, 0.0], "a list of finite numbers"),
        ("embedding", [1.0, 1e39, 0.0], "a list of finite numbers"),
        ("embedding", ["1", "2", "3"], "a list of finite numbers"),
    ],
)
def test_bad_rows_are_named(name: str, value: Any, allowed: str) -> None:
    row = {"author": "a", "tags": ["x"], "length": 1.0, "title": "t", "embedding": [1.0, 2.0, 3.0]}
    encoder = fitted([row])
    with pytest.raises(BadData) as caught:
        encoder.encode_rows([row, row | {name: value}])
    assert (
        str(caught.value) == f"row 1: the feature {name!r} is {value!r}; allowed: {allowed}; leave out what is unknown"
    )


def test_a_vector_of_another_width_is_named() -> None:
    encoder = Encoder.fit({"v": "vector"}, pa.table({"v": [None, [1.0, 2.0]]}), np.ones(2, bool))
    with pytest.raises(BadData, match=r"row 1: the feature 'v' has 3 numbers; allowed: 2, as in the log"):
        encoder.encode_rows([{"v": [1, 2]}, {"v": [1, 2, 3]}])
