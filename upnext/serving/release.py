"""A release: everything a server needs, in one immutable folder.

release.json                    the settings below
schema.json                     what events may hold
items.arrow, users.arrow        the catalogue and what is known of users, with *_features.safetensors for models
*.vocabulary.arrow              the numbering of users, items and contexts
models/<name>/                  weights and configuration of each model
scorers.json                    the models that the ranker asks, in order, and what it asks of each, if any
histories/                      each user's events, and their states for a retriever with a lag: a read-only store
aggregates/                     the log sorted for the ranker's aggregates, those by user aside: see `Run`
posted.npy                      the keys of the posted events among them, if there are any
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.artifacts import Artifact
from upnext.base.configuration import Config, Duration, Weight, parse_config
from upnext.base.errors import BadArtifact, BadConfig
from upnext.base.ids import FIRST
from upnext.base.protocols import Index, VectorRetriever, lag_of
from upnext.base.schema import TITLE, Schema
from upnext.base.views import ALL
from upnext.features.catalogue import Catalogue
from upnext.features.online_aggregates import Run
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.index.exact import ExactIndex
from upnext.models.build import AnyModel, AnyRanker, load_any, load_model
from upnext.models.scorers import Asks, Scorer
from upnext.serving.filters import FilterConfig, blocked_by, check_filter
from upnext.serving.titles import TitleIndex
from upnext.store.embedded import LmdbStore

__all__ = ["AGGREGATES", "POSTED", "SCORERS", "Release", "ReleaseSettings", "check_filters"]

AGGREGATES = "aggregates"
"""The folder of a release with the events that its ranker's aggregates count, sorted."""

SCORERS = "scorers.json"
"""The file of a release with the models that its ranker asks, in order."""

POSTED = "posted.npy"
"""The file of a log, and of the releases made from it, with the keys of the posted events that it holds."""


class ReleaseSettings(Config):
    """What a release does with its models."""

    title: str = "Upnext"
    """What the page is called."""
    retriever: str
    """The model that chooses what a user is shown, by its name in [pretrain] or [finetune]."""
    ranker: str | None = None
    """The model that orders what the retriever chose, by the utility that it expects; may be the retriever itself."""
    num_candidates: Annotated[int, Field(ge=1, le=10_000)] = 100
    """With a ranker: how many items of each row the retriever chooses, or three times as many as are shown if more."""
    utility: dict[str, Weight] = {}
    """With a ranker: what each feedback is worth: `{ like = 1.0, dislike = -2.0 }`."""
    order: str | None = None
    """With a ranker, in place of a utility: its output that only orders, `chosen` or `utility`."""
    surfaces: dict[str, dict[str, Weight]] = {}
    """What feedback is worth on a surface of its own, by the surface's name; others use `utility`."""
    surface_context: str = "surface"
    """The context of a request that names its surface."""
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much it counts that the items of a row are unlike each other, by the retriever's item vectors; 0: only what
    they are worth."""
    lag: Annotated[Duration, Field(ge=0)] = 0
    """Models read only what happened longer ago than this: "10m". What may not be shown counts at once."""
    popular: str | None = None
    """The model behind the row "Popular now", if there is to be one."""
    view: str | None = None
    """The events that count as chosen: their items are not recommended again, and `reason` counts them. Unset: the
    view that the retriever reads."""
    exclude_history: bool = True
    """Never recommend what the user chose before; switch it off where people repeat items."""
    hide: str | None = None
    """Never show a user an item that one of their events marks so: `dislike == 1`."""
    filter: FilterConfig = FilterConfig()
    """What is shown nobody, and what a user is shown no more, on every surface."""
    surface_filters: dict[str, FilterConfig] = {}
    """The same for a surface of its own, by the surface's name, in addition to `filter`."""
    page_context: dict[str, str | float] = {}
    """The contexts in which the page asks, and which it posts with what people do: `{ surface = "home" }`."""
    actions: dict[str, dict[str, float]] = {"play": {}}
    """The page's buttons, and the feedback that each posts: `play = { played = 1.0 }`."""

    @model_validator(mode="after")
    def _ranker_and_weights_go_together(self) -> Self:
        if self.ranker is None and (self.utility or self.surfaces):
            given = "utility" if self.utility else "surfaces"
            raise ValueError(
                f"{given} says what feedback is worth, but nothing ranks by it: name a ranker, or remove it"
            )
        if self.order is not None:
            if self.ranker is None:
                raise ValueError(f"order = {self.order!r}, but nothing gives an order: name a ranker, or remove it")
            if self.utility or self.surfaces:
                raise ValueError(
                    "'order' stands in place of what feedback is worth; remove it, or utility and surfaces"
                )
            return self
        if self.ranker is not None and not self.utility:
            raise ValueError(
                f"ranker {self.ranker!r} has to know what feedback is worth: add [publish.utility] with like = 1.0, say"
                ", or name with publish.order its output that only orders"
            )
        tables = {"utility": self.utility} | {f"surfaces.{name}": weights for name, weights in self.surfaces.items()}
        for where, weights in tables.items():
            if self.ranker is not None and not any(weights.values()):
                raise ValueError(f"every feedback in {where} is worth nothing: give one of them a weight other than 0")
        return self

    def surface_of(self, context: Mapping[str, str | float]) -> str:
        """The surface that a request's context names, "" if none."""
        return str(context.get(self.surface_context, ""))

    def most_shown(self, surface: str) -> float:
        """After how many events in vain a user is not shown an item again on a surface; infinity if never."""
        rules = (self.filter, self.surface_filters.get(surface, FilterConfig()))
        return min((one.most_shown for one in rules if one.most_shown is not None), default=float("inf"))


