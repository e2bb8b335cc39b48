"""Reading CSV, TSV, JSON lines and Parquet files into one frame, in file order, each row's origin known."""

import csv
import difflib
import gzip
import json
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Literal

import polars as pl

from upnext.base.errors import BadConfig, BadData
from upnext.events.sources.files import find_files, read_bytes
from upnext.events.sources.frames import Frames
from upnext.events.sources.raw import Origin, Part

__all__ = ["Format", "read_table"]

Format = Literal["csv", "tsv", "jsonl", "parquet"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def read_table(
    path: str | list[str],
    roles: Mapping[str, str],
    *,
    form: Format | None = None,
    separator: str | None = None,
    keep_others: bool = False,
    in_memory: Frames | None = None,
) -> tuple[pl.DataFrame, Origin]:
    """Read the files that `path` names, one after the other.

    Args:     roles: for each column that is needed, the key of the configuration that asks for it.
              form: overrides what the files' names say.
              separator: of text files; by default a tab for TSV (and for .txt with tabs), else a comma.
              keep_others: read the other columns too.
              in_memory: tables; `path` is then the name of one of them, and no file is read.
    Returns:  the frame (text formats: all String), and where its rows came from.
    Raises:   BadData: no file, an unreadable one, a missing column, columns that differ, no row at all.
    """
    if in_memory is not None:
        return _from_memory(str(path), in_memory[str(path)], None if keep_others else roles, roles)
    files = find_files(path)
    forms = {file: form or _form(file) for file in files}
    chosen = forms[files[0]]
    for file, other in forms.items():
        if other != chosen:
            raise BadData(f"{files[0]} is {chosen}, but {file} is {other}; give files of one format")
    if separator is not None and chosen in ("jsonl", "parquet"):
        raise BadConfig(f"separator = {separator!r} has no effect on {chosen} files such as {files[0]}; remove it")
    frames, parts = [], []
    for file in files:
        frame, part = _read(file, chosen, separator, None if keep_others else roles)
        frames.append(frame)
        parts.append(part)
    if chosen == "jsonl":  # a key may be absent from a whole file, but not from all of them
        _require(files[0], list(dict.fromkeys(name for frame in frames for name in frame.columns)), roles)
        kept = [[name for name in frame.columns if keep_others or name in roles] for frame in frames]
        frames = [frame.select(names) for frame, names in zip(frames, kept, strict=True)]
    else:
        for file, frame in zip(files, frames, strict=True):
            _require(file, frame.columns, roles)
        _same_columns(files, frames)
    _same_types(files, frames, roles)
    filled = [frame for frame in frames if frame.height]  # an empty file's types say nothing
    if not filled:
        raise BadData(f"{files[0]} holds no rows; give a file with at least one row")
    whole = pl.concat(filled, how="diagonal_relaxed", rechunk=True)
    return whole, Origin(parts, is_untyped=chosen in ("csv", "tsv"))


def _from_memory(
    name: str, frame: pl.DataFrame, kept: Mapping[str, str] | None, roles: Mapping[str, str]
) -> tuple[pl.DataFrame, Origin]:
    _require(Path(name), frame.columns, roles)
    if frame.is_empty():
        raise BadData(f"{name} holds no rows; give a table with at least one row")
    frame = _without_codes(frame if kept is None else frame.select(list(kept)))
    return frame.rechunk(), Origin([Part(Path(name), frame.height)])


def _form(file: Path) -> Format:
    suffix = Path(file.stem).suffix if file.suffix == ".gz" else file.suffix
    form = _SUFFIXES.get(suffix.lower())
    if form is None or (form == "parquet" and file.suffix == ".gz"):
        known = ", ".join(_SUFFIXES)
        raise BadData(f"{file}: the format of {file.name!r} is unknown; known are {known} (text also .gz); set format")
    return form


def _read(
    file: Path, form: Format, separator: str | None, roles: Mapping[str, str] | None
) -> tuple[pl.DataFrame, Part]:
    try:
        if form == "parquet":
            frame = _read_parquet(file, roles)
            return frame, Part(file, frame.height)
        content = read_bytes(file)
        if form == "jsonl":
            frame = pl.read_ndjson(BytesIO(content), infer_schema_length=None)
            return frame, Part(file, frame.height)
        chosen = separator or _separator(content, form, file)
        frame = _read_csv(content, chosen, file, roles)
        return frame, Part(file, frame.height, chosen)
    except pl.exceptions.PolarsError as error:
        raise BadData(_explain(file, form, separator, str(error).split("\n")[0])) from None


def _read_parquet(file: Path, roles: Mapping[str, str] | None) -> pl.DataFrame:
    try:
        names = list(pl.read_parquet_schema(file))
        if roles is not None:
            _require(file, names, roles)
        frame = pl.read_parquet(file, columns=None if roles is None else list(roles), glob=False)
    except OSError as error:
        raise BadData(f"cannot read {file}: {error}; give the path of a readable file") from None
    return _without_codes(frame)


def _without_codes(frame: pl.DataFrame) -> pl.DataFrame:
    """Write categories out as the text they stand for."""
    coded = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    return frame.with_columns(pl.col(coded).cast(pl.String)) if coded else frame


def _read_csv(content: bytes, separator: str, file: Path, roles: Mapping[str, str] | None) -> pl.DataFrame:
    header = pl.read_csv(BytesIO(content), separator=separator, n_rows=0, infer_schema=False).columns
    for name in header:
        if f"{name}_duplicated_0" in header and (roles is None or name in roles):
            raise BadData(f"{file} has two columns called {name!r}; rename one of them in the first line")
    if roles is not None:
        _require(file, header, roles)
    frame = pl.read_csv(
        BytesIO(content),
        separator=separator,
        columns=header if roles is None else list(roles),
        infer_schema=False,
    )
    frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()).name.keep())
    filled = ~frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    blank = filled.reverse().arg_max() if filled.any() else len(filled)
    return frame.head(len(filled) - (blank or 0))  # blank lines at the end are no rows


