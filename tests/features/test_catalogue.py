"""The catalogue: side columns by dense id, hashes as the models read them, and files that match."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from upnext.base.errors import BadArtifact, NotFound
from upnext.features.catalogue import Catalogue
from upnext.features.vocabulary import Vocabulary

BIG = 2**53 + 1
IDS = [BIG, 7, BIG + 1, 9]
TABLE = pa.table(
    {
        "title": ["Solaris", None, "Stalker", ""],
        "genres": [["drama", "science fiction"], [], None, ["drama"]],
        "collection": ["films", "series", None, "films"],
        "year": [1972, None, 1979, 1980],
    }
)


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(Vocabulary(IDS), TABLE)


def bare() -> Catalogue:
    return Catalogue(Vocabulary(["a", "b"]), pa.table({"row": [0, 1]}))


def test_length_counts_padding_and_unknown(catalogue: Catalogue) -> None:
    assert len(catalogue) == 6


def test_hashes_are_of_the_external_ids(catalogue: Catalogue) -> None:
    def expected(external: int) -> int:
        return int.from_bytes(hashlib.blake2b(str(external).encode(), digest_size=8).digest(), "little", signed=True)

    assert catalogue.item_hash.dtype == np.int64
    assert catalogue.item_hash.tolist() == [0, 0, *map(expected, IDS)]


def test_items_are_rows_by_dense_id(catalogue: Catalogue) -> None:
    assert len(catalogue.items) == 6
    assert catalogue.items.item.tolist() == [0, 1, 2, 3, 4, 5]
    assert catalogue.items.item_hash.tolist() == catalogue.item_hash.tolist()


def test_describe_gives_what_the_page_shows(catalogue: Catalogue) -> None:
    assert catalogue.describe(2) == {
        "item_id": BIG,
        "title": "Solaris",
        "genres": ["drama", "science fiction"],
        "collection": "films",
    }
    assert catalogue.describe(3) == {"item_id": 7, "title": "7", "genres": [], "collection": "series"}
    assert catalogue.describe(4) == {"item_id": BIG + 1, "title": "Stalker", "genres": [], "collection": None}
    assert catalogue.describe(5)["title"] == "9"
    assert bare().describe(3) == {"item_id": "b", "title": "b", "genres": [], "collection": None}


def test_a_title_or_else_the_id(catalogue: Catalogue) -> None:
    assert [catalogue.title(dense) for dense in range(2, 6)] == ["Solaris", "7", "Stalker", "9"]
    assert bare().title(2) == "a"


@pytest.mark.parametrize("dense", [-1, 0, 1, 6, 99])
def test_padding_unknown_and_what_lies_beyond_are_no_items(catalogue: Catalogue, dense: int) -> None:
    with pytest.raises(NotFound, match=f"the dense id {dense};"):
        catalogue.describe(dense)
    with pytest.raises(NotFound, match=f"the dense id {dense};"):
        catalogue.title(dense)


def test_collections_by_dense_id(catalogue: Catalogue) -> None:
    collections = catalogue.collections
    assert list(collections) == ["films", "series"]
    assert collections["films"].tolist() == [False, False, True, False, False, True]
    assert collections["series"].tolist() == [False, False, False, True, False, False]
    assert bare().collections == {}
    nobody = Catalogue(Vocabulary(["a"]), pa.table({"collection": pa.array([None], pa.string())}))
    assert nobody.collections == {}


def test_the_files_hold_everything(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.save(tmp_path)
    loaded = Catalogue.load(tmp_path)
    assert loaded.vocabulary.ids == IDS
    assert loaded.table.equals(TABLE)
    assert [loaded.describe(dense) for dense in range(2, 6)] == [catalogue.describe(dense) for dense in range(2, 6)]
    np.testing.assert_array_equal(loaded.item_hash, catalogue.item_hash)


def test_damaged_files_are_told(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.save(tmp_path)
    content = (tmp_path / "items.arrow").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no Arrow file"):
        (tmp_path / "items.arrow").write_bytes(damaged)
        with pytest.raises(BadArtifact, match=r"items\.arrow is no item table .*run prepare again"):
            Catalogue.load(tmp_path)
    (tmp_path / "items.arrow").unlink()
    with pytest.raises(BadArtifact, match=r"items\.arrow is no item table"):
        Catalogue.load(tmp_path)
    (tmp_path / "items.arrow").write_bytes(content)
    (tmp_path / "items.vocabulary.arrow").unlink()
    with pytest.raises(BadArtifact, match=r"items\.vocabulary\.arrow is no vocabulary"):
        Catalogue.load(tmp_path)


def test_a_table_of_another_catalogue_is_told(catalogue: Catalogue, tmp_path: Path) -> None:
    """Else every title would belong to another item."""
    catalogue.save(tmp_path)
    Vocabulary([*IDS, 10]).save(tmp_path / "items.vocabulary.arrow")
    with pytest.raises(BadArtifact, match=r"items\.arrow has 4 rows, its vocabulary 5 items"):
        Catalogue.load(tmp_path)
