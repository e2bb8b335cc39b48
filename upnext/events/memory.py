"""How many rows to hold in memory at once, so that preparing a log keeps within a limit."""

import os

__all__ = ["LEAST_MEMORY", "rows_at_once"]

LEAST_MEMORY = 10**9
_OF_THE_PROGRAM = 6 * 10**8
"""What Python, the libraries and the files that are read ahead take."""
_PER_ROW = 800
"""Bytes, at the widest moment, of a row with ten columns: measured, see docs/LOG.md."""
_MOST_ROWS = 2_000_000
"""More at once is not faster."""


def rows_at_once(memory_limit: int | None) -> int:
    """Rows of a part of the source, and of a block of users.

    Args:     memory_limit: bytes; unset, half of the machine's memory.
    """
    if memory_limit is None:
        memory_limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    free = max(memory_limit, LEAST_MEMORY) - _OF_THE_PROGRAM
    return min(_MOST_ROWS, free // _PER_ROW)
