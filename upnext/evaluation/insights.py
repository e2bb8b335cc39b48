"""What a report says beyond its tables: differences to the best baseline, segments, popularity bias, example users."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.cases import Cases
from upnext.evaluation.examples import Example, Names, draw_examples
from upnext.evaluation.figures import best_first, differences
from upnext.evaluation.popularity import popularity_rows
from upnext.evaluation.ranking import Histories, Ranking
from upnext.evaluation.segments import find_dimensions, heavy_from, segment_figures

__all__ = ["BASELINES", "ORACLE", "Evaluated", "Insights", "find_insights", "shown_models"]

BASELINES = ("popular", "recently_popular")
"""The kinds of models that others are held against."""
ORACLE = "oracle"
"""The name of a simulation's own truth; it competes with nobody."""


def shown_models(models: Sequence[str], baselines: Collection[str]) -> list[str]:
    """The models that plots and examples show: the best one that is no baseline, and the best baseline.

    Args:     models: the best first.  Returns: the better of the two first.
    """
    others = [name for name in models if name not in baselines][:1]
    chosen = [*others, *[name for name in models if name in baselines][:1]]
    return [name for name in models if name in chosen]


@dataclass(frozen=True)
class Evaluated:
    """Everything that was evaluated under the first treatment of the history.

    `kinds` holds the kind of each model, `rankings` those of the oracle too; `trained` (V,) training events.
    """

    histories: Histories
    part: NDArray[np.int8]
    cases: Cases
    trained: NDArray[np.int64]
    rankings: Mapping[str, Ranking]
    kinds: Mapping[str, str]
    names: Names
    k: int
    num_samples: int


@dataclass(frozen=True)
class Insights:
    """Tidy rows of `differences`, `segment_figures` and `popularity_rows`; what is empty has no section.

    `segment_notes` says per dimension how its borders were found.
    """

    differences: list[dict[str, Any]] = field(default_factory=list)
    segments: list[dict[str, Any]] = field(default_factory=list)
    segment_notes: dict[str, str] = field(default_factory=dict)
    popularity: list[dict[str, Any]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


def find_insights(evaluated: Evaluated, rows: Sequence[Mapping[str, Any]]) -> Insights:
    """Look closer at what was evaluated.

    Args:     rows: the figures of the same treatment of the history: they say which model and baseline are best.
    """
    of, k, num_samples = evaluated, evaluated.k, evaluated.num_samples
    models = best_first(rows, k, of.kinds)
    baselines = [name for name in models if of.kinds[name] in BASELINES]
    dimensions = find_dimensions(of.histories, of.part, of.cases, of.trained, of.names.contexts)
    compared = {name: of.rankings[name] for name in models}
    shown = shown_models(models, baselines)
    return Insights(
        differences=differences(compared, baselines[0], of.cases, k, num_samples) if baselines else [],
        segments=segment_figures(dimensions, of.rankings, of.cases, k, num_samples),
        segment_notes={dimension.name: dimension.note for dimension in dimensions},
        popularity=popularity_rows(of.rankings, of.cases, of.trained, k),
        examples=draw_examples(
            {name: of.rankings[name] for name in shown},
            of.cases,
            of.histories,
            heavy_from(of.histories, of.part),
            of.names,
        ),
    )
