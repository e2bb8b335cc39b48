"""Rank: event log -> ranking model, which says what would come of candidates, or orders them."""

import json
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.base.schema import feedback_column
from upnext.events.impressions import shown_together, utility, window_start
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting import ranking
from upnext.fitting.ranking import AnyRankConfig, MainRankConfig, ToldOf, YouTubeRankConfig, begin_with_weights
from upnext.fitting.trained import train_into
from upnext.models.boosted import Boosted, BoostedConfig, Examples
from upnext.models.build import save_model
from upnext.objectives.ranking import NeuralRanker
from upnext.preparation.candidate_features import candidate_features, check_aggregates
from upnext.training.devices import choose_device
from upnext.training.loop import Start
from upnext.training.memory import check_memory

__all__ = ["RankConfig", "check", "run"]

RankConfig = Annotated[BoostedConfig | MainRankConfig | YouTubeRankConfig, Field(discriminator="kind")]


def run(
    config: BoostedConfig | AnyRankConfig,
    workspace: Workspace,
    name: str,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Train the ranker that the configuration calls `name`; an up to date one is found, not trained again.

    Args:     resume: go on with a training of this recipe that was interrupted; tell: hears what is worth saying.
    """
    parent = workspace.current("log", "log")
    parents, start = [parent], Start(label=name, resume=resume, tell=tell)
    if not isinstance(config, BoostedConfig) and config.start is not None:
        parents.append(workspace.current(f"model-{config.start}", "model", parent))

    def write(draft: Draft) -> None:
        log, part = EventLog.open(parent.folder / "log"), np.load(parent.folder / "split.npy")
        check(config, name, log)
        draft.schema = log.schema.digest()
        try:
            if isinstance(config, BoostedConfig):
                _grow(config, parent, log, part, draft, tell)
            else:
                save_model(_fit(config, parents, log, part, draft, start), draft.folder)
        except BadConfig as error:
            raise BadConfig(f"rank.{name}: {error}") from None

    # How often it is saved changes no result.
    settings = config.model_dump(mode="json", by_alias=True, exclude={"training": {"checkpoint_every"}})
    return workspace.ensure(f"model-{name}", "model", {"model": settings}, parents, write)


def check(config: BoostedConfig | AnyRankConfig, name: str, log: EventLog) -> None:
    """Check that the log has what a ranker is to read and to predict.

    Raises:   BadConfig, BadData: it does not.
    """
    log.in_view(config.view)  # raises for an unknown view
    try:
        check_aggregates(config.aggregates, log)
        if not isinstance(config, BoostedConfig):
            ranking.check(config, log)
            return
        config.predicted(log.schema.feedback)
        if config.window is not None and not log.schema.has_times:
            raise BadConfig("`window` needs times; this log has only an order: remove it")
    except BadConfig as error:
        raise BadConfig(f"rank.{name}: {error}") from None


# --- neural rankers --------------------------------------------------------------------------------------------------


def _fit(
    config: AnyRankConfig, parents: list[Artifact], log: EventLog, part: NDArray[np.int8], draft: Draft, start: Start
) -> NeuralRanker:
    # 1. candidates that were shown together, and what is told of them
    parent = parents[0]
    items, users = Catalogue.load(parent.folder).items.features, People.load(parent.folder).features.columns

    def told(which: int) -> ToldOf:
        rows = np.flatnonzero(log.mask(config.view) & (part == which))
        known_at = None if config.window is None else window_start(log, rows, config.window)
        if not config.aggregates:
            return ToldOf(rows, {})
        return ToldOf(rows, candidate_features(config.aggregates, log, rows, items, users, known_at))

    planned, device = (
        ranking.plan(config, parent.folder, log, part, users, told),
        choose_device(config.training.device),
    )
    draft.metrics |= planned.counts
    start.tell(planned.said)
    # 2. the model, if there is room for it
    check_memory(planned.need, device, start.label)
    torch.manual_seed(config.training.seed)
    objective = planned.make(device)
    if config.start is not None:
        begin_with_weights(objective.model, parents[1].folder, config.start)
    # 3. training; the loss of the validation part says when to stop
    train_into(draft, objective, planned.data, planned.validation(objective), config.training, start)
    return objective.model


# --- boosted rankers -------------------------------------------------------------------------------------------------


def _grow(
    config: BoostedConfig,
    parent: Artifact,
    log: EventLog,
    part: NDArray[np.int8],
    draft: Draft,
    tell: Callable[[str], None],
) -> None:
    start = time.perf_counter()
    train, validation = (_examples(config, parent, log, part, which) for which in (TRAIN, VALIDATION))
    model = Boosted.fit(config, log.schema.feedback, train, validation, tell)
    model.save(draft.folder)
    (draft.folder / "importance.json").write_text(json.dumps(model.importance(), indent=1))
    draft.metrics["seconds"] = time.perf_counter() - start


def _examples(config: BoostedConfig, parent: Artifact, log: EventLog, part: NDArray[np.int8], which: int) -> Examples:
    """The events of one part of the split, each as a candidate of its request."""
    rows, _ = log.in_view(config.view)
    rows = rows[part[rows] == which]
    where = {TRAIN: "training", VALIDATION: "validation"}[which]
    if not len(rows):
        raise BadConfig(f"the {where} part holds no event of the view {config.view!r}; choose another")
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
        _rivals(config, where, log, rows) if config.utility else np.arange(len(rows)),
        utility(feedback, config.utility, len(rows)),
        at_start,
    )


def _rivals(config: BoostedConfig, where: str, log: EventLog, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number who competes with whom, rising along the rows: requests, or a user's events of one window."""
    number = log.groups[rows] if config.window is None else shown_together(log, rows, config.window)
    sizes = np.unique(number, return_counts=True)[1]
    if sizes.max() < 2:
        raise BadConfig(f"no two events of the {where} part compete; give a (longer) window, or no utility")
    if sizes.max() > _MOST_RIVALS:
        raise BadConfig(f"{sizes.max():,} events compete; allowed: {_MOST_RIVALS:,}; shorten `window`")
    return number


_MOST_RIVALS = 10_000
"""LightGBM orders no larger group."""
