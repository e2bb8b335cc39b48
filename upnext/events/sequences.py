"""Side sequences on disk, beside a log: who, when, and the hashes of what; sorted by (user, time), memory-mapped.

Shape letters: N rows, M hashes of a row, Q questions.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.base.errors import BadArtifact, BadBatch

__all__ = ["SideSequence", "open_sequences"]

_FOLDER = "sequences"
_ARRAYS = ("user", "time_ms", "hashes")


@dataclass(frozen=True)
class SideSequence:
    """Rows of all users: `user` and `time_ms` (N,), and `hashes` (N, M) int64, right-padded with 0."""

    user: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    hashes: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.user) == len(self.time_ms) == len(self.hashes) or self.hashes.ndim != 2:
            shapes = [array.shape for array in (self.user, self.time_ms, self.hashes)]
            raise BadBatch(f"a side sequence of the shapes {shapes}; allowed are (N,), (N,) and (N, M)")

    def __len__(self) -> int:
        return len(self.user)

    def sorted(self) -> "SideSequence":
        """Sort by (user, time); equal times keep the order of their source."""
        return self.take(np.lexsort((self.time_ms, self.user)))

    def take(self, rows: NDArray[np.int64]) -> "SideSequence":
        """Select rows by index."""
        return SideSequence(self.user[rows], self.time_ms[rows], self.hashes[rows])

    def before(
        self, user: NDArray[np.int64], time_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find what users did strictly before given moments.

        For events of a log the moment is that of the event's request: `log.rows.time_ms[log.request_start]`.

        Args:     user: (Q,) dense ids; time_ms: (Q,) int64, milliseconds since 1970.
        Returns:  starts and ends, (Q,) int64 each: the rows [start, end) of each question, oldest first.
        """
        place = np.searchsorted(self._times, time_ms, side="left")  # so many different times lie before it
        ends = np.searchsorted(self._keys, user * (len(self._times) + 1) + place, side="left")
        return np.searchsorted(self.user, user, side="left"), ends

    @cached_property
    def _times(self) -> NDArray[np.int64]:
        return np.unique(self.time_ms)

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """(N,) user and time as one number, rising along the rows: times count by their rank, so that it fits."""
        return self.user * (len(self._times) + 1) + np.searchsorted(self._times, self.time_ms)

    def save(self, folder: Path, name: str) -> None:
        """Write it, sorted, into the folder of a log."""
        here = folder / _FOLDER / name
        here.mkdir(parents=True)
        ordered = self.sorted()
        for array in _ARRAYS:
            np.save(here / f"{array}.npy", getattr(ordered, array))


def open_sequences(folder: Path) -> dict[str, SideSequence]:
    """Open the side sequences of a log's folder, by name; none where it has none.

    Raises:   BadArtifact: a file is missing or damaged.
    """
    opened = {}
    for here in sorted((folder / _FOLDER).iterdir()) if (folder / _FOLDER).is_dir() else []:
        try:
            opened[here.name] = SideSequence(*(np.load(here / f"{array}.npy", mmap_mode="r") for array in _ARRAYS))
        except (OSError, EOFError, ValueError) as error:
            raise BadArtifact(f"{here} holds no whole side sequence ({error}); run prepare again") from None
    return opened
