"""What rankers learn from: events of the training and the validation part, as candidates shown, or drawn around them.

Shape letters: I candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.batches import Column, FlatColumn, ItemTable
from upnext.base.errors import BadConfig
from upnext.base.protocols import Retriever
from upnext.base.schema import feedback_column, vector_columns
from upnext.events.impressions import shown_together, utility, window_start
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.aggregates import ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting.drawn import Drawn, Finder, draw
from upnext.fitting.held_back import hold_back, latest, left_to
from upnext.fitting.ranking import ToldOf
from upnext.fitting.ranking_config import AnyRankConfig
from upnext.fitting.shown import Drawings
from upnext.models.boosted import Examples
from upnext.models.boosted_config import BoostedConfig
from upnext.models.build import load_any
from upnext.pipeline.subjects import model_scores
from upnext.pipeline.told import Scorers, Told, readers_among, scorers_of

__all__ = ["Given", "examples"]

_MOST_RIVALS = 10_000
"""LightGBM orders no larger group."""


@dataclass(frozen=True)
class Given:
    """What a ranker is trained on: a prepared log, and the models that it asks, each with what they ask themselves.

    `part` says what of the log trains and validates; `rows` of each part are those that it learns from; `until_ms` is
    the moment before which everything lies that it, or what it asks, is trained on; `finder` finds its candidates.
    """

    name: str
    folder: Path
    log: EventLog
    part: NDArray[np.int8]
    items: ItemTable
    users: Mapping[str, Column]
    scorers: Scorers
    rows: Mapping[int, NDArray[np.int64]]
    until_ms: int | None
    finder: Finder | None

    @classmethod
    def of(
        cls,
        config: BoostedConfig | AnyRankConfig,
        name: str,
        workspace: Workspace,
        artifact: Artifact,
        asked: Mapping[str, Artifact],
        finders: Mapping[str, Artifact],
    ) -> "Given":
        """Open the log of an artifact, and load the models that are asked.

        Args:     asked: whose scores it reads; finders: the model that finds its candidates, if they are drawn.
        Raises:   BadConfig: nothing is left to learn from, or a model does not have what is asked for.
        """
        log, split = EventLog.open(artifact.folder / "log"), artifact.manifest["metrics"]["split"]
        part, until = hold_back(log, np.load(artifact.folder / "split.npy"), split, config.hold_back)
        items = Catalogue.load(artifact.folder).items
        rows = {}
        for which, where in ((TRAIN, "training"), (VALIDATION, "validation")):
            rows[which] = np.flatnonzero(log.mask(config.view) & (part == which))
            if not len(rows[which]):
                raise BadConfig(f"the {where} part holds no event of the view {config.view!r}; choose another")
        before = {**asked, **finders}
        rows[TRAIN] = left_to(rows[TRAIN], log, split, config.last, before)
        everybody = {**asked, **scorers_of(workspace, artifact, asked)}
        models = {one: load_any(model.folder, items) for one, model in everybody.items()}
        users = People.load(artifact.folder).features.columns
        return cls(
            name,
            artifact.folder,
            log,
            part,
            items,
            users,
            Scorers({**readers_among(everybody), name: config}, models, log, items),
            rows,
            max((one for one in (until, latest(before.values())) if one is not None), default=None),
            next((_finder(one.folder, log, items, users) for one in finders.values()), None),
        )

    def drawn(self, config: BoostedConfig | AnyRankConfig, which: int) -> Drawn:
        """Candidates around what was chosen in a part.

        Raises:   BadConfig: none of them is learnt from.
        """
        assert config.candidates is not None
        assert self.finder is not None
        return draw(config.candidates, self.finder, self.log, self.rows[which], config.view)

    def told_of(self, config: BoostedConfig | AnyRankConfig, drawn: Drawn) -> dict[str, FlatColumn]:
        """What is told of drawn candidates (I,), by name."""
        told = Told.of_cases(self.log, drawn.cases, drawn.items, self.items, self.users, self.scorers)
        there, columns = drawn.mask.ravel(), told.to(self.name, config.aggregates)
        return {name: FlatColumn(of.values[there], of.observed[there]) for name, of in columns.items()}

    def told(self, config: BoostedConfig | AnyRankConfig, which: int, as_of_window: bool) -> ToldOf:
        """A part as candidates, as of their requests or of the beginnings of their windows; or drawn ones around it."""
        if config.candidates is not None:
            drawn = self.drawn(config, which)
            item = drawn.items[drawn.mask]
            drawings = Drawings(item, self.items.item_hash.numpy()[item], drawn.set, drawn.feedback(self.log))
            return ToldOf(drawn.rows, self.told_of(config, drawn), self.scores(config), config.vectors, drawings)
        log, rows = self.log, self.rows[which]
        known_at = window_start(log, rows, config.window) if config.window is not None and as_of_window else None
        told = Told.of_rows(log, rows, self.items, self.users, self.scorers, known_at)
        return ToldOf(rows, told.to(self.name, config.aggregates), self.scores(config), config.vectors)

    def scores(self, config: BoostedConfig | AnyRankConfig) -> list[str]:
        """The columns that other models put out as numbers, which it reads."""
        return [name for one in self.scorers.of(self.name) if one.name in config.scores for name in one.numbers]


def _finder(folder: Path, log: EventLog, items: ItemTable, users: Mapping[str, Column]) -> Finder:
    model = load_any(folder, items)
    assert isinstance(model, Retriever)  # a project in which another one finds candidates is refused
    return Finder(lambda cases: model_scores(model, log, cases, len(items), users), model.view, len(items))


def examples(config: BoostedConfig, given: Given, which: int) -> Examples:
    """The events of one part of the split: each a candidate of its request, or chosen among drawn ones."""
    if config.candidates is not None:
        drawn = given.drawn(config, which)
        feedback = drawn.feedback(given.log)
        worth = utility(feedback, config.utility, len(drawn.set))
        return Examples(_own(config, given, given.told_of(config, drawn)), feedback, drawn.set, worth)
    log, rows = given.log, given.rows[which]
    columns = {key: log.rows.columns[feedback_column(key)] for key in log.schema.feedback}
    feedback = {key: FlatColumn(column.values[rows], column.observed[rows]) for key, column in columns.items()}
    at_start = None
    if config.window is not None:  # what came of one rival must not tell what came of the next
        at_start = _own(config, given, given.told(config, which, as_of_window=True).features)
    return Examples(
        _own(config, given, given.told(config, which, as_of_window=False).features),
        feedback,
        _rivals(config, which, log, rows) if config.utility else np.arange(len(rows)),
        utility(feedback, config.utility, len(rows)),
        at_start,
    )


def _own(config: BoostedConfig, given: Given, told: Mapping[str, FlatColumn]) -> dict[str, FlatColumn]:
    """What trees read of what they are told: nothing that only the models that they ask read."""
    wanted = {*given.scores(config), *(aggregate.name for aggregate in config.aggregates)}
    wanted |= {column for name in config.vectors for column in vector_columns(name)}
    others: set[str] = set()
    for scorer in given.scorers.of(given.name):
        own = scorer.model.aggregates if isinstance(scorer.model, ReadsColumns) else []
        others |= {*scorer.numbers, *vector_columns(scorer.name), *(aggregate.name for aggregate in own)}
    return {name: column for name, column in told.items() if name in wanted or name not in others}


def _rivals(config: BoostedConfig, which: int, log: EventLog, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number who competes with whom, rising along the rows: requests, or a user's events of one window."""
    number = log.groups[rows] if config.window is None else shown_together(log, rows, config.window)
    sizes, where = np.unique(number, return_counts=True)[1], {TRAIN: "training", VALIDATION: "validation"}[which]
    if sizes.max() < 2:
        raise BadConfig(f"no two events of the {where} part compete; give a (longer) window, or no utility")
    if sizes.max() > _MOST_RIVALS:
        raise BadConfig(f"{sizes.max():,} events compete; allowed: {_MOST_RIVALS:,}; shorten `window`")
    return number
