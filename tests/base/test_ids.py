"""Hashes of external ids: the same everywhere, for ever, and never through a float."""

import hashlib
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from upnext.base.ids import FIRST, PADDING, UNKNOWN, item_hash, stable_hash

IDS = [0, 7, -7, 2**53, 2**53 + 1, 2**63 - 1, "", "7", "007", "tt0111161", "Ирония судьбы", "日本\0"]


def expected_hash(text: str) -> int:
    """The first eight bytes of an eight-byte BLAKE2b, read as a little-endian signed integer."""
    (number,) = struct.unpack("<q", hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest())
    return int(number)


@pytest.mark.parametrize("value", IDS)
def test_hash_is_the_documented_one(value: int | str) -> None:
    assert stable_hash(value) == expected_hash(str(value))
    assert -(2**63) <= stable_hash(value) < 2**63


@pytest.mark.parametrize("seed", ["0", "12345"])
def test_hash_is_the_same_in_another_process(seed: str) -> None:
    """Python salts its own `hash` per process; ours must not notice."""
    code = f"from upnext.base.ids import stable_hash; print([stable_hash(value) for value in {IDS!r}])"
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert output.stdout.strip() == str([expected_hash(str(value)) for value in IDS])


def test_an_integer_hashes_like_its_text() -> None:
    assert stable_hash(7) == stable_hash("7")
    assert stable_hash("7") != stable_hash("007")


def test_integers_that_one_float_stands_for_hash_apart() -> None:
    assert float(2**53) == float(2**53 + 1)
    assert stable_hash(2**53) != stable_hash(2**53 + 1)


def test_item_hash_hashes_each_id() -> None:
    hashes = item_hash([7, 2**53 + 1, 8])
    assert hashes.dtype == np.int64
    assert hashes.tolist() == [expected_hash("7"), expected_hash(str(2**53 + 1)), expected_hash("8")]
    assert item_hash([]).shape == (0,)
    assert item_hash([]).dtype == np.int64


def test_many_ids_do_not_collide() -> None:
    assert len(np.unique(item_hash(range(20_000)))) == 20_000


def test_reserved_numbers() -> None:
    assert (PADDING, UNKNOWN, FIRST) == (0, 1, 2)
