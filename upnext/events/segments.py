"""Arrow files with one record batch, written some rows at a time: each column lies in one piece, ready to be mapped."""

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["write_array", "write_columns"]


def write_columns(path: Path, blocks: Iterable[Mapping[str, NDArray[Any]]], num_rows: int) -> None:
    """Write the very file that Arrow would make of all blocks at once.

    Args:     blocks: one or more, with the same columns of numbers; num_rows: of all blocks together.
    """
    blocks = iter(blocks)
    first = next(blocks)
    places = _reserve(path, {name: array.dtype for name, array in first.items()}, num_rows)
    before = 0
    with path.open("r+b") as file:
        for block in chain([first], blocks):
            for name, array in block.items():
                file.seek(places[name] + before * array.itemsize)
                file.write(array.tobytes())
            before += len(next(iter(block.values())))
    assert before == num_rows, (before, num_rows)


def write_array(path: Path, blocks: Iterable[NDArray[Any]], length: int, of: np.dtype[Any]) -> None:
    """Write the very file that `numpy.save` would make of all blocks joined."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(of), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.tobytes())


def _reserve(path: Path, types: Mapping[str, np.dtype[Any]], num_rows: int) -> dict[str, int]:
    """Write an Arrow file with a hole for each column, and say at which byte each of them begins."""
    zeros = path.with_suffix(".zeros")
    with zeros.open("wb") as file:
        file.truncate(8 * max(num_rows, 1))  # a hole as well: what is read from it is zero, and takes no room
    table = pa.table({name: np.memmap(zeros, of, "r")[:num_rows] for name, of in types.items()})
    zeros.unlink()
    with path.open("wb") as file, pa.ipc.new_file(pa.PythonFile(_Holes(file), "w"), table.schema) as writer:
        writer.write_table(table)
    mapped = pa.memory_map(str(path))
    start = mapped.read_buffer().address
    mapped.seek(0)
    written = pa.ipc.open_file(mapped).read_all()
    if num_rows == 0:
        return dict.fromkeys(types, 0)
    return {name: written.column(name).chunk(0).buffers()[1].address - start for name in types}


class _Holes:
    """A file that is written without its columns, which Arrow hands over as buffers, and the rest as bytes."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, content: bytes | pa.Buffer) -> int:
        """Skip a column, write everything else."""
        if isinstance(content, pa.Buffer):
            self.file.seek(content.size, 1)
            return int(content.size)
        return self.file.write(content)

    def tell(self) -> int:
        """Say how far the file is written."""
        return self.file.tell()

    def flush(self) -> None:
        """Nothing has to be on disk yet."""

    def close(self) -> None:
        """The file belongs to whoever opened it."""
