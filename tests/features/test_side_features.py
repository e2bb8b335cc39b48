"""Features by dense id: where catalogues and people keep them, and the files that hold them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.reference.side_features import hashed
from upnext.base.errors import BadArtifact, BadData
from upnext.base.schema import FeatureKind
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary

BIG = 2**53 + 1
KINDS: dict[str, FeatureKind] = {"author": "categorical", "genres": "multi", "year": "numeric", "look": "vector"}
TABLE = pa.table(
    {
        "title": ["Solaris", None, "Stalker"],
        "author": [str(BIG), None, str(BIG + 1)],
        "genres": [["a", "b"], [], None],
        "year": [1972, None, 1979],
        "look": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32())),
    }
)


@pytest.fixture
def catalogue() -> Catalogue:
    trained = np.array([False, False, True, True, False])
    return Catalogue(Vocabulary([BIG, 7, 9]), TABLE).fitted(KINDS, trained)


def test_rows_are_dense_ids_and_the_first_two_are_nobody(catalogue: Catalogue) -> None:
    features = catalogue.items.features
    assert list(features) == list(KINDS)
    assert features["author"].values.tolist() == [0, 0, hashed(str(BIG)), 0, hashed(str(BIG + 1))]
    assert features["author"].observed.tolist() == [False, False, True, False, True]
    assert features["genres"].values.tolist() == [[0, 0], [0, 0], [hashed("a"), hashed("b")], [0, 0], [0, 0]]
    assert features["year"].observed.tolist() == [False, False, True, False, True]
    # 1972 is the one trained value: half of it lies below it, all of it below 1979.
    assert features["year"].values.tolist() == [0, 0, 255 / 2 / 256, 0, 255 / 256]
    assert features["look"].values.tolist() == [[0, 0], [0, 0], [1, 2], [0, 0], [3, 4]]


def test_items_outside_the_vocabulary_have_their_own_features(catalogue: Catalogue) -> None:
    rows: list[dict[str, Any]] = [{"author": BIG, "genres": ["b"], "year": 2001, "title": "ignored"}, {"look": [5, 6]}]
    table = catalogue.encode_rows([BIG + 5, 9], rows)
    assert table.item.tolist() == [1, 4]
    assert table.item_hash.tolist() == [hashed(str(BIG + 5)), hashed("9")]
    assert table.features["author"].values.tolist() == [hashed(str(BIG)), 0]
    assert table.features["year"].values.tolist() == [255 / 256, 0]
    assert table.features["look"].values.tolist() == [[0, 0], [5, 6]]
    assert table.features["look"].observed.tolist() == [False, True]
    with pytest.raises(BadData, match=r"row 0: the feature 'year' is 'old'; allowed: a finite number"):
        catalogue.encode_rows([1], [{"year": "old"}])


def test_what_was_told_under_another_catalogue_is_read_as_far_as_it_fits(catalogue: Catalogue) -> None:
    odd: dict[str, Any] = {"author": BIG, "year": "old", "look": [1, 2, 3], "genres": ["b"]}
    fitting: list[dict[str, Any]] = [{"author": BIG, "genres": ["b"]}, {"year": 1999}]
    told, expected = catalogue.encode_told([1, 2], [odd, {"year": 1999}]), catalogue.encode_rows([1, 2], fitting)
    for name, column in expected.features.items():
        assert told.features[name].values.tolist() == column.values.tolist(), name
        assert told.features[name].observed.tolist() == column.observed.tolist(), name


def test_users_of_whom_nothing_is_known() -> None:
    people = People(Vocabulary(["ann", "bob"]), pa.table({"age": ["30", None]}))
    assert people.features.take(torch.tensor([2])) == {}
    people = people.fitted({"age": "categorical"}, np.ones(4, bool))
    column = people.features.take(torch.tensor([1, 2, 3, 2]))["age"]
    assert column.values.tolist() == [0, hashed("30"), 0, hashed("30")]
    assert column.observed.tolist() == [False, True, False, True]
    assert len(people) == 4


def test_the_files_hold_features_and_what_was_learnt(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.save(tmp_path)
    loaded = Catalogue.load(tmp_path)
    assert loaded.features.encoder.kinds == KINDS
    for name, column in catalogue.items.features.items():
        assert loaded.items.features[name].values.equal(column.values)
        assert loaded.items.features[name].observed.equal(column.observed)
        assert loaded.items.features[name].values.dtype == column.values.dtype
    rows = [{"year": 1975.5, "look": [0, 1], "author": "x"}]
    ours, theirs = (one.encode_rows(["new"], rows).features for one in (catalogue, loaded))
    assert [column.values.tolist() for column in ours.values()] == [
        column.values.tolist() for column in theirs.values()
    ]
    with pytest.raises(BadData, match="allowed: 2, as in the log"):
        loaded.encode_rows(["new"], [{"look": [1, 2, 3]}])


def test_the_same_table_gives_the_same_bytes(catalogue: Catalogue, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        catalogue.save(tmp_path / name)
    one, two = ((tmp_path / name / "item_features.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_damaged_files_are_told(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.save(tmp_path)
    path = tmp_path / "item_features.safetensors"
    content = path.read_bytes()
    for damaged in (b"", b"no features", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(BadArtifact, match=r"item_features\.safetensors holds no features .*run prepare again"):
            Catalogue.load(tmp_path)
    path.unlink()
    with pytest.raises(BadArtifact, match=r"item_features\.safetensors holds no features"):
        Catalogue.load(tmp_path)


def test_features_of_another_catalogue_are_told(catalogue: Catalogue, tmp_path: Path) -> None:
    """Else every item would have another's."""
    catalogue.save(tmp_path)
    content = (tmp_path / "item_features.safetensors").read_bytes()
    Catalogue(Vocabulary([1]), pa.table({"title": ["a"]})).save(tmp_path)
    (tmp_path / "item_features.safetensors").write_bytes(content)
    with pytest.raises(BadArtifact, match=r"item_features\.safetensors has 5 rows, its vocabulary 3 numbers"):
        Catalogue.load(tmp_path)


def test_a_users_table_names_itself(tmp_path: Path) -> None:
    People(Vocabulary(["ann"]), pa.table({"age": [1]})).save(tmp_path)
    (tmp_path / "users.arrow").write_bytes(b"")
    with pytest.raises(BadArtifact, match=r"users\.arrow is no user table"):
        People.load(tmp_path)
