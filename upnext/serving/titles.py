"""Titles: find items by what they are called, whatever the case and the accents.

All titles stand in one text, a line each, so that a search is a few scans at the speed of `str.find`.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain

__all__ = ["TitleIndex", "fold"]

_SPACES = re.compile(r"[^\S\n]+")
_APOSTROPHES = "'\u2019\u02bc"


def fold(text: str) -> str:
    """Write a text as it is compared: `Amélie: Don't` -> `amelie dont`.

    Marks and apostrophes go, other punctuation becomes spaces; a line that holds nothing else stays as it is.
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    table: dict[int, str | None] = {}
    for letter in set(plain) - {"\n"}:
        kind = unicodedata.category(letter)
        if kind[0] == "M" or letter in _APOSTROPHES:
            table[ord(letter)] = None
        elif kind[0] in "PZ" or kind in ("Cc", "Cf"):
            table[ord(letter)] = " "
    folded = _SPACES.sub(" ", plain.translate(table)).split("\n")
    return "\n".join(new.strip() or old.strip() for new, old in zip(folded, plain.split("\n"), strict=True))


class TitleIndex:
    """Titles in the order of their items; `search` gives their numbers, counted from 0."""

    def __init__(self, titles: Sequence[str]) -> None:
        lines = fold("\n".join(" ".join(title.split()) for title in titles)).split("\n") if titles else []
        # Each line follows a line feed; that of line i is at _starts[i], and there is one after the last.
        self._text = "\n" + "".join(f"{line}\n" for line in lines)
        self._starts = [0, *accumulate(len(line) + 1 for line in lines)]

    def search(self, query: str, limit: int) -> list[int]:
        """At most `limit` titles that hold every word of the query.

        Returns:  the title that is the query, those that begin with it, those in which it begins a word, those with
                  words that begin with its words, those that hold its words anywhere; equals in the order of the
                  items. Nothing for an empty query.
        """
        wanted = fold(" ".join(query.split()))
        if not wanted:
            return []
        words = wanted.split(" ")
        longest = max(words, key=len)
        found = chain(
            self._lines(f"\n{wanted}\n"),
            self._lines(f"\n{wanted}"),
            self._lines(f" {wanted}"),
            self._lines(longest, lambda line: all(f" {word}" in line for word in words)),
            self._lines(longest, lambda line: all(word in line for word in words)),
        )
        best: dict[int, None] = {}
        for number in found:
            if len(best) == limit:
                break
            best[number] = None
        return list(best)

    def _lines(self, part: str, accept: Callable[[str], bool] = bool) -> Iterator[int]:
        """The lines in which a part stands and which are accepted, from the top; `accept` sees them after a space."""
        text, starts = self._text, self._starts
        place = text.find(part)
        while place >= 0:
            number = bisect_right(starts, place) - 1
            if accept(" " + text[starts[number] + 1 : starts[number + 1]]):
                yield number
            place = text.find(part, starts[number + 1])
