"""Identifiers: external ids as their owners write them, dense ids as the models read them.

External ids are strings or integers and come back unchanged. Dense ids are int64: 0 is padding, 1 is
"unknown", and the vocabulary numbers everything else from 2 on. No id ever passes through a float.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["FIRST", "PADDING", "UNKNOWN", "ExternalId", "hash_texts", "item_hash", "stable_hash"]

ExternalId = int | str

PADDING = 0
UNKNOWN = 1
FIRST = 2
"""The first dense id that stands for something real."""


def stable_hash(value: ExternalId) -> int:
    """Hash an external id to a signed 64-bit integer that is the same on every machine and in every run.

    The integer 7 and the string "7" hash alike, so that a log whose ids change type keeps its vectors.
    """
    digest = hashlib.blake2b(str(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def item_hash(ids: Iterable[ExternalId]) -> NDArray[np.int64]:
    """Hash external ids: (n,) int64, what hashed embeddings read."""
    return np.fromiter((stable_hash(value) for value in ids), dtype=np.int64)


_ROWS_PER_PASS = 1 << 20


def hash_texts(texts: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Hash many texts at once: equal texts get equal numbers, on every machine and in every run.

    Args:     texts: (n,) strings, possibly null.
    Returns:  (n,) int64 from 0 up, -1 for null. Two of n different texts share a number with probability n² / 2^64.
    """
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    starts = ((chunk, begin) for chunk in chunks for begin in range(0, len(chunk), _ROWS_PER_PASS))
    parts = [_hash_some(chunk.slice(begin, _ROWS_PER_PASS)) for chunk, begin in starts]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _hash_some(texts: pa.Array) -> NDArray[np.int64]:
    known = np.asarray(texts.is_valid())
    filled = pa.concat_arrays([texts.cast(pa.large_binary()).fill_null(b"")])  # its buffers start at its first row
    _, ends, content = filled.buffers()
    offsets = np.frombuffer(ends, np.int64)[: len(filled) + 1]
    content = np.frombuffer(content, np.uint8) if content is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    state = lengths.astype(np.uint64)
    for begin in range(0, int(lengths.max(initial=0)), 8):  # eight bytes of every text that is so long
        rows = np.flatnonzero(lengths > begin)
        place = begin + np.arange(8)
        inside = place < lengths[rows, None]
        bytes_ = np.where(inside, content[np.where(inside, offsets[rows, None] + place, 0)], 0).astype(np.uint8)
        state[rows] = _mixed(state[rows] ^ bytes_.view("<u8")[:, 0])
    return np.where(known, (_mixed(state) >> np.uint64(1)).astype(np.int64), -1)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of each value; a one-to-one map.

    Source:   SplitMix64 (Steele, Lea and Flood 2014), its output function.
    """
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
