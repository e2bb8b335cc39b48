"""A retriever and a ranker of `[evaluate] stages`, as they answer together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from upnext.base.batches import Column, FlatColumn, ItemTable
from upnext.base.configuration import Config, Weight
from upnext.base.errors import BadConfig
from upnext.base.protocols import Ranker, Retriever
from upnext.evaluation.cases import Cases
from upnext.evaluation.feedback import Foreseen
from upnext.evaluation.ranking import Histories, rank_cases
from upnext.evaluation.stages import drawn_cases, pair_figures, predict_candidates
from upnext.evaluation.utility import orders
from upnext.events.log import EventLog
from upnext.features.aggregates import ReadsColumns
from upnext.models.build import AnyRanker
from upnext.pipeline.subjects import model_scores
from upnext.pipeline.told import Scorers, Told

__all__ = ["StagesConfig", "Together"]


class StagesConfig(Config):
    """A retriever and a ranker that answer together, by their names."""

    retriever: str
    """The model that finds candidates."""
    ranker: str
    """The model that orders them."""
    candidates: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How many the retriever hands over."""
    utility: dict[str, Weight] = {}
    """What a unit of each feedback is worth to the ranker. Unset: as in `evaluate.utility`."""


@dataclass(frozen=True)
class Together:
    """What the figures of two stages are computed from."""

    log: EventLog
    items: ItemTable
    users: Mapping[str, Column]
    cases: Cases
    met: Histories
    removes: bool
    weights: Mapping[str, float]
    k: int
    num_samples: int
    scorers: Scorers

    def figures(
        self, models: Mapping[str, AnyRanker], stages: Sequence[StagesConfig], most_cases: int
    ) -> list[dict[str, Any]]:
        """The rows of `pair_figures` of each pair, on at most so many cases, with `retriever`, `ranker`, `candidates`.

        Raises:   BadConfig: a pair names no model that does its part, or a ranker has nothing to order by.
        """
        cases, V = drawn_cases(self.cases, most_cases), len(self.items)
        rows = []
        for pair in stages:
            retriever, ranker = _retriever(pair.retriever, models), _ranker(pair.ranker, models)
            scores, length = model_scores(retriever, self.log, cases, V, self.users)
            k, removes = min(pair.candidates, V), (self.removes,)
            (found,) = rank_cases(scores, cases, self.met, V, k=k, remove_history=removes, max_length=length)
            features: Mapping[str, FlatColumn] = {}
            if isinstance(ranker, ReadsColumns):
                told = Told.of_cases(self.log, cases, found.top, self.items, self.users, self.scorers)
                features = told.to(pair.ranker, ranker.aggregates)
            predicted = predict_candidates(ranker, self.log, cases, found.top, self.items, features, self.users)
            by = orders(pair.ranker, Foreseen(ranker.components, predicted), pair.utility or self.weights)
            if not by:
                raise BadConfig(
                    f"evaluate.stages: {pair.ranker!r} foresees {sorted(ranker.components)} and orders by a utility;"
                    " weigh some of it in the pair's utility, or in evaluate.utility"
                )
            for name, order in by.items():
                head = {"retriever": pair.retriever, "ranker": name, "candidates": k}
                figures = pair_figures(found.top, order, found, cases, self.k, self.num_samples)
                rows += [head | row for row in figures]
        return rows


def _retriever(name: str, models: Mapping[str, AnyRanker]) -> Retriever:
    model = models.get(name)
    if not isinstance(model, Retriever):
        allowed = [other for other, found in models.items() if isinstance(found, Retriever)]
        raise BadConfig(f"evaluate.stages: no retriever {name!r}; allowed: {allowed}")
    return model


def _ranker(name: str, models: Mapping[str, AnyRanker]) -> Ranker:
    model = models.get(name)
    if not isinstance(model, Ranker):
        allowed = [other for other, found in models.items() if isinstance(found, Ranker)]
        raise BadConfig(f"evaluate.stages: no ranker {name!r}; allowed: {allowed}")
    return model
