"""Pretrain: event log -> model. Neural models are trained; counting models are counted."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import Events
from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.base.schema import feedback_column
from upnext.base.views import ALL
from upnext.evaluation.feedback import mean_of
from upnext.evaluation.validation import Validate, validation_metric
from upnext.events.log import EventLog
from upnext.events.split import TRAIN
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.build import AnyModel, ModelConfig, save_model
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.nn.encoders import Inputs
from upnext.objectives.argus import ARGUSObjective, TaskConfig
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.softmax import (
    FullSoftmaxConfig,
    LossConfig,
    SampledSoftmaxConfig,
    make_softmax,
)
from upnext.sampling.frequency import count_items
from upnext.training.chunks import Chunks
from upnext.training.devices import choose_device
from upnext.training.loop import HISTORY, Start, TrainingConfig, train
from upnext.training.memory import check_memory, largest_batch, need_of

__all__ = ["PretrainConfig", "run"]


class PretrainConfig(Config):
    """One model: what it is and, if it is trained by gradients, how."""

    model: ModelConfig
    """What the model is."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained; refused for models that are counted."""
    loss: LossConfig = FullSoftmaxConfig()
    """What its predictions are trained with; refused for models that are counted."""
    tasks: TaskConfig = TaskConfig()
    """What an ARGUS learns; refused for other models."""
    validation_cases: Annotated[int, Field(ge=1)] = 2000
    """How many validation cases the early stopping looks at, drawn once."""

    @model_validator(mode="after")
    def _a_batch_has_its_negatives(self) -> "PretrainConfig":
        wanted = self.loss.num_in_batch if isinstance(self.loss, SampledSoftmaxConfig) else None
        if wanted is not None and wanted > (limit := self.training.tokens_per_batch):
            raise ValueError(f"loss.num_in_batch {wanted} is above training.tokens_per_batch {limit}; lower it")
        return self

    @model_validator(mode="after")
    def _counting_models_are_not_trained(self) -> "PretrainConfig":
        if "tasks" in self.model_fields_set and not isinstance(self.model, ARGUSConfig):
            raise ValueError(f"'tasks' has no effect: a {self.model.kind} model has one; remove it")
        if not isinstance(self.model, SASRecConfig | ARGUSConfig):
            for name in self.model_fields_set & {"training", "loss", "validation_cases"}:
                raise ValueError(
                    f"{name!r} has no effect: a {self.model.kind} model is counted, not trained; remove it"
                )
        return self


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
    rows, events = log.in_view(config.model.view)
    is_trained = part[rows] == TRAIN
    rows, events = rows[is_trained], events.take(is_trained)
    num_items = int(parent.manifest["metrics"]["num_dense_items"])
    match config.model:
        case PopularConfig():
            return Popular.fit(config.model, events.item, num_items)
        case RecentlyPopularConfig():
            if not log.schema.has_times:
                raise BadConfig(f"pretrain.{name}: recently_popular needs times; this log has only an order: remove it")
            return RecentlyPopular(config.model, events.item, events.time_ms, np.zeros(num_items, np.int64))
        case SASRecConfig() | ARGUSConfig():
            reads_columns = isinstance(config.model, ARGUSConfig)
            # The last event of a chunk is only a target: the longest history that is served is trained as well.
            longest = config.model.max_length + 1
            used = events if reads_columns else events.without_columns()
            chunks = Chunks.cut(used, np.searchsorted(rows, log.offsets), longest)
            device = choose_device(config.training.device)
            num_events = int(log.views[config.model.view].sum())
            tokens = largest_batch(chunks.lengths, config.training.tokens_per_batch)
            make = _maker(config, parent.folder, log, events, rows, num_items)
            with torch.device("meta"):  # only its shapes, so that nothing is allocated yet
                shapes = make(None)
            check_memory(need_of(shapes, shapes.num_activations(tokens), 2 * num_events), device, name)
            torch.manual_seed(config.training.seed)
            objective = make(device)
            people, by_user = People.load(parent.folder), parent.manifest["metrics"]["split"]["kind"] != "global_time"
            settings = config.validation_cases, people.features.columns, by_user
            train_it(objective, chunks, validation_metric(objective.model, log, part, *settings))
            return objective.model


def _maker(
    config: PretrainConfig, folder: Path, log: EventLog, events: Events, rows: NDArray[np.int64], num_items: int
) -> Callable[[torch.device | None], "AnyObjective"]:
    """What makes a model with what it is trained with, on a device or, given none, where tensors are made."""
    trained = torch.from_numpy(np.bincount(events.item, minlength=num_items) > 0)
    sampled = config.loss if isinstance(config.loss, SampledSoftmaxConfig) else None
    counts = torch.from_numpy(count_items(events.item, num_items, sampled.sketch if sampled else None))[trained]
    if isinstance(config.model, SASRecConfig):
        settings = config.model

        def make_sasrec(device: torch.device | None) -> NextItemPrediction:
            model = SASRec(settings, trained, sparse_gradients=sampled is not None)
            softmax = make_softmax(config.loss, counts.to(device or "cpu"))
            return NextItemPrediction(model if device is None else model.to(device), softmax)

        return make_sasrec
    assert isinstance(config.model, ARGUSConfig)
    log.in_view(config.tasks.next_item_view or ALL)  # refused before training, not in its first step
    contexts = {
        name: len(Vocabulary.load(folder / f"context.{name}.vocabulary.arrow")) if kind == "categorical" else 0
        for name, kind in log.schema.contexts.items()
    }
    items, reading = Catalogue.load(folder).items, config.model
    inputs = Inputs.of(log.schema, contexts, items)
    means = {name: mean_of(log.rows.columns[feedback_column(name)], rows) for name in log.schema.feedback}

    def make_argus(device: torch.device | None) -> ARGUSObjective:
        model = ARGUS(reading, inputs, items if device is None else items.to(device), trained)
        model.feedback.begin_with([means[name] for name in model.components], list(model.components.values()))
        softmax = make_softmax(config.loss, counts.to(device or "cpu"))
        return ARGUSObjective(model if device is None else model.to(device), softmax, config.tasks, means)

    return make_argus


AnyObjective = NextItemPrediction | ARGUSObjective

TrainIt = Callable[[AnyObjective, Chunks, Validate], None]
