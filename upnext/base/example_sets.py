"""Example sets: candidates of one query or request, with features, a label each, and what teachers say of them.

    examples.arrow      a row per candidate: set, label, row of the log, `feature:NAME`
    sets.arrow          a row per set: name, owner, part, time
    sets.json           what the label is, and which features belong to the request

Shape letters: I candidates, S sets, B sets of a batch, N candidates of a set.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.batches import Column, FlatColumn, OnDevice
from upnext.base.errors import BadArtifact

__all__ = ["ExampleSets", "SetBatch", "SetData"]

Ints = NDArray[np.int64]
_FEATURE = "feature:"
_FILES = ("examples.arrow", "sets.arrow", "sets.json")


@dataclass(frozen=True)
class ExampleSets:
    """Candidate sets: the candidates of set s are `first[s]` … `first[s + 1] - 1`.

    `features` (I,) are numbers, or, of integers, categories; `label` (I,) is what came of each: from `relevant` on it
    counts as positive. `name` (S,) says what a set is called, `owner` (S,) whose it is: folds and intervals keep what
    is of one owner together. `part` (S,) is its part of the split. `row` (I,) is its event in a log, -1 without one;
    `time_ms` (S,) when it was asked for, None without times. `target` is what the label is of. `of_request` are the
    features that all candidates of a set share.
    """

    features: Mapping[str, FlatColumn]
    first: Ints
    label: NDArray[np.float64]
    name: Sequence[str]
    owner: Ints
    part: NDArray[np.int8]
    row: Ints
    time_ms: Ints | None = None
    relevant: float = 1.0
    target: str = "relevance"
    of_request: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def sizes(self) -> Ints:
        """(S,) candidates of each set."""
        return np.diff(self.first)

    @property
    def set(self) -> Ints:
        """(I,) the set of each candidate."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def is_positive(self) -> NDArray[np.bool_]:
        """(I,) the candidates whose label counts as positive."""
        return self.label >= self.relevant

    def candidates_of(self, sets: Ints) -> Ints:
        """The candidates of some sets, set by set."""
        sizes = self.sizes[sets]
        begins = np.repeat(self.first[sets] - (np.cumsum(sizes) - sizes), sizes)
        places: Ints = begins + np.arange(len(begins))
        return places

    def take(self, sets: Ints) -> "ExampleSets":
        """Select sets by number."""
        chosen = self.candidates_of(sets)
        return replace(
            self,
            features={name: FlatColumn(c.values[chosen], c.observed[chosen]) for name, c in self.features.items()},
            first=np.append(0, np.cumsum(self.sizes[sets])),
            label=self.label[chosen],
            name=[self.name[number] for number in sets],
            owner=self.owner[sets],
            part=self.part[sets],
            row=self.row[chosen],
            time_ms=None if self.time_ms is None else self.time_ms[sets],
        )

    def save(self, folder: Path) -> None:
        """Write the files into a folder."""
        columns: dict[str, Any] = {"set": self.set, "label": self.label, "row": self.row}
        for name, column in self.features.items():
            columns[_FEATURE + name] = pa.array(column.values, mask=~column.observed)
        of_sets: dict[str, Any] = {"name": pa.array(self.name, pa.string()), "owner": self.owner, "part": self.part}
        if self.time_ms is not None:
            of_sets["time_ms"] = self.time_ms
        for file, table in zip(_FILES[:2], (columns, of_sets), strict=True):
            with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_file(sink, pa.table(table).schema) as writer:
                writer.write_table(pa.table(table))
        about = {"relevant": self.relevant, "target": self.target, "of_request": list(self.of_request)}
        (folder / _FILES[2]).write_text(json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "ExampleSets":
        """Read what `save` wrote.

        Raises:   BadArtifact: a file is missing or damaged.
        """
        try:
            columns, sets = (pa.ipc.open_file(pa.memory_map(str(folder / file))).read_all() for file in _FILES[:2])
            about = json.loads((folder / _FILES[2]).read_text())
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise BadArtifact(f"{folder} holds no whole example sets ({error}); run distill again") from None
        names = [name for name in columns.column_names if name.startswith(_FEATURE)]
        return cls(
            {name.removeprefix(_FEATURE): _column(columns.column(name)) for name in names},
            np.append(0, np.cumsum(np.bincount(_values(columns, "set"), minlength=sets.num_rows))).astype(np.int64),
            _values(columns, "label"),
            sets.column("name").to_pylist(),
            _values(sets, "owner"),
            _values(sets, "part"),
            _values(columns, "row"),
            _values(sets, "time_ms") if "time_ms" in sets.column_names else None,
            **about,
        )


def _values(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table.column(name).combine_chunks().to_numpy(zero_copy_only=False)
    return values


def _column(column: pa.ChunkedArray) -> FlatColumn:
    array = column.combine_chunks()
    observed = array.is_valid().to_numpy(zero_copy_only=False)
    return FlatColumn(array.fill_null(0).to_numpy(zero_copy_only=False), observed)


@dataclass(frozen=True)
class SetBatch(OnDevice):
    """Example sets, padded: what a model reads of candidates (B, N, …), labels and teachers' logits (B, N), and a mask.

    A teacher that says nothing of a candidate has not observed it there.
    """

    inputs: tuple[Tensor, ...]
    mask: Tensor
    label: Tensor
    teacher: Column

    @property
    def lengths(self) -> Tensor:
        """(B,) candidates of each set."""
        return self.mask.sum(1)

    def to(self, device: torch.device) -> "SetBatch":
        """Copy every tensor to the device."""
        moved = super().to(device)
        return replace(moved, inputs=tuple(part.to(device) for part in self.inputs))


@dataclass(frozen=True)
class SetData:
    """`TrainingData`: example sets, what a teacher says of candidates (I,), and what a model reads of each (I, …)."""

    sets: ExampleSets
    teacher: FlatColumn
    inputs: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, sets: ExampleSets, teacher: FlatColumn | None = None) -> "SetData":
        """Without a teacher nothing is said of any candidate."""
        silent = FlatColumn(np.zeros(len(sets.label), np.float64), np.zeros(len(sets.label), bool))
        return cls(sets, silent if teacher is None else teacher)

    @property
    def lengths(self) -> Ints:
        """(S,) candidates per set."""
        return self.sets.sizes

    def batch(self, rows: Ints) -> SetBatch:
        """Gather sets by number."""
        sizes, sets, teacher = self.sets.sizes[rows], self.sets, self.teacher
        mask = np.arange(sizes.max(initial=0)) < sizes[:, None]
        place = np.where(mask, sets.first[rows][:, None] + np.arange(mask.shape[1]), 0)
        said = Column(torch.from_numpy(teacher.values[place]), torch.from_numpy(teacher.observed[place] & mask))
        flat = torch.from_numpy(place.ravel())
        return SetBatch(
            tuple(part.index_select(0, flat).reshape(*place.shape, *part.shape[1:]) for part in self.inputs),
            torch.from_numpy(mask),
            torch.from_numpy(np.where(mask, sets.label[place], 0.0)),
            said,
        )