def _separator(content: bytes, form: Format, file: Path) -> str:
    has_tabs = b"\t" in content.split(b"\n", 1)[0]
    is_text = Path(file.name.removesuffix(".gz")).suffix == ".txt"
    return "\t" if form == "tsv" or (is_text and has_tabs) else ","


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


def _same_columns(files: Sequence[Path], frames: Sequence[pl.DataFrame]) -> None:
    """Refuse files whose columns differ from the first file's."""
    first = frames[0]
    for file, frame in zip(files, frames, strict=True):
        for name in sorted(set(first.columns) ^ set(frame.columns)):
            holder, other = (files[0], file) if name in first.columns else (file, files[0])
            raise BadData(
                f"{holder} has a column {name!r}, but {other} has none; give files of the same columns, or a"
                " narrower pattern"
            )


def _same_types(files: Sequence[Path], frames: Sequence[pl.DataFrame], roles: Mapping[str, str]) -> None:
    """Refuse files in which a column changes its type; integers may widen to floats, except in ids."""
    seen: dict[str, tuple[Path, pl.DataType]] = {}
    for file, frame in zip(files, frames, strict=True):
        for name, dtype in frame.schema.items() if frame.height else ():
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


def _explain(file: Path, form: Format, separator: str | None, problem: str) -> str:
    """Find the first line of a text file that cannot be read: slow, but only on the way to an error."""
    if form == "parquet":
        return f"{file} is no readable Parquet file: {problem}; write it again"
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"{file} line {line} is not UTF-8 text; save the file as UTF-8"
    if form == "jsonl":
        return _explain_json(file, text, problem)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator or _separator(content, form, file), strict=True)
    start, width = 1, None
    try:
        for number, fields in enumerate(reader):
            width = len(fields) if width is None else width
            if len(fields) > width:
                where = f"{file} row {number} (line {start})"
                return f"{where} has {len(fields)} fields; allowed: {width}, as in the header; correct the line"
            start = reader.line_num + 1
    except csv.Error as error:
        return f"{file} line {start} cannot be read: {error}; close the quotation mark that opens there"
    return f"{file} cannot be read: {problem}; write it again"


def _explain_json(file: Path, text: str, problem: str) -> str:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            if not isinstance(json.loads(line), dict):
                return f"{file} row {number} is no JSON object; write one object per line"
        except json.JSONDecodeError as error:
            return f"{file} row {number} is not JSON: {error.msg} at character {error.pos + 1}; correct the line"
    return f"{file} cannot be read: {problem}; give each key values of one type"
