"""Texts hashed many at once: equal texts alike, different ones apart, wherever they lie in a column."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.base import ids
from upnext.base.ids import hash_texts


def one(text: str) -> int:
    return int(hash_texts(pa.array([text]))[0])


@given(st.lists(st.none() | st.text(max_size=20)))
def test_each_text_has_one_number_wherever_it_stands(texts: list[str | None]) -> None:
    numbers = hash_texts(pa.array(texts, pa.string())).tolist()
    assert numbers == [-1 if text is None else one(text) for text in texts]
    assert len(set(numbers)) == len(set(texts))
    assert all(number >= 0 for number, text in zip(numbers, texts, strict=True) if text is not None)


def test_lengths_and_zeros_count() -> None:
    texts = [
        "",
        "\0",
        "\0\0",
        "a",
        "a\0",
        "\0a",
        "12345678",
        "12345678\0",
        "123456789",
        "87654321",
        "x" * 100,
        "x" * 101,
    ]
    assert len(set(hash_texts(pa.array(texts)).tolist())) == len(texts)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_and_chunks_hash_as_the_whole(kind: pa.DataType, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [None if n % 5 == 0 else f"request-{n}" * (n % 4) for n in range(50)]
    whole = hash_texts(pa.array(texts, kind)).tolist()
    assert hash_texts(pa.array([None, "x", *texts, "y"], kind).slice(2, 50)).tolist() == whole
    assert hash_texts(pa.chunked_array([texts[:7], [], texts[7:]], kind)).tolist() == whole
    assert hash_texts(pa.chunked_array([], kind)).tolist() == []
    monkeypatch.setattr(ids, "_ROWS_PER_PASS", 7)
    assert hash_texts(pa.array(texts, kind)).tolist() == whole


def test_the_numbers_stay_what_they_are() -> None:
    """Worked out step by step with Python's own integers: logs on disk hold these numbers."""
    mask = 2**64 - 1

    def mixed(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) & mask
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & mask
        value = (value ^ value >> 27) * 0x94D049BB133111EB & mask
        return value ^ value >> 31

    content = "request-ü-17".encode()
    state = len(content)
    for begin in range(0, len(content), 8):
        state = mixed(state ^ int.from_bytes(content[begin : begin + 8], "little"))
    assert one("request-ü-17") == mixed(state) >> 1
