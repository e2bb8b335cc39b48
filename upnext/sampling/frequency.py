"""How often each item occurs: exactly, or in the fixed memory of a count-min sketch.

Shape letters: w width, d depth, n values of a stream.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from upnext.base.configuration import Config
from upnext.base.errors import BadBatch

__all__ = ["CountMinSketch", "SketchConfig", "count_items"]

_EVENTS_PER_PART = 1_000_000


class SketchConfig(Config):
    """Size of a count-min sketch."""

    width: Annotated[int, Field(ge=2, le=2**30)] = 2**20
    """Cells per row; a power of two. An estimate exceeds the true count by more than e/width of all events with
    probability e^-depth."""
    depth: Annotated[int, Field(ge=1, le=32)] = 4
    """Rows, each with a hash function of its own."""
    conservative: bool = True
    """Raise only the cells that an estimate needs: closer estimates, the same bound."""

    @field_validator("width")
    @classmethod
    def _is_a_power_of_two(cls, width: int) -> int:
        if width & (width - 1):
            raise ValueError(f"{width} is no power of two; {1 << width.bit_length()} is the next")
        return width


class CountMinSketch:
    """Counts of a stream of integers in d rows of w cells: an estimate is the least of a value's d cells.

    No estimate is below the true count. With N values counted in all, an estimate exceeds the true count by more than
    e · N / w with probability at most e^-d: in one row the excess has the mean N / w, so by Markov it is above
    e · N / w with probability 1/e at most, and rows hash independently. Conservative updates and merging keep both.

    Args:     seed: of the hash functions; sketches are merged only under equal seeds and sizes.
    Source:   Cormode and Muthukrishnan 2005; conservative updates: Estan and Varghese 2002; hashing: the multiply-shift
              scheme for vectors (Thorup 2015), the vector being a value's two halves of 32 bits.
    """

    def __init__(self, config: SketchConfig, seed: int = 0) -> None:
        self.config, self.seed = config, seed
        self.total = 0
        self.cells = np.zeros((config.depth, config.width), np.int64)
        generator = np.random.default_rng(seed)
        self._hashes = generator.integers(0, 2**64, (config.depth, 3), np.uint64, endpoint=False)

    def add(self, values: NDArray[np.int64]) -> None:
        """Count values, in any order."""
        distinct, counts = np.unique(values, return_counts=True)
        self.total += len(values)
        cells = self._cells(distinct)
        if self.config.conservative:
            wanted = self._least(cells) + counts
            for row, columns in enumerate(cells):
                np.maximum.at(self.cells[row], columns, wanted)
        else:
            for row, columns in enumerate(cells):
                np.add.at(self.cells[row], columns, counts)

    def estimate(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) int64: how often each value was counted, at least."""
        return self._least(self._cells(values))

    def merge(self, other: "CountMinSketch") -> None:
        """Add what another sketch has counted, of another part of the stream.

        Raises:   BadBatch: it has another size or seed, so that its cells mean something else.
        """
        if (self.config, self.seed) != (other.config, other.seed):
            raise BadBatch(
                f"a sketch of {other.config} with seed {other.seed} cannot join one of {self.config} with seed"
                f" {self.seed}; count both with one configuration and seed"
            )
        self.cells += other.cells
        self.total += other.total

    def _cells(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """(d, n): the column of each value in each row, ((a · low + b · high + c) mod 2^64) >> (64 - log2 w)."""
        bits = values.astype(np.int64).view(np.uint64)
        low, high = bits & np.uint64(0xFFFF_FFFF), bits >> np.uint64(32)
        shift = np.uint64(65 - self.config.width.bit_length())
        a, b, c = (self._hashes[:, column, None] for column in range(3))
        cells: NDArray[np.int64] = ((a * low + b * high + c) >> shift).astype(np.int64)
        return cells

    def _least(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.stack([self.cells[row][columns] for row, columns in enumerate(cells)])
        least: NDArray[np.int64] = found.min(axis=0)
        return least


def count_items(items: NDArray[np.int64], num_items: int, sketch: SketchConfig | None = None) -> NDArray[np.int64]:
    """(V,) int64: events per item; with a sketch an estimate, never below the truth for items that occur.

    Args:     items: (n,) in [0, V), read in parts, as a stream would be.
    """
    if sketch is None:
        counts: NDArray[np.int64] = np.bincount(items, minlength=num_items)
        return counts
    counted = CountMinSketch(sketch)
    for start in range(0, len(items), _EVENTS_PER_PART):
        counted.add(items[start : start + _EVENTS_PER_PART])
    return counted.estimate(np.arange(num_items))
