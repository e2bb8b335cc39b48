"""Tables in memory as sources: any Polars, pandas or Arrow table, as one Polars frame with a hash of its content."""

import hashlib
from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from upnext.base.errors import BadData

__all__ = ["Frames", "as_frame", "fingerprint"]

Frames = Mapping[str, pl.DataFrame]
"""Tables in memory, by the paths that a source gives them; an error names the table so."""


def as_frame(table: object, name: str) -> pl.DataFrame:
    """Turn a table into a Polars frame, without a copy where its library shares Arrow memory.

    Args:     table: a Polars frame, or whatever exports an Arrow stream: a table of pyarrow, pandas, DuckDB …
              name: what an error calls it.
    Raises:   BadData: it is something else, or it cannot be read as a table.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if not hasattr(table, "__arrow_c_stream__") or isinstance(table, pl.Series):
        kind = f"{type(table).__module__}.{type(table).__qualname__}".removeprefix("builtins.")
        raise BadData(f"{name} is of the type {kind}; allowed: a Polars, pandas or Arrow table; convert it")
    try:
        return pl.DataFrame(table)
    except (pl.exceptions.PolarsError, pa.ArrowException, TypeError, ValueError) as error:
        raise BadData(f"{name} cannot be read as a table: {error}; give each column one type and a name") from None


def fingerprint(frame: pl.DataFrame) -> str:
    """Hash the names, types and values of a table: equal fingerprints mean equal tables."""
    table = frame.rechunk().to_arrow()
    sink = _Hashing()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), table.schema) as writer:
        writer.write_table(table)
    return sink.digest.hexdigest()[:16]


class _Hashing:
    """A file that keeps nothing but the hash of what is written."""

    closed = False

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return len(content)

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """There is nothing to close."""
