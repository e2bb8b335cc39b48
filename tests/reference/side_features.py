"""What features are, value by value, in plain Python: slow, and written from the definitions."""

import hashlib
import math
import unicodedata
from collections.abc import Sequence


def hashed(value: str) -> int:
    digest = hashlib.blake2b(value.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def hash_list(values: Sequence[str], most: int) -> list[int]:
    kept: list[int] = []
    for value in values:
        if hashed(value) not in kept and len(kept) < most:
            kept.append(hashed(value))
    return kept


def grams(text: str) -> list[str]:
    """Words, then pairs of words, then letters by threes; the first 32 that differ."""
    words, word = [], ""
    for letter in unicodedata.normalize("NFKC", text).lower() + " ":
        if letter.isalnum() or letter == "_":
            word += letter
        elif word:
            words.append(word)
            word = ""
    found = list(words)
    found += [words[number - 1] + " " + words[number] for number in range(1, len(words))]
    for word in words:
        marked = "^" + word + "$"
        found += ["~" + marked[start : start + 3] for start in range(len(marked) - 2)]
    different: list[str] = []
    for gram in found:
        if gram not in different:
            different.append(gram)
    return different[:32]


def boundaries(trained: Sequence[float]) -> list[float]:
    """For each k of 1 … 255 the smallest value that at least k/256 of the trained values do not exceed."""
    rising = sorted(trained)
    found = []
    for k in range(1, 256):
        needed = math.ceil(k * len(rising) / 256)
        if rising:
            found.append(rising[needed - 1])
    return found


def rank(value: float, bounds: Sequence[float]) -> float:
    """The share of boundaries below a value, equal ones counted half."""
    below = sum(bound < value for bound in bounds)
    equal = sum(bound == value for bound in bounds)
    return (below + equal / 2) / (len(bounds) + 1)
