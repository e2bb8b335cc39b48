"""Encoding: what side tables say of items and users, as numbers that models read.

    categorical   (n,)    int64     the stable hash of the value, as text
    multi         (n, M)  int64     the hashes of at most 64 different values, right-padded with 0
    text          (n, M)  int64     the hashes of at most 32 different grams, right-padded with 0
    numeric       (n,)    float32   the share of trained rows below the value, in [0, 1)
    vector        (n, D)  float32   as it is

Beside the values lies the mask of what was observed: (n,), or (n, M) for multi and text. Hashes carry no salt: a
model salts them by feature. The encoder keeps what was learnt from the training part, so that an item that arrives
later is encoded as the others were.

Shape letters: n rows, M values of the widest row (at least 1), D width of a vector, Q boundaries.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from upnext.base.batches import Column
from upnext.base.errors import BadData
from upnext.base.ids import stable_hash
from upnext.base.schema import FeatureKind
from upnext.features.quantiles import quantiles, ranks
from upnext.features.raw_values import as_columns

__all__ = ["MOST_GRAMS", "MOST_VALUES", "Encoder", "grams"]

MOST_VALUES = 64
MOST_GRAMS = 32

_TYPES: dict[FeatureKind, pa.DataType] = {
    "categorical": pa.large_string(),
    "multi": pa.large_list(pa.large_string()),
    "numeric": pa.float64(),
    "text": pa.large_string(),
    "vector": pa.large_list(pa.float32()),
}


@dataclass(frozen=True)
class Encoder:
    """Turns raw columns into features.

    `bounds` holds for each numeric feature Q = 255 values of trained rows, rising: what splits them into 256 equal
    parts (none if no trained row has a value). `widths` holds D of each vector.
    """

    kinds: Mapping[str, FeatureKind]
    bounds: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def fit(cls, kinds: Mapping[str, FeatureKind], table: pa.Table, trained: NDArray[np.bool_]) -> "Encoder":
        """Learn what encoding needs: boundaries from the trained rows alone, widths of vectors from any row.

        Args:     table: a column per feature (n rows); trained: (n,) which rows have an event in the training part.
        """
        bounds, widths = {}, {}
        for name, kind in kinds.items():
            if kind == "numeric":
                values, observed = _numbers(_typed(table, name, kind))
                bounds[name] = quantiles(values[observed & trained])
            elif kind == "vector":
                lengths = _typed(table, name, kind).value_lengths().drop_null()
                widths[name] = int(lengths[0].as_py()) if len(lengths) else 1
        return cls(dict(kinds), bounds, widths)

    def encode(self, table: pa.Table) -> dict[str, Column]:
        """Encode a column per feature; a row gives the same numbers wherever it stands and whatever is beside it.

        Raises:   BadData: a vector of another width than those that were learnt from.
        """
        return {name: self._encode(name, kind, _typed(table, name, kind)) for name, kind in self.kinds.items()}

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
        """Encode rows of plain values by feature name, such as items outside the vocabulary; other names are ignored.

        A name that is absent, None or NaN was not observed. Categories are text, integers or booleans; `multi` is
        a list of them; numbers and vectors are finite.

        Raises:   BadData: the row, the feature, the value, what is allowed.
        """
        columns = as_columns(rows, self.kinds)
        arrays = [pa.array(columns[name], _TYPES[kind]) for name, kind in self.kinds.items()]
        return self.encode(pa.table(arrays, names=list(self.kinds)))

    def _encode(self, name: str, kind: FeatureKind, array: pa.Array) -> Column:
        match kind:
            case "categorical":
                return _categories(array)
            case "multi":
                return _padded(_hashed_lists(array), MOST_VALUES)
            case "text":
                return _padded(_hashed_texts(array), MOST_GRAMS)
            case "numeric":
                values, observed = _numbers(array)
                shares = np.where(observed, ranks(values, self.bounds[name]), 0.0)
                return Column(torch.from_numpy(shares.astype(np.float32)), torch.from_numpy(observed))
            case "vector":
                return _vectors(array, self.widths[name], name)


def grams(text: str) -> list[str]:
    """Cut a text into what is hashed: words, then pairs of neighbours, then three letters at a time.

    The text is NFKC-normalised and lower-cased; a word is a run of letters, digits and underscores. Letters are
    marked with `~`, and words get `^` and `$` around them before they are cut, so that no gram stands for two things.

    Returns:  at most 32 different grams; of a long text the first words.
    """
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())
    pairs = [f"{one} {next_one}" for one, next_one in pairwise(words)]
    letters = [f"~{marked[i : i + 3]}" for marked in (f"^{word}$" for word in words) for i in range(len(marked) - 2)]
    return list(dict.fromkeys([*words, *pairs, *letters]))[:MOST_GRAMS]


def _typed(table: pa.Table, name: str, kind: FeatureKind) -> pa.Array:
    """A feature's column in one piece and of one type; integers that no float holds exactly are rounded."""
    column = table.column(name).cast(_TYPES[kind], safe=kind != "numeric")
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], _TYPES[kind])


def _observed(array: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return mask


def _categories(array: pa.Array) -> Column:
    coded = array.dictionary_encode()
    names = coded.dictionary.to_pylist()
    # The last entry stands for null, so that no table is empty.
    codes = coded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    observed = np.array([bool(name.strip()) for name in names] + [False])[codes]
    hashes = np.array([stable_hash(name) for name in names] + [0], np.int64)[codes]
    return Column(torch.from_numpy(np.where(observed, hashes, 0)), torch.from_numpy(observed))


def _hashed_lists(array: pa.Array) -> list[list[int]]:
    known: dict[str, int] = {}
    return [_hash_all(values or (), known) for values in array.to_pylist()]


def _hashed_texts(array: pa.Array) -> list[list[int]]:
    known: dict[str, int] = {}
    return [_hash_all(grams(text or ""), known) for text in array.to_pylist()]


def _hash_all(values: Iterable[str], known: dict[str, int]) -> list[int]:
    return [known[value] if value in known else known.setdefault(value, stable_hash(value)) for value in values]


def _padded(rows: list[list[int]], most: int) -> Column:
    """Different hashes of each row, the first `most`, right-padded to the widest."""
    kept = [list(dict.fromkeys(row))[:most] for row in rows]
    lengths = np.fromiter(map(len, kept), np.int64, len(kept))
    observed = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
    values = np.zeros(observed.shape, np.int64)
    values[observed] = np.fromiter((value for row in kept for value in row), np.int64)
    return Column(torch.from_numpy(values), torch.from_numpy(observed))


def _numbers(array: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = array.fill_null(np.nan).to_numpy(zero_copy_only=False)
    return values, ~np.isnan(values)


def _vectors(array: pa.Array, width: int, name: str) -> Column:
    observed = _observed(array)
    lengths = array.value_lengths().fill_null(width).to_numpy(zero_copy_only=False)
    if (lengths != width).any():
        row = int((lengths != width).argmax())
        raise BadData(
            f"row {row}: the feature {name!r} has {lengths[row]} numbers; allowed: {width}, as in the log; give"
            " vectors of one width"
        )
    values = np.zeros((len(array), width), np.float32)
    values[observed] = array.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return Column(torch.from_numpy(values), torch.from_numpy(observed))
