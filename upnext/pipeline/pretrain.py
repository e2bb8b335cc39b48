"""Pretrain: event log -> model. Neural models are trained; counting models are counted."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadConfig
from upnext.evaluation.validation import validation_metric
from upnext.events.log import EventLog
from upnext.features.people import People
from upnext.fitting.finetuning import Given, plan_retrieval
from upnext.fitting.held_back import TRAINED_UNTIL, hold_back
from upnext.fitting.impressions import ChunkLimits
from upnext.fitting.pretraining import PretrainConfig, plan, training_events
from upnext.fitting.trained import train_into
from upnext.models.argus import ARGUSConfig
from upnext.models.build import AnyModel, save_model
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.models.sasrec import SASRecConfig
from upnext.models.two_towers import TwoTowers, TwoTowersConfig
from upnext.objectives.recent import RecentSoftmaxConfig
from upnext.training.devices import choose_device
from upnext.training.loop import Start
from upnext.training.memory import check_memory

__all__ = ["PretrainConfig", "run"]


def run(
    config: PretrainConfig,
    workspace: Workspace,
    name: str,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Train the model that the configuration calls `name`; up to date ones are found, not trained again.

    Args:     resume: go on with a training of this recipe that was interrupted; tell: hears what is worth saying.
    """
    parent = workspace.current("log", "log")

    def write(draft: Draft) -> None:
        log = EventLog.open(parent.folder / "log")
        part = _part(config, parent, log, name, draft)
        start = Start(label=name, resume=resume, tell=tell)
        save_model(_fit(config, parent, log, part, draft, start), draft.folder)
        draft.schema = log.schema.digest()

    recipe = config.model_dump(mode="json", exclude={"training": {"checkpoint_every"}})  # it changes no result
    return workspace.ensure(f"model-{name}", "model", recipe, [parent], write)


def _part(config: PretrainConfig, parent: Artifact, log: EventLog, name: str, draft: Draft) -> NDArray[np.int8]:
    """The parts of the split, without what is held back; until when it is trained is written down."""
    try:
        split = parent.manifest["metrics"]["split"]
        part, until = hold_back(log, np.load(parent.folder / "split.npy"), split, config.hold_back)
    except BadConfig as error:
        raise BadConfig(f"pretrain.{name}: {error}") from None
    if not isinstance(config.model, RecentlyPopularConfig):  # it counts what lies before a request, and learns nothing
        draft.metrics[TRAINED_UNTIL] = until
    return part


def _fit(
    config: PretrainConfig, parent: Artifact, log: EventLog, part: NDArray[np.int8], draft: Draft, start: Start
) -> AnyModel:
    facts = parent.manifest["metrics"]
    num_items, by_user = int(facts["num_dense_items"]), facts["split"]["kind"] != "global_time"
    match config.model:
        case PopularConfig():
            return Popular.fit(config.model, training_events(config, log, part)[1].item, num_items)
        case RecentlyPopularConfig():
            if not log.schema.has_times:
                raise BadConfig(
                    f"pretrain.{start.label}: recently_popular needs times; this log has only an order: remove it"
                )
            _, events = training_events(config, log, part)
            return RecentlyPopular(config.model, events.item, events.time_ms, np.zeros(num_items, np.int64))
        case SASRecConfig() | ARGUSConfig():
            planned, device = plan(config, parent, log, part), choose_device(config.training.device)
            check_memory(planned.need, device, start.label)
            torch.manual_seed(config.training.seed)
            objective = planned.make(device)
            settings = config.validation_cases, People.load(parent.folder).features.columns, by_user
            validate = validation_metric(objective.model, log, part, *settings)
            train_into(draft, objective, planned.chunks, validate, config.training, start)
            return objective.model
        case TwoTowersConfig():
            given = Given(parent.folder, log, part, People.load(parent.folder).features.columns, by_user)
            return _fit_towers(config, config.model, given, draft, start)


def _fit_towers(config: PretrainConfig, shape: TwoTowersConfig, given: Given, draft: Draft, start: Start) -> TwoTowers:
    limits = ChunkLimits(shape.encoder.max_length, shortest=1, most_impressions=512)
    wanted, training, cases = config.positives, config.training, config.validation_cases
    assert not isinstance(config.loss, RecentSoftmaxConfig)  # refused with the configuration
    planned = plan_retrieval(shape, limits, wanted, config.loss, training, cases, given)
    device = choose_device(training.device)
    draft.metrics |= planned.counts
    start.tell(planned.said)
    check_memory(planned.need, device, start.label)
    torch.manual_seed(training.seed)
    objective = planned.make(device)
    train_into(draft, objective, planned.data, planned.validation(objective.model), training, start)
    return objective.model
