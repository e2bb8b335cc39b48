"""Vocabulary: the append-only numbering of external ids."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upnext.base.errors import BadArtifact, BadData, NotFound
from upnext.base.ids import FIRST, UNKNOWN, ExternalId

__all__ = ["Vocabulary"]

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
"""How a 64-bit integer is written; what is longer is no id, and Python refuses to read thousands of digits."""


class Vocabulary:
    """Numbers external ids from 2 on, in the order given; new ids are appended and nothing ever moves.

    An id can be taken out: its number then stands for nobody, and for nobody else ever after.

    Args:     ids: distinct strings, or distinct integers; never both, never null.
              lineage: the digests of the vocabularies this one extends, oldest first.
              has_gaps: a null is a number whose id was taken out.
    Raises:   BadData: an id occurs twice, is null, or is of another type.
    """

    def __init__(
        self, ids: Iterable[ExternalId] | pa.Array, lineage: Sequence[str] = (), *, has_gaps: bool = False
    ) -> None:
        array = ids if isinstance(ids, pa.Array) else _to_arrow(list(ids))
        if array.type not in (pa.int64(), pa.string()):
            raise BadData(f"ids of the type {array.type}; a vocabulary holds strings or 64-bit integers")
        if array.null_count and not has_gaps:
            raise BadData("an id is null; a vocabulary holds strings or integers")
        known = array.drop_null() if array.null_count else array
        if len(pc.unique(known)) != len(known):
            raise BadData("an id occurs twice in a vocabulary; give each id once")
        self._ids = array
        self.lineage = tuple(lineage)

    def __len__(self) -> int:
        """The number of dense ids: the external ids, padding and unknown, and those whose id was taken out."""
        return len(self._ids) + FIRST

    @cached_property
    def ids(self) -> list[ExternalId]:
        """The external ids in order; `ids[i]` has the dense id `dense_ids[i]`, which is i + 2 where none is gone."""
        ids: list[ExternalId] = self._ids.drop_null().to_pylist()
        return ids

    @cached_property
    def dense_ids(self) -> NDArray[np.int64]:
        """The dense ids that stand for something, ascending."""
        real: NDArray[np.int64] = np.flatnonzero(self._ids.is_valid().to_numpy(zero_copy_only=False)) + FIRST
        return real

    @property
    def array(self) -> pa.Array:
        """The external ids, each at its place: place i is the dense id i + 2, and null where its id was taken out."""
        return self._ids

    @cached_property
    def places(self) -> list[ExternalId | None]:
        """The external ids by place, the first being dense id 2: None where one was taken out."""
        places: list[ExternalId | None] = self._ids.to_pylist()
        return places

    @property
    def is_integer(self) -> bool:
        """Whether external ids are integers; else they are strings."""
        return bool(pa.types.is_integer(self._ids.type))

    @cached_property
    def digest(self) -> str:
        """Hash of the numbering: equal digests number alike."""
        hashed = hashlib.sha256(str(self._ids.type).encode())
        for value in self.places:
            text = str(value).encode()
            hashed.update(len(text).to_bytes(8, "little") + text if value is not None else b"gone")
        return hashed.hexdigest()[:16]

    def encode(self, values: Any) -> NDArray[np.int64]:
        """Number external ids: (n,) int64, 1 for those it does not hold.

        Args:     values: a sequence, NumPy array or Arrow array of external ids.
        """
        is_alike = pa.types.is_integer if self.is_integer else _is_text
        if not isinstance(values, pa.Array | pa.ChunkedArray) or not is_alike(values.type):
            return np.array([self.dense(value) for value in values], np.int64)
        found = pc.fill_null(pc.index_in(values.cast(self._ids.type), value_set=self._ids), UNKNOWN - FIRST)
        dense: NDArray[np.int64] = found.to_numpy(zero_copy_only=False).astype(np.int64) + FIRST
        return dense

    def dense(self, external: ExternalId) -> int:
        """Number one id; 1 when it is unknown, or of another type: neither True nor 7.0 is the id 7."""
        is_id = isinstance(external, int | str | np.integer) and not isinstance(external, bool)
        return self._number.get(external, UNKNOWN) if is_id else UNKNOWN

    def external(self, dense: int) -> ExternalId:
        """Give back the external id of a dense one.

        Raises:   NotFound: padding, unknown, beyond the vocabulary, or taken out.
        """
        places = self.places
        if not FIRST <= dense < len(places) + FIRST:
            raise NotFound(f"no external id has the dense id {dense}; real ones are {FIRST} … {len(self) - 1}")
        external = places[dense - FIRST]
        if external is None:
            raise NotFound(f"the external id of the dense id {dense} was taken out, and nobody has it any more")
        return external

    def externals(self, dense: NDArray[np.int64]) -> pa.Array:
        """Give back the external ids of many dense ones, all of which are real, as an Arrow array."""
        return self._ids.take(pa.array(dense - FIRST))

    def containing(self, text: str, limit: int) -> list[ExternalId]:
        """The first ids that contain a text, in any case; every id contains the empty text."""
        found = pc.match_substring(self._ids.cast(pa.string()), text, ignore_case=True) if text else None
        some: list[ExternalId] = (self._ids if found is None else self._ids.filter(found)).slice(0, limit).to_pylist()
        return some

    def parse(self, text: str) -> ExternalId:
        """Read an id from text (a URL, a command line) as the type the vocabulary holds.

        An integer vocabulary leaves text that is no integer as it is: no such id exists.
        """
        return int(text) if self.is_integer and _INTEGER.fullmatch(text) else text

    def extended(self, values: Iterable[ExternalId]) -> "Vocabulary":
        """Append the ids that are new, in the order given; everything known keeps its number."""
        new = [value for value in dict.fromkeys(values) if value not in self._number]
        if not new:
            return self
        lineage = (*self.lineage, self.digest)
        added = Vocabulary(new, lineage)
        if not len(self._ids):
            return added
        if added.is_integer != self.is_integer:
            raise BadData(f"ids are strings or integers, never both; {new[0]!r} is not of the vocabulary's type")
        return Vocabulary(pa.concat_arrays([self._ids, added._ids]), lineage, has_gaps=True)

    def without(self, values: Iterable[ExternalId]) -> "Vocabulary":
        """Take ids out: no other id's number changes, and theirs are never given again."""
        gone = {self.dense(value) for value in values} - {UNKNOWN}
        kept = [None if dense in gone else value for dense, value in enumerate(self.places, FIRST)]
        return Vocabulary(pa.array(kept, self._ids.type), (*self.lineage, self.digest), has_gaps=True)

    def save(self, path: Path) -> None:
        """Write an Arrow file with the lineage in its metadata."""
        schema = pa.schema([("id", self._ids.type)], metadata={"lineage": json.dumps(self.lineage)})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(pa.table([self._ids], schema=schema))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote.

        Raises:   BadArtifact: the file is missing or damaged.
        """
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            return cls(
                table.column("id").combine_chunks(), json.loads(table.schema.metadata[b"lineage"]), has_gaps=True
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadArtifact(f"{path} is no vocabulary ({error}); run prepare again") from None

    @cached_property
    def _number(self) -> dict[ExternalId, int]:
        return dict(zip(self.ids, self.dense_ids.tolist(), strict=True))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _to_arrow(ids: list[ExternalId]) -> pa.Array:
    kinds = {type(value) for value in ids if value is not None}
    if len(kinds) > 1 or not kinds <= {int, str}:  # Arrow would cut 2.5 to 2
        raise BadData(f"ids are strings or integers, never both; found {sorted(kind.__name__ for kind in kinds)}")
    try:
        return pa.array(ids, pa.int64() if kinds == {int} else pa.string())
    except (OverflowError, UnicodeEncodeError) as error:
        raise BadData(f"ids are text or 64-bit integers: {error}") from None
