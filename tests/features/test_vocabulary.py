"""Vocabularies: nothing moves, every id comes back unchanged, and damage is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.errors import BadArtifact, BadData, NotFound
from upnext.base.ids import UNKNOWN
from upnext.features.vocabulary import Vocabulary

BIG = 2**53 + 1
INTEGERS = [7, 0, -3, BIG, BIG + 1, 2**63 - 1, -(2**63)]
STRINGS = ["7", "007", "", "tt0111161", "Ирония", "日\0本", " 7", "9" * 40]
property_test = settings(max_examples=50, deadline=None)
IDS = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=9) | st.lists(
    st.text(st.characters(codec="utf-8"), max_size=4), unique=True, max_size=9
)


@property_test
@given(IDS)
def test_ids_are_numbered_from_2_and_come_back_unchanged(ids: list[Any]) -> None:
    vocabulary = Vocabulary(ids)
    assert len(vocabulary) == len(ids) + 2
    assert vocabulary.ids == ids
    assert vocabulary.encode(ids).tolist() == list(range(2, len(ids) + 2))
    assert vocabulary.encode(ids).dtype == np.int64
    for number, external in enumerate(ids, start=2):
        assert vocabulary.dense(external) == number
        back = vocabulary.external(number)
        assert back == external
        assert type(back) is type(external)


@pytest.mark.parametrize("ids", [INTEGERS, STRINGS])
def test_ids_of_every_kind_survive_the_file(ids: list[Any], tmp_path: Path) -> None:
    before = Vocabulary(ids, lineage=["aa", "bb"])
    before.save(tmp_path / "v.arrow")
    after = Vocabulary.load(tmp_path / "v.arrow")
    assert after.ids == ids
    assert [type(value) for value in after.ids] == [type(value) for value in ids]
    assert after.is_integer == before.is_integer == (ids is INTEGERS)
    assert after.lineage == ("aa", "bb")
    assert after.digest == before.digest
    assert after.encode(ids).tolist() == list(range(2, len(ids) + 2))


def test_an_empty_vocabulary_survives_the_file_and_grows(tmp_path: Path) -> None:
    Vocabulary([]).save(tmp_path / "v.arrow")
    empty = Vocabulary.load(tmp_path / "v.arrow")
    assert len(empty) == 2
    assert empty.extended([5, 6]).encode([6, 5]).tolist() == [3, 2]
    assert empty.extended(["a"]).dense("a") == 2


@property_test
@given(IDS, st.data())
def test_extending_appends_and_moves_nothing(ids: list[Any], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(ids)))
    old = Vocabulary(ids[:cut])
    repeated = data.draw(st.lists(st.sampled_from(ids), max_size=4)) if ids else []
    new = old.extended([*repeated, *ids])
    assert new.ids[:cut] == ids[:cut]
    assert sorted(map(repr, new.ids)) == sorted(map(repr, ids))
    order = list(dict.fromkeys(value for value in [*repeated, *ids] if value not in ids[:cut]))
    assert new.ids[cut:] == order  # new ones in the order given
    assert old.ids == ids[:cut]
    assert new.lineage == ((old.digest,) if order else ())


def test_lineage_lists_all_ancestors_oldest_first() -> None:
    first = Vocabulary(["a"])
    second = first.extended(["b"])
    third = second.extended(["a", "c"])
    assert third.ids == ["a", "b", "c"]
    assert third.lineage == (first.digest, second.digest)
    assert third.extended(["c", "a"]) is third  # nothing new, nothing made


def test_digest_is_of_the_numbering() -> None:
    different: list[list[Any]] = [[], [1], [2], [1, 2], [2, 1], ["1"], ["1", "2"], ["12"], ["1\0", "2"], ["1", "\0002"]]
    different += [["1\0002"], [12]]
    assert len({Vocabulary(ids).digest for ids in different}) == len(different)
    assert Vocabulary([1, 2], lineage=["x"]).digest == Vocabulary([1, 2]).digest == Vocabulary([1]).extended([2]).digest


@pytest.mark.parametrize(
    "values",
    [[BIG, 5, BIG + 2, None], np.array([BIG, 5, BIG + 2, 6]), pa.array([BIG, 5, BIG + 2, None]),
     pa.chunked_array([[BIG, 5], [BIG + 2, None]])],
)  # fmt: skip
def test_encode_tells_neighbours_above_2_to_the_53_apart(values: Any) -> None:
    """BIG + 1 and BIG + 2 round to floats that others share; the unknown and the null are 1."""
    assert Vocabulary([5, BIG - 1, BIG, BIG + 1]).encode(values).tolist() == [4, 2, UNKNOWN, UNKNOWN]


def test_encode_keeps_leading_zeros_apart() -> None:
    vocabulary = Vocabulary(["7", "007", "07"])
    assert vocabulary.encode(["07", "7", "007", "0007", ""]).tolist() == [4, 2, 3, UNKNOWN, UNKNOWN]


def test_unknown_ids_are_1() -> None:
    assert Vocabulary([7]).dense(8) == UNKNOWN
    assert Vocabulary([7]).dense("7") == UNKNOWN
    assert Vocabulary(["7"]).dense(7) == UNKNOWN
    assert Vocabulary([]).dense(7) == UNKNOWN
    assert Vocabulary([7]).encode([8, 7]).tolist() == [UNKNOWN, 2]
    assert Vocabulary([]).encode(["a"]).tolist() == [UNKNOWN]
    assert Vocabulary([7]).encode([]).shape == (0,)


@pytest.mark.parametrize("dense", [-1, 0, 1, 4, 99])
def test_numbers_of_nothing_have_no_external_id(dense: int) -> None:
    with pytest.raises(NotFound, match=f"the dense id {dense}; real ones are 2 … 3"):
        Vocabulary(["a", "b"]).external(dense)


@pytest.mark.parametrize("number", INTEGERS)
def test_parse_reads_integers_as_written(number: int) -> None:
    assert Vocabulary(INTEGERS).parse(str(number)) == number
    assert Vocabulary(["a"]).parse(str(number)) == str(number)  # where ids are strings it stays one


@pytest.mark.parametrize(
    "text", ["007", "+7", "-0", " 7", "7 ", "7.0", "1e3", "", "-", "--7", "7-", "1_000", "٣", "²", "abc", "9" * 5000]
)
def test_parse_leaves_alone_what_no_integer_is_written_like(text: str) -> None:
    """Nothing but the canonical form: else two addresses would name one item. No text is an error."""
    vocabulary = Vocabulary([7, 0, 1000, 3])
    assert vocabulary.parse(text) == text
    assert vocabulary.dense(vocabulary.parse(text)) == UNKNOWN


def test_an_integer_beyond_64_bits_is_unknown() -> None:
    vocabulary = Vocabulary(INTEGERS)
    assert vocabulary.dense(vocabulary.parse(str(2**63))) == UNKNOWN


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 2, 1], "twice"),
        (["a", "a"], "twice"),
        ([1, None], "null"),
        (["a", None], "null"),
        ([None], "null"),
        ([1, "a"], r"never both; found \['int', 'str'\]"),
        (["a", 1], "never both"),
        (["1", 1], "never both"),
        ([1, 2.5], "never both"),
        ([1, 2.0], "never both"),
        ([1.0, 2.0], "found .'float'"),
        ([True, False], "found .'bool'"),
        ([1, True], "never both"),
        ([b"a"], "found .'bytes'"),
        ([2**63], "64-bit"),
        (["\ud800"], "text"),
        (pa.array([1, 1]), "twice"),
        (pa.array(["a", None]), "null"),
        (pa.array([1.0, 2.0]), "type double"),
        (pa.array([True]), "type bool"),
        (pa.array([2**63], pa.uint64()), "type uint64"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(ids: Any, words: str) -> None:
    with pytest.raises(BadData, match=words):
        Vocabulary(ids)


@pytest.mark.parametrize("new", [["a"], [None], [2.5]])
def test_extending_by_another_type_is_refused(new: list[Any]) -> None:
    with pytest.raises(BadData, match=r"never both|null"):
        Vocabulary([1, 2]).extended(new)


def without_metadata(path: Path) -> None:
    write_table(path, pa.table({"id": ["a"]}))


def write_table(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def other_column(path: Path) -> None:
    write_table(path, pa.table({"name": ["a"]}).replace_schema_metadata({"lineage": "[]"}))


def broken_lineage(path: Path) -> None:
    write_table(path, pa.table({"id": ["a"]}).replace_schema_metadata({"lineage": "[half"}))


def repeated_id(path: Path) -> None:
    write_table(path, pa.table({"id": ["a", "a"]}).replace_schema_metadata({"lineage": json.dumps([])}))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [Path.unlink, truncated, empty, without_metadata, other_column, broken_lineage, repeated_id]
)
def test_a_damaged_file_is_told(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "users.arrow"
    Vocabulary(STRINGS).save(path)
    damage(path)
    with pytest.raises(BadArtifact, match=r"users\.arrow is no vocabulary .*run prepare again"):
        Vocabulary.load(path)


def test_encoding_takes_anything_and_knows_only_ids_of_its_type() -> None:
    numbers, words = Vocabulary([7, 1]), Vocabulary(["7", "a"])
    assert numbers.encode(["a", 7, 2**70, True, 7.0]).tolist() == [1, 2, 1, 1, 1]
    assert numbers.encode(pa.array(["007", "7"])).tolist() == [1, 1]
    assert numbers.encode(pa.array([7.0, 1.0])).tolist() == [1, 1]
    assert numbers.encode(np.array([1, 7])).tolist() == [3, 2]
    assert words.encode([7, "7", None]).tolist() == [1, 2, 1]
    assert words.encode(pa.array(["a", None], pa.large_string())).tolist() == [3, 1]


@pytest.mark.parametrize("ids", [["ann", "bob", "cy"], [7, -8, BIG]])
def test_an_id_that_was_taken_out_leaves_its_number_to_nobody(tmp_path: Path, ids: list[Any]) -> None:
    whole = Vocabulary(ids)
    without = whole.without([ids[1], "never there"])
    without.save(tmp_path / "ids.arrow")
    for vocabulary in (without, Vocabulary.load(tmp_path / "ids.arrow")):
        assert vocabulary.ids == [ids[0], ids[2]]
        assert vocabulary.dense_ids.tolist() == [2, 4]
        assert len(vocabulary) == 5
        assert [vocabulary.dense(one) for one in ids] == [2, 1, 4]
        assert vocabulary.encode(pa.array(ids)).tolist() == [2, 1, 4]
        assert vocabulary.external(4) == ids[2]
        with pytest.raises(NotFound, match="taken out"):
            vocabulary.external(3)
        assert vocabulary.is_integer == whole.is_integer
        assert vocabulary.lineage == (whole.digest,)
        assert vocabulary.digest == without.digest != whole.digest
    longer = without.extended([*ids, ids[1]])
    assert [longer.dense(one) for one in ids] == [2, 5, 4]  # whoever comes back is somebody new
    raw = ids[1].encode() if isinstance(ids[1], str) else ids[1].to_bytes(8, "little", signed=True)
    assert raw not in (tmp_path / "ids.arrow").read_bytes()
    assert not Vocabulary(ids[:1]).without(ids).ids
