"""Rank: event log -> ranking model, which says what would come of candidates, or orders them."""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from pydantic import Field

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadConfig
from upnext.evaluation.report import IMPORTANCE
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.fitting import ranking
from upnext.fitting.held_back import TRAINED_UNTIL, latest
from upnext.fitting.ranking import begin_with_weights
from upnext.fitting.ranking_config import AnyRankConfig, MainRankConfig, YouTubeRankConfig
from upnext.fitting.trained import train_into
from upnext.models.boosted import Boosted
from upnext.models.boosted_config import BoostedConfig
from upnext.models.build import save_model
from upnext.objectives.ranking import NeuralRanker
from upnext.pipeline.examples import Given, examples
from upnext.preparation.candidate_features import check_aggregates
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
    log_artifact = workspace.current("log", "log")
    asked, finders = (
        {one: workspace.current(f"model-{one}", "model", log_artifact) for one in names}
        for names in (config.scorers, config.finders)
    )
    parents, start = [log_artifact, *{**asked, **finders}.values()], Start(label=name, resume=resume, tell=tell)
    begun = None
    if not isinstance(config, BoostedConfig) and config.start is not None:
        begun = workspace.current(f"model-{config.start}", "model", log_artifact)
        parents.append(begun)

    def write(draft: Draft) -> None:
        log = EventLog.open(log_artifact.folder / "log")
        check(config, name, log)
        draft.schema = log.schema.digest()
        try:
            given = Given.of(config, name, workspace, log_artifact, asked, finders)
            # What it begins with may have been trained on more.
            known = [given.until_ms, None if begun is None else latest([begun])]
            draft.metrics[TRAINED_UNTIL] = max((one for one in known if one is not None), default=None)
            if isinstance(config, BoostedConfig):
                _grow(config, given, draft, tell)
            else:
                save_model(_fit(config, given, draft, begun, start), draft.folder)
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


def _fit(config: AnyRankConfig, given: Given, draft: Draft, begun: Artifact | None, start: Start) -> NeuralRanker:
    # 1. candidates that were shown together, and what is told of them
    told = partial(given.told, config, as_of_window=True)
    planned = ranking.plan(config, given.folder, given.log, given.part, given.users, told)
    device = choose_device(config.training.device)
    draft.metrics |= planned.counts
    start.tell(planned.said)
    # 2. the model, if there is room for it
    check_memory(planned.need, device, start.label)
    torch.manual_seed(config.training.seed)
    objective = planned.make(device)
    if begun is not None and config.start is not None:
        begin_with_weights(objective.model, begun.folder, config.start)
    # 3. training; the loss of the validation part says when to stop
    train_into(draft, objective, planned.data, planned.validation(objective), config.training, start)
    # 4. what each input is worth to it, on the same sets
    (draft.folder / IMPORTANCE).write_text(json.dumps(planned.importance(objective), indent=1))
    return objective.model


def _grow(config: BoostedConfig, given: Given, draft: Draft, tell: Callable[[str], None]) -> None:
    start = time.perf_counter()
    train, validation = (examples(config, given, which) for which in (TRAIN, VALIDATION))
    model = Boosted.fit(config, given.log.schema.feedback, train, validation, tell)
    model.save(draft.folder)
    (draft.folder / IMPORTANCE).write_text(json.dumps(model.importance(), indent=1))
    draft.metrics["seconds"] = time.perf_counter() - start
