"""Why a file cannot be read: the line that is to blame. Slow, but only on the way to an error."""

import csv
import io
import json
from pathlib import Path

from upnext.base.errors import BadData
from upnext.events.sources.files import open_bytes

__all__ = ["explain"]


def explain(file: Path, separator: str | None, error: Exception) -> BadData:
    """Make the error for a text file that could not be read, naming its first bad line.

    Args:     separator: of its fields; unset for JSON lines.
              error: what the reader said.
    Raises:   BadData: a compressed file is damaged, or the file cannot be opened.
    """
    problem = str(error).split("\n")[0]
    number = 0
    with open_bytes(file) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return BadData(f"{file} line {number} is not UTF-8 text; save the file as UTF-8")
    with open_bytes(file) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as text:
        found = _bad_json(text) if separator is None else _bad_fields(text, separator)
    if found is None:
        todo = "give each key values of one type" if separator is None else "write it again"
        return BadData(f"{file} cannot be read: {problem}; {todo}")
    return BadData(f"{file} {found}")


def _bad_fields(text: io.TextIOWrapper, separator: str) -> str | None:
    reader = csv.reader(text, delimiter=separator, strict=True)
    start, width = 1, None
    try:
        for number, fields in enumerate(reader):
            width = len(fields) if width is None else width
            if len(fields) > width:
                where = f"row {number} (line {start})"
                return f"{where} has {len(fields)} fields; allowed: {width}, as in the header; correct the line"
            start = reader.line_num + 1
    except csv.Error as error:
        return f"line {start} cannot be read: {error}; close the quotation mark that opens there"
    return None


def _bad_json(text: io.TextIOWrapper) -> str | None:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            if not isinstance(json.loads(line), dict):
                return f"row {number} is no JSON object; write one object per line"
        except json.JSONDecodeError as error:
            return f"row {number} is not JSON: {error.msg} at character {error.pos + 1}; correct the line"
    return None
