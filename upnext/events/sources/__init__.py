"""Sources: each file reads one published data set, or one format, into the same canonical `RawLog`.

`Source` is the configuration `[prepare.source]`, told apart by `kind`; `read` reads what it describes.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from upnext.events.sources import movielens, movietweetings, sasrec, table
from upnext.events.sources.files import find_files, resolve_path
from upnext.events.sources.movielens import MovieLensSource
from upnext.events.sources.movietweetings import MovieTweetingsSource
from upnext.events.sources.raw import RawLog
from upnext.events.sources.sasrec import SASRecSource
from upnext.events.sources.table import TableSource

__all__ = [
    "AnySource",
    "MovieLensSource",
    "MovieTweetingsSource",
    "RawLog",
    "SASRecSource",
    "Source",
    "TableSource",
    "read",
    "resolve_path",
    "source_files",
]

AnySource = TableSource | MovieLensSource | MovieTweetingsSource | SASRecSource

Source = Annotated[AnySource, Field(discriminator="kind")]


def source_files(source: AnySource) -> list[Path]:
    """The files that a source reads, or could read: a change of one makes the log out of date.

    Raises:   BadData: a path or pattern matches no file.
    """
    if isinstance(source, TableSource):
        tables = [source.path, *(side.path for side in (source.items, source.users) if side is not None)]
        return [file for path in tables for file in find_files(path)]
    if isinstance(source, SASRecSource):
        return [*find_files(source.path), *(find_files(source.items.path) if source.items is not None else [])]
    folder = resolve_path(source.path)
    return sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []


def read(source: AnySource) -> RawLog:
    """Read a source into its canonical form: rows in file order, every value checked.

    Raises:   BadData: naming the file, the row, the column, the value, what is allowed and what to do.
    """
    match source:
        case TableSource():
            return table.read(source)
        case MovieLensSource():
            return movielens.read(source)
        case MovieTweetingsSource():
            return movietweetings.read(source)
        case SASRecSource():
            return sasrec.read(source)
