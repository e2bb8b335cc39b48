"""Aggregates online: the same answers as `compute_aggregates` gives, for many candidates at a moment's notice.

Events lie in *runs*: sorted once, asked often. A release has one of its log, on disk and memory-mapped; what was posted
since and what the asking users did make runs of their own, and the answers of several runs add up. In a run the events
that count for some aggregates with one key are a *series*, sorted by (key, time): what lies between two moments is
found by two binary searches, and a sum over it is a difference of two running sums.

A series takes 8 bytes per event and 16 per key, each mean of its events 8 more per event, and a run 8 per different
time. Aggregates share a series where they have the key in common and the same events count.

Shape letters: N events, n events of a series, B requests, C candidates, K keys, T different times.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from upnext.base.errors import BadArtifact, BadConfig
from upnext.features.aggregates import Aggregate, Past, check_names, counting_events

__all__ = ["Asked", "Run", "answer"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

_LARGEST = np.iinfo(np.int64).max
_INDEX = "index.json"


@dataclass(frozen=True)
class Asked:
    """Questions of B requests about C candidates each: keys by name, (B, C) or, where all candidates share it, (B, 1);
    and the moments (B,) strictly before which everything counts."""

    keys: Mapping[str, Ints]
    time_ms: Ints


@dataclass(frozen=True)
class _Series:
    """Events sorted by (key, time).

    `combos` (K,) are the keys that occur, rising; those of key k lie at offsets[k] … offsets[k + 1]; `places` (n,) are
    k * (T + 1) + the rank of the time.
    """

    combos: Ints
    offsets: Ints
    places: Ints


@dataclass(frozen=True)
class Run:
    """Events sorted for the questions of some aggregates; it never changes."""

    parts: Mapping[str, Ints]
    """By name, the values that a part of a key has, rising."""
    times_ms: Ints
    """(T,) rising."""
    series: Sequence[_Series]
    sums: Sequence[Floats]
    """(n + 1,) running sums of a feedback over the events of a series."""
    index: Mapping[str, tuple[int, int | None]]
    """What aggregates of one key, view and feedback read: the numbers of a series, and of the sums over it."""

    @classmethod
    def of(cls, aggregates: Sequence[Aggregate], past: Past) -> "Run":
        """Sort events, in any order, for the questions of aggregates.

        Raises:   BadConfig: an aggregate names what the events do not have, or too many keys are possible.
        """
        names = sorted({name for aggregate in aggregates for name in aggregate.by})
        for aggregate in aggregates:
            check_names(aggregate, past)
        numbered = {name: _distinct(past.keys[name]) for name in names}
        times_ms, rank = _distinct(past.time_ms)
        parts = {name: values for name, (values, _) in numbered.items()}
        series: dict[tuple[tuple[str, ...], bytes], tuple[int, _Series, Ints]] = {}
        sums: list[Floats] = []
        index: dict[str, tuple[int, int | None]] = {}
        for aggregate in aggregates:
            if _name_of(aggregate) in index:
                continue
            counted = counting_events(aggregate, past)
            shared = (tuple(aggregate.by), np.packbits(counted).tobytes())
            if shared not in series:
                codes = _codes(aggregate, parts, {name: number for name, (_, number) in numbered.items()})
                series[shared] = len(series), *_sorted(codes[counted], rank[counted], len(times_ms))
            number, _, order = series[shared]
            index[_name_of(aggregate)] = number, None if aggregate.feedback is None else len(sums)
            if aggregate.feedback is not None:
                values = past.feedback[aggregate.feedback].values[counted][order]
                sums.append(np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)]))
        return cls(parts, times_ms, [one for _, one, _ in series.values()], sums, index)

    def save(self, folder: Path) -> None:
        """Write the arrays into a folder, and `index.json`."""
        folder.mkdir(parents=True)
        (folder / _INDEX).write_text(json.dumps({"parts": list(self.parts), "series": self.index}, indent=1))
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array)

    def _arrays(self) -> dict[str, Ints | Floats]:
        arrays: dict[str, Ints | Floats] = {"times_ms": self.times_ms}
        arrays |= {f"part-{number:03}": values for number, values in enumerate(self.parts.values())}
        for number, one in enumerate(self.series):
            arrays |= {f"series-{number:03}.{name}": values for name, values in vars(one).items()}
        return arrays | {f"sums-{number:03}": values for number, values in enumerate(self.sums)}

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Map what `save` wrote into memory.

        Raises:   BadArtifact: a file is missing or damaged.
        """

        def read(name: str) -> NDArray[np.int64]:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))

        try:
            listing = json.loads((folder / _INDEX).read_text())
            index = {name: (series, sums) for name, (series, sums) in listing["series"].items()}
            series = [
                _Series(*(read(f"series-{number:03}.{name}") for name in _Series.__dataclass_fields__))
                for number in range(len({number for number, _ in index.values()}))
            ]
            num_sums = sum(number is not None for _, number in index.values())
            sums = [read(f"sums-{number:03}").view(np.float64) for number in range(num_sums)]
            parts = {name: read(f"part-{number:03}") for number, name in enumerate(listing["parts"])}
            return cls(parts, read("times_ms"), series, sums, index)
        except (OSError, ValueError, LookupError, TypeError, EOFError) as error:
            raise BadArtifact(f"{folder} holds no whole aggregates ({error}); run publish again") from None


@dataclass(frozen=True)
class _Found:
    """What a run holds for each question, (B, C) or (B, 1): how many events; the sum of their feedback where a mean is
    asked for; the time of the last, or the first, where that is."""

    count: Ints
    total: Floats | float = 0.0
    moment_ms: Ints | int = 0


