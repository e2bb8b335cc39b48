"""What every table of results is written with."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["table", "way", "wrapped"]


def table(header: Sequence[str], lines: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """A Markdown table, line by line; the first `texts` columns are set to the left."""
    rule = [":--"] * texts + ["--:"] * (len(header) - texts)
    return ["| " + " | ".join(line) + " |" for line in [header, rule, *lines]]


def wrapped(command: str) -> str:
    """A command in lines of a readable width; a code span may go over several."""
    return "\n  ".join(textwrap.wrap(command, 110, break_long_words=False, break_on_hyphens=False))


def way(row: Mapping[str, Any]) -> list[str]:
    """How a figure came about: its command, commit, machine and seeds."""
    told = f"commit {row['commit'] or 'unknown'}, {row['machine']}, {row['seeds']} seeds"
    return [f"* `{wrapped(row['command'])}`", f"  ({told})"]
