"""Rank: event log -> ranking model, which orders candidates by what would come of them."""

import json
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.schema import feedback_column
from upnext.events.impressions import shown_together, utility, window_start
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.models.boosted import Boosted, BoostedConfig, Examples
from upnext.preparation.candidate_features import candidate_features, check_aggregates

__all__ = ["RankConfig", "check", "run"]

RankConfig = BoostedConfig


def run(
    config: RankConfig, workspace: Workspace, name: str, *, tell: Callable[[str], None] = lambda _: None
) -> Artifact:
    """Train the ranker that the configuration calls `name`; an up to date one is found, not trained again.

    Args:     tell: hears what is worth saying.
    """
    parent = workspace.current("log", "log")

    def write(draft: Draft) -> None:
        start = time.perf_counter()
        log, part = EventLog.open(parent.folder / "log"), np.load(parent.folder / "split.npy")
        check(config, name, log)
        train, validation = (_examples(config, name, parent, log, part, which) for which in (TRAIN, VALIDATION))
        try:
            model = Boosted.fit(config, log.schema.feedback, train, validation, tell)
        except BadConfig as error:
            raise BadConfig(f"rank.{name}: {error}") from None
        model.save(draft.folder)
        (draft.folder / "importance.json").write_text(json.dumps(model.importance(), indent=1))
        draft.metrics["seconds"] = time.perf_counter() - start
        draft.schema = log.schema.digest()

    return workspace.ensure(f"model-{name}", "model", {"model": config.model_dump(mode="json")}, [parent], write)


def check(config: RankConfig, name: str, log: EventLog) -> None:
    """Check that the log has what a ranker is to read and to predict.

    Raises:   BadConfig, BadData: it does not.
    """
    log.in_view(config.view)  # raises for an unknown view
    try:
        config.predicted(log.schema.feedback)
        check_aggregates(config.aggregates, log)
        if config.window is not None and not log.schema.has_times:
            raise BadConfig("`window` needs times; this log has only an order: remove it")
    except BadConfig as error:
        raise BadConfig(f"rank.{name}: {error}") from None


def _examples(
    config: RankConfig, name: str, parent: Artifact, log: EventLog, part: NDArray[np.int8], which: int
) -> Examples:
    """The events of one part of the split, each as a candidate of its request."""
    rows, _ = log.in_view(config.view)
    rows = rows[part[rows] == which]
    where = {TRAIN: "training", VALIDATION: "validation"}[which]
    if not len(rows):
        raise BadConfig(f"rank.{name}: the {where} part holds no event of the view {config.view!r}; choose another")
    items, users = Catalogue.load(parent.folder).items.features, People.load(parent.folder).features.columns
    columns = {key: log.rows.columns[feedback_column(key)] for key in log.schema.feedback}
    feedback = {key: FlatColumn(column.values[rows], column.observed[rows]) for key, column in columns.items()}
    at_start = None
    if config.window is not None:  # what came of one rival must not tell what came of the next
        known_at = window_start(log, rows, config.window)
        at_start = candidate_features(config.aggregates, log, rows, items, users, known_at)
    return Examples(
        candidate_features(config.aggregates, log, rows, items, users),
        feedback,
        _rivals(config, f"rank.{name}", where, log, rows) if config.utility else np.arange(len(rows)),
        utility(feedback, config.utility, len(rows)),
        at_start,
    )


def _rivals(config: RankConfig, name: str, where: str, log: EventLog, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number who competes with whom, rising along the rows: requests, or a user's events of one window."""
    number = log.groups[rows] if config.window is None else shown_together(log, rows, config.window)
    sizes = np.unique(number, return_counts=True)[1]
    if sizes.max() < 2:
        raise BadConfig(f"{name}: no two events of the {where} part compete; give a (longer) window, or no utility")
    if sizes.max() > _MOST_RIVALS:
        raise BadConfig(f"{name}: {sizes.max():,} events compete; allowed: {_MOST_RIVALS:,}; shorten `window`")
    return number


_MOST_RIVALS = 10_000
"""LightGBM orders no larger group."""
