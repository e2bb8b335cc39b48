"""`upnext score`: what the current release says of every row of a table, as columns beside it."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape

from upnext.base.errors import BadConfig, BadData
from upnext.base.files import replacing
from upnext.base.schema import ITEM_ID, TIME_MS, USER_ID
from upnext.commands.opened import check_folder, open_release, use_threads
from upnext.serving.release import Release
from upnext.serving.score import Asked, Scorer

__all__ = ["score_table"]

_ROWS = 4096
_TIME = "time"


def score_table(
    workspace: Path,
    table: Path,
    out: Path,
    with_vectors: bool,
    as_json: bool,
    console: Console,
    threads: int | None = None,
) -> None:
    """Write a Parquet table's rows, in their order, with the scores beside them; the file appears when it is whole.

    Raises:   BadConfig: a place that cannot be written to. BadData: a table that cannot be scored, with the row.
    """
    if out.suffix != ".parquet":
        raise BadConfig(f"--out {out}: the scores are written as Parquet; name a file that ends in .parquet")
    check_folder(out)
    use_threads(threads)
    start, num_rows = time.perf_counter(), 0
    with open_release(workspace) as (release, histories), _opened(table) as source:
        scorer = Scorer(release, histories, with_vectors)
        kinds = {
            name: pa.list_(pa.float32(), width) if width else pa.float32() for name, width in scorer.columns().items()
        }
        reader = _Reader(table, source.schema_arrow, release, list(kinds))
        schema = source.schema_arrow
        for name, kind in kinds.items():
            schema = schema.append(pa.field(name, kind))
        with replacing(out) as partial, pq.ParquetWriter(partial, schema) as writer:
            for block in source.iter_batches(batch_size=_ROWS):
                found = scorer.score(reader.read(block, num_rows))
                columns = [*block.columns, *(_as_arrow(found[name], kind) for name, kind in kinds.items())]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                num_rows += len(block)
    seconds = time.perf_counter() - start
    if as_json:
        said = {"out": str(out), "release": release.name, "rows": num_rows, "columns": list(kinds), "seconds": seconds}
        console.print_json(json.dumps(said), indent=None)
    else:
        console.print(f"{num_rows:,} rows with {', '.join(kinds)} in {escape(str(out))}  [dim]{seconds:.1f} s[/dim]")


def _opened(table: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(table)
    except FileNotFoundError:
        raise BadConfig(f"there is no table {table}; name a Parquet file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise BadData(f"{table} is no Parquet file ({error}); convert it to one") from None


class _Reader:
    """Reads and checks the columns of a table that say what is asked.

    Raises:   BadData: a column is missing or of a type that cannot be meant.
    """

    def __init__(self, table: Path, schema: pa.Schema, release: Release, added: list[str]) -> None:
        self.table, self.release = table, release
        times = [name for name in (_TIME, TIME_MS) if name in schema.names]
        if len(times) != 1:
            raise BadData(
                f"{table} has {'both' if times else 'none of'} {_TIME!r} (a timestamp) and {TIME_MS!r} (milliseconds"
                " since 1970 in UTC); give one of them"
            )
        (self.time,) = times
        self.contexts = [name for name in release.schema.contexts if name in schema.names]
        if len(set(schema.names)) < len(schema.names):
            raise BadData(f"{table} has two columns of one name; rename one of them: {schema.names}")
        if clash := sorted(set(added) & set(schema.names)):
            raise BadData(f"{table} has a column {clash[0]!r} already, which would be written; rename it")
        for name, vocabulary in ((USER_ID, release.users), (ITEM_ID, release.catalogue.vocabulary)):
            if name not in schema.names:
                raise BadData(f"{table} has no column {name!r}; it has {schema.names}")
            self._check_kind(name, schema.field(name).type, "integer" if vocabulary.is_integer else "text")
        self._check_kind(self.time, schema.field(self.time).type, "timestamp" if self.time == _TIME else "integer")
        for name in self.contexts:
            kind = "text or integer" if release.schema.contexts[name] == "categorical" else "number"
            self._check_kind(name, schema.field(name).type, kind)

    def read(self, block: pa.RecordBatch, begin: int) -> Asked:
        """The rows of a block, the first of which is the table's row `begin`.

        Raises:   BadData: a value is missing, or no number.
        """
        for name in (USER_ID, ITEM_ID, self.time):
            if block.column(name).null_count:
                row = begin + int(np.flatnonzero(np.asarray(block.column(name).is_null()))[0])
                raise BadData(f"{self.table} row {row}: {name} is null; every row needs one")
        return Asked(
            _plain(block.column(USER_ID)),
            _plain(block.column(ITEM_ID)),
            self._times(block.column(self.time)),
            list(self._settings(block, begin)),
        )

    def _times(self, column: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if self.time == _TIME:
            column = column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())
        return np.array(column.cast(pa.int64()), np.int64)  # a copy: PyTorch wants memory that it may write to

    def _settings(self, block: pa.RecordBatch, begin: int) -> Iterator[Mapping[str, str | float]]:
        """Each row's contexts; null is not observed."""
        values = {name: self._setting(name, block.column(name)).to_pylist() for name in self.contexts}
        for row in range(len(block)):
            known: dict[str, Any] = {name: of[row] for name, of in values.items() if of[row] is not None}
            for name, value in known.items():
                if not isinstance(value, str) and not np.isfinite(value):
                    raise BadData(f"{self.table} row {begin + row}: {name} is {value}; give a finite number or null")
            yield known

    def _setting(self, name: str, column: pa.Array) -> pa.Array:
        """A context as the log has it: categories are text, also where a table has them as integers."""
        is_category = self.release.schema.contexts[name] == "categorical"
        return _plain(column).cast(pa.string()) if is_category else column

    def _check_kind(self, name: str, kind: pa.DataType, wanted: str) -> None:
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_right = {
            "integer": pa.types.is_integer,
            "text": _is_text,
            "text or integer": lambda one: _is_text(one) or pa.types.is_integer(one),
            "number": lambda one: pa.types.is_integer(one) or pa.types.is_floating(one),
            "timestamp": pa.types.is_timestamp,
        }[wanted](plain)
        if not is_right:
            raise BadData(f"{self.table}: {name} holds {kind}; this release needs {wanted} there")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _as_arrow(values: np.ndarray[Any, np.dtype[np.float32]], kind: pa.DataType) -> pa.Array:
    """Numbers or vectors as a column; null where a model has no score."""
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pc.if_else(pa.array(np.isfinite(values)), pa.array(values), pa.scalar(None, kind))
