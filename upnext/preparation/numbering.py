"""Numbering: which dense id an external one gets, and that it never gets another."""

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from upnext.base.errors import BadData
from upnext.events.sources import RawLog
from upnext.features.vocabulary import Vocabulary

__all__ = ["LATE", "number_ids", "number_rows", "number_values"]

LATE = 1 << 62
"""The order of rows that are of no file begins here: at one instant they come after those of files."""


def number_ids(ids: pl.Series, side: pl.DataFrame | None, earlier: Vocabulary | None) -> Vocabulary:
    """Number ids by their first event in time; what only the side table knows comes last.

    Args:     ids: in the order of time; earlier: a numbering that goes on: what it knows keeps its number.
    Raises:   BadData: there is nothing to number.
    """
    if side is not None:
        ids = pl.concat([ids.unique(maintain_order=True), side[ids.name]])
    ids = ids.unique(maintain_order=True)
    if earlier is not None:
        return earlier.extended(ids.to_list())
    if ids.is_empty():
        raise BadData("the source holds no event; give a file with at least one row")
    return Vocabulary(ids.to_arrow().cast(pa.int64() if ids.dtype == pl.Int64 else pa.string()))


def number_values(values: pl.Series, earlier: Vocabulary | None) -> Vocabulary:
    """Number the values of a categorical context in alphabetical order, after those of an earlier numbering."""
    found = values.drop_nulls().unique().sort().to_list()
    return Vocabulary(found or [""]) if earlier is None else earlier.extended(found)


def number_rows(raw: RawLog, first: int) -> NDArray[np.int64]:
    """The order of rows: from `first` on along the files, then that of the rows of no file."""
    num_late = len(raw.late_order)
    return np.concatenate([np.arange(first, first + len(raw.events) - num_late), raw.late_order])