@dataclass(frozen=True)
class Release:
    """A release, loaded."""

    name: str
    settings: ReleaseSettings
    schema: Schema
    catalogue: Catalogue
    people: People
    contexts: Mapping[str, Vocabulary]
    retriever: AnyModel
    index: Index | None
    """Answers `top_k` for a retriever whose score is a dot product; None for others."""
    popular: AnyModel | None
    ranker: AnyRanker | None
    """Orders what the retriever chose; the retriever itself where the settings name it twice."""
    scorers: Sequence[Scorer]
    """The models that the ranker asks, each after all that it asks itself; one of them may be the retriever."""
    aggregates: Run | None
    """The events of the log, sorted for those aggregates of the ranker that are not by user; None without any."""
    temperature: float | None
    """The retriever's scores divided by it are logits of the next item; None where they are no such thing."""
    histories: LmdbStore
    held: NDArray[np.bytes_]
    """(n,) the sorted keys of the posted events that the log of this release holds."""

    def holds(self, key: bytes) -> bool:
        """Whether a posted event, by its key in the live store, is in the histories already."""
        place = int(np.searchsorted(self.held, np.bytes_(key)))
        return place < len(self.held) and bool(self.held[place] == np.bytes_(key))

    @property
    def stores_states(self) -> bool:
        """Whether users' states are computed ahead of time: a retriever with a lag is made for that."""
        return bool(lag_of(self.retriever))

    @property
    def ordering(self) -> Mapping[str, AnyRanker]:
        """The models that have a say in the order, by name: those that the ranker asks, then itself."""
        models: dict[str, AnyRanker] = {scorer.name: scorer.model for scorer in self.scorers}
        if self.ranker is not None and self.settings.ranker is not None:
            models[self.settings.ranker] = self.ranker
        return models

    @property
    def users(self) -> Vocabulary:
        """The numbering of users."""
        return self.people.vocabulary

    @property
    def view(self) -> str:
        """The events that count as chosen."""
        return self.settings.view or self.retriever.view

    @classmethod
    def load(cls, folder: Path) -> "Release":
        """Load a release; every file is compared with its hash first.

        Raises:   BadArtifact: a file is missing or was changed.
        """
        artifact = Artifact.open(folder, verify=True)
        if artifact.kind != "release":
            raise BadArtifact(f"{folder} is a {artifact.kind}, not a release; give the folder that publish made")
        settings = parse_config(ReleaseSettings, json.loads((folder / "release.json").read_text()), "release.json")
        schema = parse_config(Schema, json.loads((folder / "schema.json").read_text()), "schema.json")
        asks = _Asked()
        if (folder / SCORERS).is_file():
            asks = parse_config(_Asked, json.loads((folder / SCORERS).read_text()), SCORERS)
        models = (settings.retriever, settings.popular, settings.ranker, *(one.name for one in asks.scorers))
        for name in (*models, *schema.contexts):
            if name is not None and {"/", "\0"} & set(name):  # it may come from elsewhere, and leads into folders
                raise BadArtifact(f"{folder} names a model or a context {name!r}, which is no name of a file")
        catalogue = Catalogue.load(folder)
        retriever = load_model(folder / "models" / settings.retriever, catalogue.items)
        popular = load_model(folder / "models" / settings.popular, catalogue.items) if settings.popular else None
        # One that has several parts to play is loaded once: what it is told of the stream it counts once.
        loaded: dict[str, AnyRanker] = {settings.retriever: retriever}
        for name in (settings.ranker, *(one.name for one in asks.scorers)):
            if name is not None and name not in loaded:
                loaded[name] = load_any(folder / "models" / name, catalogue.items)
        return cls(
            name=artifact.name,
            settings=settings,
            schema=schema,
            catalogue=catalogue,
            people=People.load(folder),
            contexts={
                name: Vocabulary.load(folder / f"context.{name}.vocabulary.arrow")
                for name, kind in schema.contexts.items()
                if kind == "categorical"
            },
            retriever=retriever,
            index=_index(retriever, catalogue) if isinstance(retriever, VectorRetriever) else None,
            popular=popular,
            ranker=None if settings.ranker is None else loaded[settings.ranker],
            scorers=[Scorer(one, loaded[one.name], catalogue.items) for one in asks.scorers],
            aggregates=Run.load(folder / AGGREGATES) if (folder / AGGREGATES).is_dir() else None,
            temperature=artifact.manifest["metrics"].get("temperature", 1.0),
            held=np.load(folder / POSTED) if (folder / POSTED).is_file() else np.zeros(0, np.bytes_),
            histories=LmdbStore(folder / "histories", is_read_only=True),  # the last: what fails leaves none open
        )

    @cached_property
    def blocked(self) -> Mapping[str | None, NDArray[np.bool_]]:
        """(V,) bool: which items of the catalogue are blocked on every surface, under None, and on each with rules."""
        rules = [(None, self.settings.filter), *self.settings.surface_filters.items()]
        return {surface: blocked_by(one, self.catalogue) for surface, one in rules}

    @cached_property
    def directions(self) -> ExactIndex:
        """Item vectors of length 1, by dense id: their dot products are cosines; zeros stay zeros."""
        assert isinstance(self.retriever, VectorRetriever)
        with torch.inference_mode():
            vectors = self.retriever.item_vectors(self.catalogue.items)
            return ExactIndex(torch.nn.functional.normalize(vectors, dim=1).numpy())

    @cached_property
    def titles(self) -> TitleIndex:
        """Finds items by title; its number n is the dense id n + 2."""
        return TitleIndex([self.catalogue.describe(item)[TITLE] for item in range(FIRST, len(self.catalogue))])

    def can_retrieve(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(V,) bool: the items that the retriever can score."""
        if not isinstance(self.retriever, VectorRetriever):
            return np.ones(len(self.catalogue), bool)
        scorable: np.ndarray[tuple[int], np.dtype[np.bool_]] = self.retriever.can_score(self.catalogue.items).numpy()
        return scorable


class _Asked(Config):
    """The file `scorers.json`."""

    scorers: list[Asks] = []


def check_filters(settings: ReleaseSettings, folder: Path, view: str | None) -> None:
    """Check that the rules of a release name what there is.

    Args:     folder: of the prepared log; view: the events that count as chosen, if known.
    Raises:   BadConfig: an item, a column, a value or a surface that there is not, or a rule without an effect.
    """
    catalogue, context = Catalogue.load(folder), settings.surface_context
    file = folder / f"context.{context}.vocabulary.arrow"
    surfaces = [str(one) for one in Vocabulary.load(file).ids] if settings.surface_filters and file.is_file() else []
    for name in settings.surface_filters:
        if name not in surfaces:
            raise BadConfig(
                f"publish.surface_filters has rules for {name!r}; the context {context!r} of the log is one of"
                f" {surfaces}: mend the name, or say with publish.surface_context what tells surfaces apart"
            )
    tables = {f"surface_filters.{name}": rules for name, rules in settings.surface_filters.items()}
    for table, rules in {"filter": settings.filter, **tables}.items():
        check_filter(rules, catalogue, f"publish.{table}")
        if rules.most_shown is not None and view == ALL:
            raise BadConfig(
                f"publish.{table}.most_shown has no effect: every event counts as chosen; name with publish.view the"
                " events that do, or remove it"
            )


def _index(retriever: VectorRetriever, catalogue: Catalogue) -> ExactIndex:
    with torch.inference_mode():
        return ExactIndex(retriever.item_vectors(catalogue.items).numpy())
