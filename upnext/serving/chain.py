"""The ranker of a release and the models that it asks: each has a state, and what one says the next may read.

Shape letters: B requests, C candidates.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias, cast

from torch import Tensor

from upnext.base.batches import Candidates, Request, State
from upnext.base.protocols import Ranker
from upnext.models.build import AnyRanker
from upnext.models.stream import stream_of
from upnext.serving.assortment import Assortment
from upnext.serving.release import Release

__all__ = ["States", "cover", "predict", "states_of", "take", "with_scores"]

States: TypeAlias = Mapping[str, State]
"""The states of B requests, by the names of the models."""


def states_of(release: Release, encode: Callable[[AnyRanker], State], of_retriever: State | None = None) -> States:
    """The states of all that have a say in the order.

    Args:     encode: gives a model's states of some requests. of_retriever: those of the retriever, which is then not
              encoded again.
    """
    return {
        name: of_retriever if model is release.retriever and of_retriever is not None else encode(model)
        for name, model in release.ordering.items()
    }


def take(states: States, rows: Tensor) -> States:
    """Select requests."""
    return {name: state.take(rows) for name, state in states.items()}


def cover(release: Release, assortment: Assortment) -> None:
    """Tell those that count the stream of the items that came after they were made."""
    for scorer in release.scorers:
        if (stream := stream_of(scorer.model)) is not None:
            stream.cover(len(assortment))


def with_scores(release: Release, states: States, request: Request, candidates: Candidates) -> Candidates:
    """Add what each model says of the candidates, one after the other."""
    for scorer in release.scorers:
        said = scorer.columns(states[scorer.name], request, candidates)
        candidates = replace(candidates, features={**candidates.features, **said})
    return candidates


def predict(release: Release, states: States, request: Request, candidates: Candidates) -> dict[str, Tensor]:
    """What the ranker puts out of candidates, after all that it asks were asked."""
    name = release.settings.ranker
    assert name is not None  # a release without a ranker ranks nothing
    told = with_scores(release, states, request, candidates)
    return cast("Ranker", release.ranker).predict(states[name], request, told)
