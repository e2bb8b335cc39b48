"""Sources: each file reads one published data set, or one format, into the same canonical `RawLog`.

`Source` is the configuration `[prepare.source]`, told apart by `kind`; `read` reads what it describes.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from upnext.events.sources import amazon, globo, kuairand, movielens, movietweetings, sasrec, table, yambda
from upnext.events.sources.amazon import AmazonSource
from upnext.events.sources.files import find_files, resolve_path
from upnext.events.sources.frames import Frames, as_frame, fingerprint
from upnext.events.sources.globo import GloboSource, click_files
from upnext.events.sources.kuairand import KuaiRandSource
from upnext.events.sources.movielens import MovieLensSource
from upnext.events.sources.movietweetings import MovieTweetingsSource
from upnext.events.sources.raw import ORDER, RawLog
from upnext.events.sources.sasrec import SASRecSource
from upnext.events.sources.sequences import SequenceTable, read_sequence
from upnext.events.sources.side_tables import in_order
from upnext.events.sources.table import TableSource
from upnext.events.sources.yambda import YambdaSource

__all__ = [
    "ORDER",
    "AmazonSource",
    "AnySource",
    "Frames",
    "GloboSource",
    "KuaiRandSource",
    "MovieLensSource",
    "MovieTweetingsSource",
    "RawLog",
    "SASRecSource",
    "SequenceTable",
    "Source",
    "TableSource",
    "YambdaSource",
    "as_frame",
    "find_files",
    "fingerprints",
    "in_order",
    "read",
    "read_sequence",
    "resolve_path",
    "source_files",
]

AnySource = (
    TableSource
    | MovieLensSource
    | MovieTweetingsSource
    | SASRecSource
    | KuaiRandSource
    | GloboSource
    | AmazonSource
    | YambdaSource
)

Source = Annotated[AnySource, Field(discriminator="kind")]


def fingerprints(source: AnySource, frames: Frames | None = None) -> dict[str, Any]:
    """What stands for the content of all that a source reads: a change of it makes the log out of date.

    Returns:  for a table in memory the hash of its content, for a file its size and time of change.
    Raises:   BadData: a path or pattern matches no file.
    """
    if frames is not None:
        return {name: fingerprint(frame) for name, frame in frames.items()}
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in source_files(source)}


def source_files(source: AnySource) -> list[Path]:
    """The files that a source reads, or could read.

    Raises:   BadData: a path or pattern matches no file.
    """
    if isinstance(source, TableSource):
        tables = [source.path, *(side.path for side in (source.items, source.users) if side is not None)]
        tables += [sequence.path for sequence in source.sequences.values()]
        return [file for path in tables for file in find_files(path)]
    if isinstance(source, SASRecSource):
        return [*find_files(source.path), *(find_files(source.items.path) if source.items is not None else [])]
    folder = resolve_path(source.path)
    inside = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    if isinstance(source, GloboSource):
        inside += [file for file in click_files(folder) if file not in inside]
    return sorted(inside)


def read(source: AnySource, frames: Frames | None = None, rows: int | None = None) -> RawLog:
    """Read a source into its canonical form: rows in file order, every value checked.

    Args:     frames: the tables of a source of kind "table", in memory, by its paths; unset, files are read.
              rows: of a part, at most, where the source's format can be read in parts; unset, all rows are one.
    Raises:   BadData: naming the file, the row, the column, the value, what is allowed and what to do.
    """
    match source:
        case TableSource():
            return table.read(source, frames, rows)
        case MovieLensSource():
            return movielens.read(source, rows)
        case MovieTweetingsSource():
            return movietweetings.read(source)
        case SASRecSource():
            return sasrec.read(source)
        case KuaiRandSource():
            return kuairand.read(source, rows)
        case GloboSource():
            return globo.read(source, rows)
        case AmazonSource():
            return amazon.read(source)
        case YambdaSource():
            return yambda.read(source, rows)
