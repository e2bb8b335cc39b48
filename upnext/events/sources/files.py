"""Finding and opening source files."""

import contextlib
import glob
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from upnext.base.errors import BadData
from upnext.events.sources.raw import Column, Origin, Part

__all__ = ["either", "find_files", "open_bytes", "read_bytes", "read_lines", "resolve_path", "split_lines"]

_VARIABLE = "${UPNEXT_DATA}"


def resolve_path(text: str) -> Path:
    """Turn a path of a configuration into a path of this machine.

    A leading `${UPNEXT_DATA}` stands for that environment variable, or for the folder `data` if it is unset.
    Relative paths are relative to the current directory.
    """
    if text.startswith(_VARIABLE):
        text = (os.environ.get("UPNEXT_DATA") or "data") + text.removeprefix(_VARIABLE)
    return Path(text)


def find_files(path: str | list[str]) -> list[Path]:
    """Find the files that a path, a glob, or a list of them names.

    Returns:  a list in the order given; a glob's matches are sorted by name.
    Raises:   BadData: a pattern matches no file, names a folder, or a file is matched twice.
    """
    found: list[Path] = []
    for text in [path] if isinstance(path, str) else path:
        found += _matches(text)
    for number, file in enumerate(found):
        if file in found[:number]:
            raise BadData(f"{file} is matched twice by {path!r}, so its rows would count twice; name each file once")
    return found


def _matches(text: str) -> list[Path]:
    pattern = resolve_path(text)
    if pattern.is_file():
        return [pattern]
    if pattern.is_dir():
        raise BadData(f'{pattern} is a folder, where files are wanted; write a pattern such as "{pattern}/*.parquet"')
    files = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True)) if Path(name).is_file()]
    if not files:
        unset = text.startswith(_VARIABLE) and not os.environ.get("UPNEXT_DATA")
        hint = "set UPNEXT_DATA to the folder of the data" if unset else "correct the path"
        raise BadData(f"no file matches {pattern.absolute()}; {hint}")
    return files


def either(folder: Path, name: str) -> Path | None:
    """Find a file of a folder, plain or compressed: `u.data`, else `u.data.gz`, else None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressing it where its name ends in `.gz`.

    Raises:   BadData: it cannot be read, or is damaged, which may show only inside the block.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast("BinaryIO", file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadData(f"{path} is no whole gzip file: {error}; download or compress it again") from None
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}; give the path of a readable file") from None


def read_bytes(path: Path) -> bytes:
    """Read a file whole, decompressing it where its name ends in `.gz`.

    Raises:   BadData: it cannot be read, is damaged, or is empty.
    """
    with open_bytes(path) as file:
        content = file.read()
    if not content.strip():
        raise BadData(f"{path} is empty; give a file with at least one row")
    return content


def read_lines(path: Path, encoding: str) -> Column:
    """Read the lines of a text file without a header: a String column called `line`; row 1 is line 1.

    Raises:   BadData: as `read_bytes`, or the text is not in this encoding.
    """
    content = read_bytes(path)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadData(f"{path} row {line} is not {encoding} text; save the file as {encoding}") from None
    lines = pl.Series("line", text.rstrip("\r\n").removeprefix("\ufeff").split("\n"), dtype=pl.String)
    return Column(lines.str.strip_chars_end("\r"), Origin([Part(path, len(lines))], is_untyped=True))


def split_lines(lines: Column, separator: str, names: list[str]) -> dict[str, Column]:
    """Split lines into as many fields as there are names; an empty field is null.

    Raises:   BadData: a line has more or fewer fields.
    """
    gaps = lines.values.str.count_matches(separator, literal=True)
    lines.refuse(
        gaps != len(names) - 1,
        f"{len(names)} fields separated by {separator!r}: {', '.join(names)}",
        "correct the line, or download the file again",
    )
    parts = lines.values.str.split_exact(separator, len(names) - 1).struct.unnest()
    columns = (parts[:, number].rename(name) for number, name in enumerate(names))
    return {column.name: Column(column.set(column == "", None), lines.origin) for column in columns}
