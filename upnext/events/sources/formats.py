"""Reading CSV, TSV, JSON lines and Parquet files in parts, in file order, each row's origin known."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from upnext.base.errors import BadConfig, BadData
from upnext.events.sources.files import find_files, open_bytes
from upnext.events.sources.frames import Frames
from upnext.events.sources.raw import First, Origin, Part
from upnext.events.sources.unreadable import explain

__all__ = ["Format", "read_parts", "read_table"]

Format = Literal["csv", "tsv", "jsonl", "parquet"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_AT_ONCE = 250_000
"""Rows that Polars hands over at a time; parts are joined of them."""


def read_table(
    path: str | list[str],
    roles: Mapping[str, str],
    *,
    form: Format | None = None,
    separator: str | None = None,
    keep_others: bool = False,
    in_memory: Frames | None = None,
) -> tuple[pl.DataFrame, Origin]:
    """Read files as one frame, whole; arguments and errors as of `read_parts`."""
    parts = read_parts(path, roles, None, form=form, separator=separator, keep_others=keep_others, in_memory=in_memory)
    return next(parts)


def read_parts(
    path: str | list[str],
    roles: Mapping[str, str],
    rows: int | None,
    *,
    form: Format | None = None,
    separator: str | None = None,
    keep_others: bool = False,
    in_memory: Frames | None = None,
) -> Iterator[tuple[pl.DataFrame, Origin]]:
    """Read the files that `path` names, one after the other, in parts.

    Args:     roles: for each column that is needed, the key of the configuration that asks for it.
              rows: how many rows a part has at most; unset, all rows are one part.
              form: overrides what the files' names say.
              separator: of text files; by default a tab for TSV (and for .txt with tabs), else a comma.
              keep_others: read the other columns too.
              in_memory: tables; `path` is then the name of one of them, no file is read, and there is one part.
    Returns:  one or more frames of the same columns and types (text formats: all String), none of them empty, and
              where their rows came from.
    Raises:   BadData: no file, an unreadable one, a missing column, columns that differ, no row at all.
    """
    if in_memory is not None:
        yield _from_memory(str(path), in_memory[str(path)], None if keep_others else roles, roles)
        return
    files = find_files(path)
    forms = {file: form or _form(file) for file in files}
    chosen = forms[files[0]]
    for file, other in forms.items():
        if other != chosen:
            raise BadData(f"{files[0]} is {chosen}, but {file} is {other}; give files of one format")
    if separator is not None and chosen in ("jsonl", "parquet"):
        raise BadConfig(f"separator = {separator!r} has no effect on {chosen} files such as {files[0]}; remove it")
    tables = [_open(file, chosen, separator, roles, keep_others) for file in files]
    schema = _one_schema(tables, roles)
    first: First | None = None
    for frame, parts, is_last in _gather(tables, schema, rows):
        is_whole = is_last and first is None
        yield frame, Origin(parts, is_untyped=chosen in ("csv", "tsv"), first=first, is_whole=is_whole)
        first = first or First(frame.row(0, named=True), Origin(parts).place(0))
    if first is None:
        raise BadData(f"{files[0]} holds no rows; give a file with at least one row")


def _from_memory(
    name: str, frame: pl.DataFrame, kept: Mapping[str, str] | None, roles: Mapping[str, str]
) -> tuple[pl.DataFrame, Origin]:
    _require(Path(name), frame.columns, roles)
    if frame.is_empty():
        raise BadData(f"{name} holds no rows; give a table with at least one row")
    frame = _without_codes((frame if kept is None else frame.select(list(kept))).lazy()).collect()
    return frame.rechunk(), Origin([Part(Path(name), frame.height)])


def _form(file: Path) -> Format:
    suffix = Path(file.stem).suffix if file.suffix == ".gz" else file.suffix
    form = _SUFFIXES.get(suffix.lower())
    if form is None or (form == "parquet" and file.suffix == ".gz"):
        known = ", ".join(_SUFFIXES)
        raise BadData(f"{file}: the format of {file.name!r} is unknown; known are {known} (text also .gz); set format")
    return form


@dataclass(frozen=True)
class _Table:
    """A file that was opened: its columns are known, and none of its rows is read."""

    file: Path
    form: Format
    separator: str | None
    frame: pl.LazyFrame
    schema: Mapping[str, pl.DataType]
    is_empty: bool
    """A file without rows: its types say nothing."""

    def rows(self, most: int) -> Iterator[pl.DataFrame]:
        """Read the file, no more than so many rows at a time."""
        try:
            if self.form in ("csv", "tsv"):
                yield from _without_blank_end(self.frame.collect_batches(chunk_size=most))
            else:
                yield from (frame for frame in self.frame.collect_batches(chunk_size=most) if frame.height)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.file, self.form, self.separator, error) from None


def _open(file: Path, form: Format, separator: str | None, roles: Mapping[str, str], keep_others: bool) -> _Table:
    """Open a file and look at its columns; of JSON lines, where any line may bring one, at all of it."""
    try:
        if form == "parquet":
            frame = pl.scan_parquet(file, glob=False)
        elif form == "jsonl":
            _first_line(file)
            frame = pl.scan_ndjson(file, infer_schema_length=None)
        else:
            separator = separator or _separator(file, form)
            frame = pl.scan_csv(file, separator=separator, infer_schema=False, glob=False)
        names = frame.collect_schema().names()
        if form in ("csv", "tsv"):
            _refuse_twins(file, names, names if keep_others else roles)
        if form != "jsonl":
            _require(file, names, roles)
        kept = names if keep_others else [name for name in roles if name in names]
        frame = _without_codes(frame.select(kept))
        is_empty = form == "parquet" and pl.scan_parquet(file, glob=False).select(pl.len()).collect().item() == 0
        return _Table(file, form, separator, frame, frame.collect_schema(), is_empty)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, form, separator, error) from None


def _unreadable(file: Path, form: Format, separator: str | None, error: Exception) -> BadData:
    if form != "parquet":
        return explain(file, separator, error)
    if isinstance(error, OSError):
        return BadData(f"cannot read {file}: {error}; give the path of a readable file")
    problem = str(error).split("\n")[0]
    return BadData(f"{file} is no readable Parquet file: {problem}; write it again")


def _without_codes(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Write categories out as the text they stand for."""
    coded = [name for name, dtype in frame.collect_schema().items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    return frame.with_columns(pl.col(coded).cast(pl.String)) if coded else frame


def _without_blank_end(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Read empty fields as null; blank lines at the end of a text file are no rows."""
    blank: list[pl.DataFrame] = []  # lines that are rows if another row follows
    for read in frames:
        frame = read.with_columns(pl.when(pl.all() != "").then(pl.all()).name.keep())
        filled = ~frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
        end = len(filled) - (filled.reverse().arg_max() or 0) if filled.any() else 0
        if end:
            yield from (*blank, frame.head(end))
            blank = []
        if end < frame.height:
            blank.append(frame.tail(frame.height - end))


def _separator(file: Path, form: Format) -> str:
    has_tabs = b"\t" in _first_line(file)
    is_text = Path(file.name.removesuffix(".gz")).suffix == ".txt"
    return "\t" if form == "tsv" or (is_text and has_tabs) else ","


def _first_line(file: Path) -> bytes:
    with open_bytes(file) as lines:
        for line in lines:
            if line.strip():
                return line
    raise BadData(f"{file} is empty; give a file with at least one row")


def _refuse_twins(file: Path, names: Sequence[str], wanted: Collection[str]) -> None:
    for name in names:
        if f"{name}_duplicated_0" in names and name in wanted:
            raise BadData(f"{file} has two columns called {name!r}; rename one of them in the first line")


def _require(file: Path, names: Sequence[str], roles: Mapping[str, str]) -> None:
    """Refuse a file that lacks a column, showing the columns it has and the closest one."""
    for name, role in roles.items():
        if name in names:
            continue
        lowered = {other.lower(): other for other in names}
        close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
        hint = f"did you mean {lowered[close[0]]!r}?" if close else "correct the name"
        single = len(names) == 1 and any(mark in names[0] for mark in ",;\t|")
        hint = "set separator: the whole first line was read as one column" if single else hint
        raise BadData(f"{file} has no column {name!r} (asked for by {role}); its columns: {', '.join(names)}; {hint}")


def _one_schema(tables: Sequence[_Table], roles: Mapping[str, str]) -> Mapping[str, pl.DataType]:
    """The columns and types of all files: refused where they differ, but integers may widen to floats, save in ids."""
    files = [table.file for table in tables]
    schemas = [table.schema for table in tables]
    if tables[0].form == "jsonl":  # a key may be absent from a whole file, but not from all of them
        _require(files[0], list(dict.fromkeys(name for schema in schemas for name in schema)), roles)
    else:
        _same_columns(files, schemas)
    filled = [table for table in tables if not table.is_empty]
    _same_types([table.file for table in filled], [table.schema for table in filled], roles)
    frames = [pl.DataFrame(schema=table.schema) for table in filled or tables]
    return pl.concat(frames, how="diagonal_relaxed").schema


def _same_columns(files: Sequence[Path], schemas: Sequence[Mapping[str, pl.DataType]]) -> None:
    """Refuse files whose columns differ from the first file's."""
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        for name in sorted(set(first) ^ set(schema)):
            holder, other = (files[0], file) if name in first else (file, files[0])
            raise BadData(
                f"{holder} has a column {name!r}, but {other} has none; give files of the same columns, or a"
                " narrower pattern"
            )


def _same_types(files: Sequence[Path], schemas: Sequence[Mapping[str, pl.DataType]], roles: Mapping[str, str]) -> None:
    """Refuse files in which a column changes its type."""
    seen: dict[str, tuple[Path, pl.DataType]] = {}
    for file, schema in zip(files, schemas, strict=True):
        for name, dtype in schema.items():
            holder, first = seen.setdefault(name, (file, dtype))
            kinds = {_kind(first), _kind(dtype)} - {"null"}
            is_id = roles.get(name) in ("user", "item", "users.user", "items.item")
            if len(kinds) > 1 and (is_id or kinds != {"integer", "float"}):
                raise BadData(f"column {name!r} is {first} in {holder} but {dtype} in {file}; give it one type")
            if first == pl.Null:
                seen[name] = (file, dtype)


def _kind(dtype: pl.DataType) -> str:
    if dtype == pl.Null:
        return "null"
    if dtype.is_numeric():
        return "integer" if dtype.is_integer() else "float"
    return "time" if dtype.is_temporal() else str(dtype.base_type())


def _gather(
    tables: Sequence[_Table], schema: Mapping[str, pl.DataType], most: int | None
) -> Iterator[tuple[pl.DataFrame, list[Part], bool]]:
    """Join what is read to parts of at most so many rows, of one schema; the last one is marked."""
    frames: list[pl.DataFrame] = []
    parts: list[Part] = []
    for table in tables:
        separator = table.separator if table.form in ("csv", "tsv") else None
        num_before = 0
        for frame in table.rows(min(most or _AT_ONCE, _AT_ONCE)):
            if most is not None and frames and sum(part.num_rows for part in parts) + frame.height > most:
                yield pl.concat(frames, rechunk=True), parts, False
                frames, parts = [], []
            missing = [pl.lit(None).alias(name) for name in schema if name not in frame.columns]
            frames.append(frame.with_columns(missing).select(pl.col(n).cast(dtype) for n, dtype in schema.items()))
            parts.append(Part(table.file, frame.height, separator, num_before))
            num_before += frame.height
    if frames:
        yield pl.concat(frames, rechunk=True), parts, True
