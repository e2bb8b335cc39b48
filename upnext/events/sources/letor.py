"""Learning-to-rank files: svmlight with a query in each line, as LETOR and others publish them.

2 qid:10032 1:0.056537 2:0.000000 … 46:0.076923 #docid = GX029-35-5894638
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from upnext.base.batches import FlatColumn
from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.example_sets import ExampleSets
from upnext.events.sources.files import find_files, read_bytes
from upnext.events.split import TEST

__all__ = ["LetorSource", "feature_number", "read_letor", "read_queries", "read_scores"]

Files = Annotated[list[str], Field(min_length=1)]


class LetorSource(Config):
    """Learning-to-rank files: a line per document, `LABEL qid:QUERY 1:VALUE 2:VALUE … # comment`; also gzipped."""

    kind: Literal["learning_to_rank"] = "learning_to_rank"
    train: Files
    """The files that are trained on. The lines of a query stand together."""
    validation: Files
    """The files by which training stops and settings are chosen."""
    test: Files
    """The files of the report."""
    relevant: float = 1.0
    """Labels from here on count as relevant."""
    request_features: list[int] = []
    """The numbers of the features that say something of the query alone: what the query's side of two towers reads."""


def read_letor(source: LetorSource) -> ExampleSets:
    """Read files into example sets: queries are sets, `feature.N` their documents' numbers; what is left out is 0.

    Raises:   BadData: file, line, what is wrong with it and what is allowed.
    """
    found = _Found()
    for part, patterns in enumerate((source.train, source.validation, source.test)):
        for path in find_files(patterns):
            _read(path, part, found)
    num_features = max(found.number, default=0)
    for number in source.request_features:
        if not 1 <= number <= num_features:
            raise BadData(f"request_features names {number}; {source.train[0]} has the features 1 to {num_features}")
    of_request = [_name(number) for number in source.request_features]
    return _sets_of(found, num_features, relevant=source.relevant, of_request=of_request)


def read_queries(path: Path, num_features: int) -> ExampleSets:
    """Read the queries of one file that a model is asked about; they have so many features at least.

    Raises:   BadData: file, line, what is wrong with it and what is allowed; or there is no document.
    """
    found = _Found()
    _read(path, TEST, found)
    if not found.label:
        raise BadData(f"{path} holds no document; a line is LABEL qid:QUERY 1:VALUE 2:VALUE …")
    return _sets_of(found, max(num_features, max(found.number, default=0)))


def _sets_of(found: "_Found", num_features: int, **more: Any) -> ExampleSets:
    values = np.zeros((num_features, len(found.label)), np.float32)
    values[np.array(found.number, np.int64) - 1, np.array(found.line, np.int64)] = found.value
    everywhere = np.ones(len(found.label), bool)
    return ExampleSets(
        {_name(n + 1): FlatColumn(values[n], everywhere) for n in range(num_features)},
        np.array([*found.begins, len(found.label)], np.int64),
        np.array(found.label, np.float64),
        found.query,
        np.arange(len(found.query)),
        np.array(found.part, np.int8),
        np.full(len(found.label), -1, np.int64),
        **more,
    )


def feature_number(name: str) -> int:
    """The number in a file of what example sets call `feature.N`."""
    return int(name.removeprefix(_FEATURE))


_FEATURE = "feature."


def _name(number: int) -> str:
    return f"{_FEATURE}{number}"


class _Found:
    """What was read so far: by document, by query, and the features of a document by number."""

    def __init__(self) -> None:
        self.label = array("d")
        self.query: list[str] = []
        self.begins: list[int] = []
        self.part: list[int] = []
        # One for each number of the files, hundreds of millions of some: 16 bytes instead of a hundred.
        self.line, self.number, self.value = array("q"), array("i"), array("f")


def _read(path: Path, part: int, found: _Found) -> None:
    seen, query = set(found.query), None
    for line, text in _lines(path):
        words = text.partition("#")[0].split()
        if not words:
            continue
        where = f"{path} line {line}"
        if len(words) < 2 or not words[1].startswith("qid:") or len(words[1]) == 4:
            raise BadData(f"{where}: {_short(text)} has no query; a line is LABEL qid:QUERY 1:VALUE 2:VALUE …")
        label = _number(words[0], where, "the label")
        if label < 0:
            raise BadData(f"{where}: the label {label:g} is below 0; labels are 0 for what is not relevant, or larger")
        if words[1][4:] != query:
            query = words[1][4:]
            if query in seen:
                raise BadData(f"{where}: the query {query!r} comes a second time; its lines have to stand together")
            seen.add(query)
            found.query.append(query)
            found.begins.append(len(found.label))
            found.part.append(part)
        before = 0
        for word in words[2:]:
            name, colon, value = word.partition(":")
            if not colon or not name.isdecimal() or not before < int(name) <= _MOST_FEATURES:
                raise BadData(
                    f"{where}: {word!r} is no feature; write NUMBER:VALUE, numbers rising from 1 to {_MOST_FEATURES:,}"
                )
            before = int(name)
            found.line.append(len(found.label))
            found.number.append(before)
            found.value.append(_number(value, where, f"feature {name}"))
        found.label.append(label)


_MOST_FEATURES = 100_000
_LARGEST = float(np.finfo(np.float32).max)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, counted from 1."""
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadData(f"{path} is not UTF-8 text ({error}); save it so") from None
    yield from ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _number(text: str, where: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) <= _LARGEST:
        raise BadData(f"{where}: {what} is {text!r}, which is no finite number")
    return value


def _short(text: str) -> str:
    return repr(text.strip()[:60])


def read_scores(files: list[str], sets: ExampleSets) -> FlatColumn:
    """What a teacher says of example sets, from files with one number per line, in the order of the candidates.

    Raises:   BadData: a line is no number, or there are not as many as candidates.
    """
    values = [
        _number(text.strip(), f"{path} line {line}", "the score")
        for path in find_files(files)
        for line, text in _lines(path)
    ]
    if len(values) != len(sets.label):
        raise BadData(f"{', '.join(files)}: {len(values):,} scores for {len(sets.label):,} candidates; give one a line")
    return FlatColumn(np.array(values), np.ones(len(values), bool))
