"""What one model says of candidates, as features of another: numbers `model.component`, and both of its vectors.

Shape letters: B requests, C candidates, D vector width.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from upnext.base.batches import Candidates, Column, ItemTable, Request, State
from upnext.base.configuration import Config, Duration
from upnext.base.errors import BadConfig
from upnext.base.protocols import Ranker, Retriever, VectorRetriever, expectation
from upnext.base.schema import vector_columns
from upnext.models.candidates import CandidatesConfig
from upnext.models.item_lookup import candidate_vectors
from upnext.models.ordering import Ordering
from upnext.models.stream import stream_of

__all__ = ["Asks", "ReadsScores", "Scorer", "all_asked", "chain_of"]


class ReadsScores(Config):
    """What a ranker is told by other models, from which events of the training part it learns, and which candidates."""

    scores: list[str] = []
    """Models whose answers it reads as numbers of each candidate, `argus.like`: by their names in [pretrain],
    [finetune], or above it in [rank]. Each of them has to leave events to it: see `hold_back`."""
    vectors: list[str] = []
    """Models of which it reads the whole user vector and item vector, `argus.user_vector` and `argus.item_vector`."""
    hold_back: Annotated[Duration, Field(gt=0)] | None = None
    """The last part of the training part, so long, on which it is not trained, so that rankers that read its scores can
    be: a score of what a model was trained on knows the answer, and so does what it finds. Unset: none."""
    last: Annotated[Duration, Field(gt=0)] | None = None
    """Of the training part it learns only from the last so much: give it to a ranker without scores, to compare it with
    one that has them. Unset: from all, or all that the models whose scores or candidates it reads left to it."""
    candidates: CandidatesConfig | None = None
    """Candidates drawn from what a retriever found, for a log that does not say what was shown. Unset: the events
    themselves are the candidates."""

    @property
    def scorers(self) -> list[str]:
        """Every model that it asks, once."""
        return list(dict.fromkeys([*self.scores, *self.vectors]))

    @property
    def finders(self) -> list[str]:
        """The model that finds its candidates, if they are drawn."""
        return [] if self.candidates is None else [self.candidates.retriever]

    @model_validator(mode="after")
    def _names_differ(self) -> "ReadsScores":
        for key, names in (("scores", self.scores), ("vectors", self.vectors)):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{key} names {name!r} twice; remove one")
        return self


class Asks(Config):
    """A model that a ranker asks, and what it asks for."""

    name: str
    scores: bool = True
    vectors: bool = False


class Scorer:
    """A model that other rankers ask: what it puts out joins the features of the candidates.

    A ranker gives what it expects of each component, or its raw output where that only orders; what only retrieves
    gives its score. Vectors are those whose dot product is the score; all candidates of a request have one user vector.

    Args:     asks: what is asked of it. items: the catalogue.
    Raises:   BadConfig: it has no such thing.
    """

    def __init__(self, asks: Asks, model: Any, items: ItemTable) -> None:
        name, scores, vectors = asks.name, asks.scores, asks.vectors
        self.name, self.model, self._items = name, model, items
        self.ranker: Ranker = model if isinstance(model, Ranker) else Ordering(cast("Retriever", model))
        self._scores = dict(self.ranker.components) if scores else {}
        if scores and not self._scores:
            raise BadConfig(f"scores names {name!r}, which foresees nothing of this log; remove it, or log feedback")
        if vectors and not isinstance(model, VectorRetriever):
            raise BadConfig(
                f"vectors names {name!r}, which has no user and item vectors; name one of the kind argus, sasrec or"
                " two_towers, or read its `scores`"
            )
        self._has_vectors = vectors
        self._vectors: Tensor | None = None

    @property
    def numbers(self) -> list[str]:
        """The columns that it gives as numbers."""
        return [f"{self.name}.{component}" for component in self._scores]

    def widths(self) -> dict[str, int]:
        """The vectors that it gives, with their widths: nothing, or two."""
        return {name: self._item_vectors().shape[1] for name in vector_columns(self.name)} if self._has_vectors else {}

    def columns(self, state: State, request: Request, candidates: Candidates) -> dict[str, Column]:
        """Everything that it says of candidates (B, C): numbers (B, C), vectors (B, C, D).

        A number is not observed where the model has no answer.
        """
        shape = candidates.item.shape
        found: dict[str, Column] = {}
        if self._scores:
            outputs = self.ranker.predict(state, request, self._known(candidates))
            for component, link in self._scores.items():
                value = expectation(outputs[component], link)
                is_known = value.isfinite()
                found[f"{self.name}.{component}"] = Column(value.where(is_known, 0.0), is_known)
        if self._has_vectors:
            model = cast("VectorRetriever", self.model)
            user = model.query_vectors(state, request)[:, None].expand(*shape, -1)
            item = candidate_vectors(model.item_vectors, self._items, self._item_vectors(), candidates)
            for name, vector in zip(vector_columns(self.name), (user, item), strict=True):
                found[name] = Column(vector, torch.ones(shape, dtype=torch.bool, device=vector.device))
        return found

    def _known(self, candidates: Candidates) -> Candidates:
        """Candidates as the model can be asked about them: a retriever knows items by their number alone."""
        if isinstance(self.model, Ranker) or stream_of(self.model) is not None:
            return candidates
        item = torch.where(candidates.item < len(self._items), candidates.item, 0)
        return Candidates(item, candidates.item_hash, candidates.mask, candidates.features)

    def _item_vectors(self) -> Tensor:
        if self._vectors is None:
            self._vectors = cast("VectorRetriever", self.model).item_vectors(self._items).detach()
        return self._vectors


def chain_of(readers: Mapping[str, ReadsScores], name: str) -> list[Asks]:
    """The models that a ranker asks, and those that these ask, each after all that it asks itself.

    Args:     readers: what rankers read, by name; who is not among them asks nobody.
    """
    order = _in_order(readers, name)
    return _asked_by([readers[one] for one in (*order, name) if one in readers], order)


def all_asked(readers: Mapping[str, ReadsScores]) -> list[Asks]:
    """Every model that any ranker asks, and all that is asked of it."""
    return _asked_by(list(readers.values()), list(dict.fromkeys(n for one in readers.values() for n in one.scorers)))


def _asked_by(readers: Sequence[ReadsScores], names: Sequence[str]) -> list[Asks]:
    return [
        Asks(
            name=name,
            scores=any(name in reader.scores for reader in readers),
            vectors=any(name in reader.vectors for reader in readers),
        )
        for name in names
    ]


def _in_order(readers: Mapping[str, ReadsScores], name: str) -> list[str]:
    found: dict[str, None] = {}
    for scorer in readers[name].scorers if name in readers else ():
        found |= dict.fromkeys([*_in_order(readers, scorer), scorer])
    return list(found)
