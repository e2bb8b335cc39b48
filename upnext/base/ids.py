"""Identifiers: external ids as their owners write them, dense ids as the models read them.

External ids are strings or integers and come back unchanged. Dense ids are int64: 0 is padding, 1 is
"unknown", and the vocabulary numbers everything else from 2 on. No id ever passes through a float.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIRST", "PADDING", "UNKNOWN", "ExternalId", "item_hash", "stable_hash"]

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
