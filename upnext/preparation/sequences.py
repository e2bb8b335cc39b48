"""Side sequences of a source, numbered as the log is, and written beside it."""

from pathlib import Path

import numpy as np
import polars as pl

from upnext.base.ids import stable_hash
from upnext.base.schema import TIME_MS, USER_ID
from upnext.events.sequences import SideSequence, open_sequences
from upnext.events.sources import AnySource, TableSource, read_sequence
from upnext.features.vocabulary import Vocabulary

__all__ = ["MOST_WORDS", "copy_sequences", "write_sequences"]

MOST_WORDS = 32
"""So many different words of a row count, the first ones."""


def write_sequences(source: AnySource, users: Vocabulary, folder: Path) -> list[str]:
    """Read a source's side sequences and write them into the folder of its log.

    Returns:  notes on the rows that were left out because the log has no such user, or has forgotten them.
    """
    notes = []
    for name, table in source.sequences.items() if isinstance(source, TableSource) else ():
        rows = read_sequence(table, name)
        ids = rows[USER_ID].cast(pl.Int64 if users.is_integer else pl.String, strict=False)
        rows = rows.with_columns(user=pl.Series(users.encode(ids.to_arrow()))).filter(ids.is_in(users.ids))
        if num_out := len(ids) - len(rows):
            notes.append(f"sequence {name}: {num_out:,} rows of users without an event were left out")
        words = rows["words"].list.unique(maintain_order=True).list.head(MOST_WORDS).to_list()
        known = {word: stable_hash(word) for word in {word for row in words for word in row or ()}}
        hashes = np.zeros((len(words), max((len(row or ()) for row in words), default=0)), np.int64)
        for number, row in enumerate(words):
            hashes[number, : len(row or ())] = [known[word] for word in row or ()]
        SideSequence(rows["user"].to_numpy(), rows[TIME_MS].to_numpy(), hashes).save(folder, name)
    return notes


def copy_sequences(source: Path, target: Path, kept: set[int]) -> None:
    """Copy the side sequences of one log's folder to another's, for some users."""
    for name, sequence in open_sequences(source).items():
        sequence.take(np.flatnonzero(np.isin(sequence.user, sorted(kept)))).save(target, name)
