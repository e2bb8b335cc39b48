"""What rankers learn from: events of the training and the validation part, as candidates that were shown.

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
from upnext.base.schema import feedback_column, vector_columns
from upnext.events.impressions import shown_together, utility, window_start
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.aggregates import ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting.held_back import hold_back, latest, left_to
from upnext.fitting.ranking import ToldOf
from upnext.fitting.ranking_config import AnyRankConfig
from upnext.models.boosted import Examples
from upnext.models.boosted_config import BoostedConfig
from upnext.models.build import load_any
from upnext.pipeline.told import Scorers, Told, readers_among, scorers_of

__all__ = ["Given", "examples"]

_MOST_RIVALS = 10_000
"""LightGBM orders no larger group."""


@dataclass(frozen=True)
class Given:
    """What a ranker is trained on: a prepared log, and the models that it asks, each with what they ask themselves.

    `part` says what of the log trains and validates; `rows` of each part are those that it learns from; `until_ms` is
    the moment before which everything lies that it, or what it asks, is trained on.
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

    @classmethod
    def of(
        cls,
        config: BoostedConfig | AnyRankConfig,
        name: str,
        workspace: Workspace,
        artifact: Artifact,
        asked: Mapping[str, Artifact],
    ) -> "Given":
        """Open the log of an artifact, and load the models that are asked.

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
        rows[TRAIN] = left_to(rows[TRAIN], log, split, config.last, asked)
        everybody = {**asked, **scorers_of(workspace, artifact, asked)}
        models = {one: load_any(model.folder, items) for one, model in everybody.items()}
        return cls(
            name,
            artifact.folder,
            log,
            part,
            items,
            People.load(artifact.folder).features.columns,
            Scorers({**readers_among(everybody), name: config}, models, log, items),
            rows,
            max((one for one in (until, latest(asked.values())) if one is not None), default=None),
        )

    def told(self, config: BoostedConfig | AnyRankConfig, which: int, as_of_window: bool) -> ToldOf:
        """A part as candidates, as of their requests or of the beginnings of their windows."""
        log, rows = self.log, self.rows[which]
        known_at = window_start(log, rows, config.window) if config.window is not None and as_of_window else None
        told = Told.of_rows(log, rows, self.items, self.users, self.scorers, known_at)
        scores = [name for one in self.scorers.of(self.name) if one.name in config.scores for name in one.numbers]
        return ToldOf(rows, told.to(self.name, config.aggregates), scores, config.vectors)


def examples(config: BoostedConfig, given: Given, which: int) -> Examples:
    """The events of one part of the split, each as a candidate of its request."""
    log, rows = given.log, given.rows[which]
    columns = {key: log.rows.columns[feedback_column(key)] for key in log.schema.feedback}
    feedback = {key: FlatColumn(column.values[rows], column.observed[rows]) for key, column in columns.items()}
    at_start = None
    if config.window is not None:  # what came of one rival must not tell what came of the next
        at_start = _own(config, given, given.told(config, which, as_of_window=True))
    return Examples(
        _own(config, given, given.told(config, which, as_of_window=False)),
        feedback,
        _rivals(config, which, log, rows) if config.utility else np.arange(len(rows)),
        utility(feedback, config.utility, len(rows)),
        at_start,
    )


def _own(config: BoostedConfig, given: Given, told: ToldOf) -> dict[str, FlatColumn]:
    """What trees read of what they are told: nothing that only the models that they ask read."""
    wanted = {*told.scores, *(aggregate.name for aggregate in config.aggregates)}
    wanted |= {column for name in told.vectors for column in vector_columns(name)}
    others: set[str] = set()
    for scorer in given.scorers.of(given.name):
        own = scorer.model.aggregates if isinstance(scorer.model, ReadsColumns) else []
        others |= {*scorer.numbers, *vector_columns(scorer.name), *(aggregate.name for aggregate in own)}
    return {name: column for name, column in told.features.items() if name in wanted or name not in others}


def _rivals(config: BoostedConfig, which: int, log: EventLog, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number who competes with whom, rising along the rows: requests, or a user's events of one window."""
    number = log.groups[rows] if config.window is None else shown_together(log, rows, config.window)
    sizes, where = np.unique(number, return_counts=True)[1], {TRAIN: "training", VALIDATION: "validation"}[which]
    if sizes.max() < 2:
        raise BadConfig(f"no two events of the {where} part compete; give a (longer) window, or no utility")
    if sizes.max() > _MOST_RIVALS:
        raise BadConfig(f"{sizes.max():,} events compete; allowed: {_MOST_RIVALS:,}; shorten `window`")
    return number