class _LookUp:
    """The questions of one call, as one run answers them; what aggregates have in common is worked out once."""

    def __init__(self, run: Run, asked: Asked) -> None:
        self._run, self._time_ms = run, asked.time_ms
        self._width = len(run.times_ms) + 1
        self._parts = {name: _find(values, asked.keys[name]) for name, values in run.parts.items()}
        self._keys: dict[int, Ints] = {}
        self._ends: dict[tuple[int, int], Ints] = {}

    def found(self, aggregate: Aggregate) -> _Found:
        """What the run holds for the questions of an aggregate, its window included."""
        number, of_sums = self._run.index[_name_of(aggregate)]
        series = self._run.series[number]
        if number not in self._keys:
            self._keys[number] = self._key(aggregate, series)
        end = self._before(number, 0)
        is_whole = aggregate.window is None
        start = series.offsets[self._keys[number]] if is_whole else self._before(number, aggregate.window or 0)
        count = end - start
        if aggregate.what == "count" or not len(series.places):
            return _Found(count)
        if of_sums is not None:
            sums = self._run.sums[of_sums]
            return _Found(count, sums[end] - sums[start])
        at = end - 1 if aggregate.what == "recency" else np.minimum(start, len(series.places) - 1)
        return _Found(count, moment_ms=self._run.times_ms[series.places[at] % self._width])

    def _key(self, aggregate: Aggregate, series: _Series) -> Ints:
        """The number of each question's key in a series; of one without events that behind the last."""
        parts = {name: self._parts[name] for name in aggregate.by}
        codes = _codes(aggregate, self._run.parts, {name: number for name, (number, _) in parts.items()})
        is_known = functools.reduce(np.logical_and, (known for _, known in parts.values()))
        if len(series.combos) == math.prod(len(self._run.parts[name]) for name in aggregate.by):
            return np.where(is_known, codes, len(series.combos))  # every possible key occurs
        key, is_there = _find(series.combos, codes)
        return np.where(is_known & is_there, key, len(series.combos))

    def _before(self, number: int, ago_ms: int) -> Ints:
        """Where the events of each question's key end that are strictly before so long ago."""
        if (number, ago_ms) not in self._ends:
            series, key = self._run.series[number], self._keys[number]
            rank = np.searchsorted(self._run.times_ms, self._time_ms - ago_ms)
            if (rank == self._width - 1).all():  # all of them: so it is for those who ask now
                end = series.offsets[np.minimum(key + 1, len(series.combos))]
            else:
                end = np.searchsorted(series.places, key * self._width + rank[:, None])
            self._ends[number, ago_ms] = end
        return self._ends[number, ago_ms]


def answer(aggregates: Sequence[Aggregate], runs: Sequence[Run], asked: Asked) -> dict[str, NDArray[np.float32]]:
    """Answer every question for every aggregate from all runs together.

    Args:     runs: at least one; all sorted for these aggregates.
    Returns:  by name, (B, C) or (B, 1) float32; a count is 0 and everything else NaN where no event counts.
    """
    looked_up = [_LookUp(run, asked) for run in runs]
    answers = {}
    for aggregate in aggregates:
        parts = [one.found(aggregate) for one in looked_up]
        count = functools.reduce(np.add, (part.count for part in parts))
        if aggregate.what == "count":
            answers[aggregate.name] = count.astype(np.float32)
            continue
        if aggregate.what == "mean":
            values = functools.reduce(np.add, (part.total for part in parts)) / np.maximum(count, 1)
        else:
            is_last = aggregate.what == "recency"
            nothing = -_LARGEST if is_last else _LARGEST
            moments = [np.where(part.count > 0, part.moment_ms, nothing) for part in parts]
            moment = functools.reduce(np.maximum if is_last else np.minimum, moments)
            values = (asked.time_ms[:, None] - moment).astype(np.float64)
        answers[aggregate.name] = np.where(count > 0, values, np.nan).astype(np.float32)
    return answers


def _name_of(aggregate: Aggregate) -> str:
    """What it reads."""
    return f"{'+'.join(aggregate.by)}|{aggregate.view}|{aggregate.feedback or ''}"


def _codes(aggregate: Aggregate, parts: Mapping[str, Ints], numbers: Mapping[str, Ints]) -> Ints:
    """One number for each key, from those of its parts."""
    if math.prod(len(parts[name]) + 1 for name in aggregate.by) > _LARGEST:
        raise BadConfig(f"the aggregate {aggregate.name!r} has too many possible keys; name fewer in `by`")
    codes: Ints = numbers[aggregate.by[0]]
    for name in aggregate.by[1:]:
        codes = codes * max(1, len(parts[name])) + numbers[name]
    return codes


def _find(values: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where each wanted value stands among rising ones, and whether it is there."""
    if not len(values):
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, np.bool_)
    place = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return place, values[place] == wanted


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """The different values, rising, and the number among them of each; where they are dense, without sorting."""
    low = int(values.min(initial=0))
    span = int(values.max(initial=0)) - low + 1
    if span > 4 * len(values):
        different, number = np.unique(values, return_inverse=True)
        return different, number
    occurs = np.zeros(span, np.bool_)
    occurs[values - low] = True
    return np.flatnonzero(occurs) + low, (np.cumsum(occurs) - 1)[values - low]


def _sorted(codes: Ints, rank: Ints, num_times: int) -> tuple[_Series, Ints]:
    """The events of a series, and the order in which they lie there."""
    combos, key = _distinct(codes)
    places = key * (num_times + 1) + rank
    order = np.argsort(places)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=len(combos)))])
    return _Series(combos, offsets, places[order]), order
