"""What rankers are told of events as candidates: aggregates, columns, and what the models that they ask say of them.

Everything is as it was known when the events' requests began: a score sees neither the event, nor its siblings, nor
anything later. Shape letters: N events, K cases, C candidates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.batches import Column, FlatColumn, ItemTable
from upnext.base.errors import BadArtifact, BadConfig
from upnext.evaluation.asking import Asked, ask_about_cases, ask_about_rows, said
from upnext.evaluation.cases import Cases
from upnext.events.log import EventLog
from upnext.features.aggregates import Aggregate, ReadsColumns
from upnext.models.build import AnyRanker, load_any
from upnext.models.popularity import RecentlyPopular
from upnext.models.scorers import ReadsScores, Scorer, all_asked, chain_of
from upnext.models.stream import following
from upnext.preparation.candidate_features import candidate_features

__all__ = ["Scorers", "Told", "readers_among", "scorers_of"]

Features = Mapping[str, FlatColumn]


def readers_among(models: Mapping[str, Artifact]) -> dict[str, ReadsScores]:
    """What those of some models read that ask others, by name."""
    found = {}
    for name, artifact in models.items():
        settings = artifact.manifest["config"].get("model", {})
        asks = ReadsScores(scores=settings.get("scores", []), vectors=settings.get("vectors", []))
        if asks.scorers:
            found[name] = asks
    return found


def scorers_of(workspace: Workspace, log: Artifact, rankers: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The models that some rankers ask, and those that these ask, by name.

    Raises:   BadArtifact: one of them was trained anew since the ranker was.
    """
    found: dict[str, Artifact] = {}
    waiting = dict(rankers)
    while waiting:
        name, ranker = waiting.popitem()
        for scorer in (one for asks in readers_among({name: ranker}).values() for one in asks.scorers):
            artifact = workspace.current(f"model-{scorer}", "model", log)
            if artifact.identity not in ranker.manifest["parents"]:
                raise BadArtifact(f"{name!r} reads scores of another {scorer!r} than there is now; run rank again")
            if scorer not in found:
                found[scorer] = waiting[scorer] = artifact
    return found


class Scorers:
    """The models that some rankers ask, as they answer for events of a log.

    Args:     readers: what each ranker reads, by name; models: every model that is asked, by name.
    Raises:   BadConfig: one of them does not have what is asked for.
    """

    def __init__(
        self, readers: Mapping[str, ReadsScores], models: Mapping[str, AnyRanker], log: EventLog, items: ItemTable
    ) -> None:
        self._readers, self._scorers = readers, {}
        for asks in all_asked(readers):
            model = models[asks.name]
            if isinstance(model, RecentlyPopular):  # it counts what lies before each request
                model = following(model, log.with_last_items(model.view)[1], len(items))
            self._scorers[asks.name] = Scorer(asks, model, items)

    @classmethod
    def among(
        cls, models: Mapping[str, Artifact], asked: Mapping[str, Artifact], log: EventLog, items: ItemTable
    ) -> "Scorers":
        """Those that some models ask: `asked`, as `scorers_of` finds them."""
        loaded = {name: load_any(artifact.folder, items) for name, artifact in asked.items()}
        return cls(readers_among({**asked, **models}), loaded, log, items)

    def of(self, name: str) -> list[Scorer]:
        """Those that a ranker asks, each after all that it asks itself."""
        return [self._scorers[one.name] for one in chain_of(self._readers, name)]


@dataclass(frozen=True)
class Told:
    """What rankers are told of things asked about (N,); each model is asked once, whoever reads it.

    `rows`, `known_at` and `item` are as `candidate_features` has them; `ask` gives the blocks in which a model is
    asked, with the features that it reads.
    """

    log: EventLog
    items: ItemTable
    users: Mapping[str, Column]
    scorers: Scorers
    rows: NDArray[np.int64]
    known_at: NDArray[np.int64] | None
    item: NDArray[np.int64] | None
    ask: Callable[[Scorer, Features], Iterable[Asked]]
    _said: dict[str, Features] = field(default_factory=dict)

    @classmethod
    def of_rows(
        cls,
        log: EventLog,
        rows: NDArray[np.int64],
        items: ItemTable,
        users: Mapping[str, Column],
        scorers: Scorers,
        known_at: NDArray[np.int64] | None = None,
    ) -> "Told":
        """Of events (N,), as of their requests, or of moments before them."""

        def ask(scorer: Scorer, features: Features) -> Iterable[Asked]:
            return ask_about_rows(scorer.ranker, log, rows, features, known_at=known_at, users=users)

        return cls(log, items, users, scorers, rows, known_at, None, ask)

    @classmethod
    def of_cases(
        cls,
        log: EventLog,
        cases: Cases,
        shown: NDArray[np.int64],
        items: ItemTable,
        users: Mapping[str, Column],
        scorers: Scorers,
    ) -> "Told":
        """Of items (K, C) at the moments of cases, shown or not; -1 stands for none."""

        def ask(scorer: Scorer, features: Features) -> Iterable[Asked]:
            return ask_about_cases(scorer.ranker, log, cases, shown, items, features, users)

        rows, moments = (np.repeat(of, shown.shape[1]) for of in (cases.first_target, cases.time_ms))
        return cls(log, items, users, scorers, rows, moments, np.maximum(shown, 0).ravel(), ask)

    def to(self, name: str, aggregates: Sequence[Aggregate]) -> dict[str, FlatColumn]:
        """What a ranker of these aggregates is told, by name; it may be more than it reads."""
        chain = self.scorers.of(name)
        declared = [*aggregates]
        for scorer in chain:
            declared += scorer.model.aggregates if isinstance(scorer.model, ReadsColumns) else []
        once = list({aggregate.name: aggregate for aggregate in declared}.values())
        known = self.items.features
        found = candidate_features(once, self.log, self.rows, known, self.users, self.known_at, self.item)
        for scorer in chain:
            if scorer.name not in self._said:
                reads = scorer.model.reads if isinstance(scorer.model, ReadsColumns) else []
                blocks = self.ask(scorer, {column: found[column] for column in reads})
                self._said[scorer.name] = said(scorer, blocks, len(self.rows))
            if twice := sorted(found.keys() & self._said[scorer.name].keys()):
                raise BadConfig(f"{twice[0]!r} is what {scorer.name!r} says and something else too; rename that model")
            found |= self._said[scorer.name]
        return found
