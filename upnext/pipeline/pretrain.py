"""Pretrain: event log -> model. Neural models are trained; counting models are counted."""

import shutil
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadConfig
from upnext.evaluation.validation import Validate, validation_metric
from upnext.events.log import EventLog
from upnext.features.people import People
from upnext.fitting.pretraining import AnyObjective, PretrainConfig, plan, training_events
from upnext.models.argus import ARGUSConfig
from upnext.models.build import AnyModel, save_model
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.models.sasrec import SASRecConfig
from upnext.training.chunks import Chunks
from upnext.training.devices import choose_device
from upnext.training.loop import HISTORY, Start, train
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
        log, part = EventLog.open(parent.folder / "log"), np.load(parent.folder / "split.npy")

        def train_it(objective: AnyObjective, data: Chunks, validate: Validate) -> None:
            folder = draft.keep()
            start = Start(label=name, recipe=folder.name, resume=resume, tell=tell)
            result = train(objective, objective, data, validate, config.training, folder, start)
            shutil.copyfile(folder / HISTORY, draft.folder / HISTORY)
            draft.metrics |= asdict(result) | {"parameters": sum(p.numel() for p in objective.model.parameters())}
            draft.metrics["temperature"] = objective.softmax.temperature.value

        save_model(_fit(config, parent, log, part, name, train_it), draft.folder)
        draft.schema = log.schema.digest()

    recipe = config.model_dump(mode="json", exclude={"training": {"checkpoint_every"}})  # it changes no result
    return workspace.ensure(f"model-{name}", "model", recipe, [parent], write)


def _fit(
    config: PretrainConfig, parent: Artifact, log: EventLog, part: NDArray[np.int8], name: str, train_it: "TrainIt"
) -> AnyModel:
    num_items = int(parent.manifest["metrics"]["num_dense_items"])
    match config.model:
        case PopularConfig():
            return Popular.fit(config.model, training_events(config, log, part)[1].item, num_items)
        case RecentlyPopularConfig():
            if not log.schema.has_times:
                raise BadConfig(f"pretrain.{name}: recently_popular needs times; this log has only an order: remove it")
            _, events = training_events(config, log, part)
            return RecentlyPopular(config.model, events.item, events.time_ms, np.zeros(num_items, np.int64))
        case SASRecConfig() | ARGUSConfig():
            planned, device = plan(config, parent, log, part), choose_device(config.training.device)
            check_memory(planned.need, device, name)
            torch.manual_seed(config.training.seed)
            objective = planned.make(device)
            people, by_user = People.load(parent.folder), parent.manifest["metrics"]["split"]["kind"] != "global_time"
            settings = config.validation_cases, people.features.columns, by_user
            train_it(objective, planned.chunks, validation_metric(objective.model, log, part, *settings))
            return objective.model


TrainIt = Callable[[AnyObjective, Chunks, Validate], None]
