"""What pretraining a model takes, before it begins: its configuration, its rows, what makes it, and its need."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.artifacts import Artifact
from upnext.base.batches import Events
from upnext.base.configuration import Config, Duration
from upnext.base.schema import feedback_column
from upnext.base.views import ALL
from upnext.evaluation.feedback import mean_of
from upnext.events.log import EventLog
from upnext.events.split import TRAIN
from upnext.features.catalogue import Catalogue
from upnext.fitting.recent import check_recent, known_events, recent_softmax
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.build import ModelConfig, read_inputs
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.models.stream import following
from upnext.models.two_towers import TwoTowersConfig
from upnext.objectives.argus import ARGUSObjective, TaskConfig
from upnext.objectives.future_items import PositivesConfig
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.recent import RecentSoftmax, RecentSoftmaxConfig
from upnext.objectives.softmax import (
    CatalogueSoftmax,
    FullSoftmaxConfig,
    LossConfig,
    SampledSoftmaxConfig,
    make_softmax,
)
from upnext.sampling.frequency import count_items
from upnext.training.chunks import Chunks
from upnext.training.loop import TrainingConfig
from upnext.training.memory import Need, largest_batch, need_of

__all__ = ["AnyObjective", "Plan", "PretrainConfig", "plan", "training_events"]

AnyObjective = NextItemPrediction | ARGUSObjective


class PretrainConfig(Config):
    """One model: what it is and, if it is trained by gradients, how."""

    model: ModelConfig
    """What the model is."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained; refused for models that are counted."""
    loss: Annotated[LossConfig | RecentSoftmaxConfig, Field(discriminator="kind")] = FullSoftmaxConfig()
    """What its predictions are trained with; refused for models that are counted. Unset, a model with a prior of what
    was chosen lately (`model.recent`) has the loss that goes with it, `recent`."""
    tasks: TaskConfig = TaskConfig()
    """What an ARGUS learns; refused for other models."""
    positives: PositivesConfig = PositivesConfig()
    """What two towers learn to find; refused for other models."""
    validation_cases: Annotated[int, Field(ge=1)] = 2000
    """How many validation cases the early stopping looks at, drawn once."""
    hold_back: Annotated[Duration, Field(gt=0)] | None = None
    """The last part of the training part, so long, on which it is not trained: it is left to rankers that read its
    scores (`rank.NAME.scores`) or whose candidates it finds. In histories these events stand as ever. Unset: none."""

    @model_validator(mode="before")
    @classmethod
    def _a_prior_has_its_loss(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "loss" in data:
            return data
        model = data.get("model")
        recent = model.get("recent") if isinstance(model, dict) else getattr(model, "recent", None)
        return data if recent is None else data | {"loss": {"kind": "recent"}}

    @model_validator(mode="after")
    def _a_prior_and_its_loss_go_together(self) -> "PretrainConfig":
        has_prior = isinstance(self.model, ARGUSConfig) and self.model.recent is not None
        if has_prior and not isinstance(self.loss, RecentSoftmaxConfig):
            raise ValueError(
                f"a model with a prior of what was chosen lately is not trained with the loss {self.loss.kind!r}, which"
                ' would learn that prior a second time; remove loss, or give it kind = "recent"'
            )
        if not has_prior and isinstance(self.loss, RecentSoftmaxConfig):
            raise ValueError(
                "the loss 'recent' is that of a model with a prior of what was chosen lately: give an argus a table"
                ' recent, with window = "1h" say, or choose another loss'
            )
        return self

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
        if "positives" in self.model_fields_set and not isinstance(self.model, TwoTowersConfig):
            raise ValueError(f"'positives' has no effect on a {self.model.kind} model; remove it")
        if not isinstance(self.model, SASRecConfig | ARGUSConfig | TwoTowersConfig):
            for name in self.model_fields_set & {"training", "loss", "validation_cases"}:
                raise ValueError(
                    f"{name!r} has no effect: a {self.model.kind} model is counted, not trained; remove it"
                )
        return self


@dataclass(frozen=True)
class Plan:
    """A training before it begins: the rows that it will read, what makes its model, the shapes of it, its need."""

    chunks: Chunks
    make: Callable[[torch.device | None], AnyObjective]
    shapes: AnyObjective
    """On the device `meta`: nothing is allocated."""
    need: Need


def plan(config: PretrainConfig, parent: Artifact, log: EventLog, part: NDArray[np.int8]) -> Plan:
    """Plan the training of a model on the training part of a log; counted models have none."""
    assert isinstance(config.model, SASRecConfig | ARGUSConfig)
    rows, events = training_events(config, log, part)
    if isinstance(config.model, ARGUSConfig) and config.model.recent is not None:
        events = log.with_last_items(config.model.view)[1].take(part[log.in_view(config.model.view)[0]] == TRAIN)
    # The last event of a chunk is only a target: the longest history that is served is trained as well.
    longest = config.model.max_length + 1
    used = events if isinstance(config.model, ARGUSConfig) else events.without_columns()
    chunks = Chunks.cut(used, np.searchsorted(rows, log.offsets), longest)
    tokens = largest_batch(chunks.lengths, config.training.tokens_per_batch)
    num_items = int(parent.manifest["metrics"]["num_dense_items"])
    make = _maker(config, parent.folder, log, part, events, rows, num_items)
    with torch.device("meta"):
        shapes = make(None)
    num_events = int(log.views[config.model.view].sum())
    return Plan(chunks, make, shapes, need_of(shapes, shapes.num_activations(tokens), 2 * num_events))


def training_events(config: PretrainConfig, log: EventLog, part: NDArray[np.int8]) -> tuple[NDArray[np.int64], Events]:
    """The rows of the training part that are in the model's view, and their events."""
    rows, events = log.in_view(config.model.view)
    is_trained = part[rows] == TRAIN
    return rows[is_trained], events.take(is_trained)


def _maker(
    config: PretrainConfig,
    folder: Path,
    log: EventLog,
    part: NDArray[np.int8],
    events: Events,
    rows: NDArray[np.int64],
    num_items: int,
) -> Callable[[torch.device | None], AnyObjective]:
    """What makes a model with what it is trained with, on a device or, given none, where tensors are made."""
    trained = torch.from_numpy(np.bincount(events.item, minlength=num_items) > 0)
    sampled = config.loss if isinstance(config.loss, SampledSoftmaxConfig) else None
    counts = torch.from_numpy(count_items(events.item, num_items, sampled.sketch if sampled else None))[trained]
    if isinstance(config.model, SASRecConfig):
        settings = config.model

        def make_sasrec(device: torch.device | None) -> NextItemPrediction:
            model = SASRec(settings, trained, sparse_gradients=sampled is not None)
            assert not isinstance(config.loss, RecentSoftmaxConfig)
            softmax = make_softmax(config.loss, counts.to(device or "cpu"))
            return NextItemPrediction(model if device is None else model.to(device), softmax)

        return make_sasrec
    assert isinstance(config.model, ARGUSConfig)
    log.in_view(config.tasks.next_item_view or ALL)  # refused before training, not in its first step
    items, reading = Catalogue.load(folder).items, config.model
    if reading.recent is not None:
        check_recent(reading.recent, log)
    inputs = read_inputs(reading.contexts, folder, log.schema, items)
    means = {name: mean_of(log.rows.columns[feedback_column(name)], rows) for name in log.schema.feedback}

    def make_argus(device: torch.device | None) -> ARGUSObjective:
        model = ARGUS(reading, inputs, items if device is None else items.to(device), trained)
        model.feedback.begin_with([means[name] for name in model.components], list(model.components.values()))
        model = model if device is None else model.to(device)
        softmax: CatalogueSoftmax | RecentSoftmax
        if isinstance(config.loss, RecentSoftmaxConfig):
            assert reading.recent is not None
            following(model, known_events(log, part, reading.view), num_items)
            softmax = recent_softmax(config.loss, reading.recent, events, trained, device)
        else:
            softmax = make_softmax(config.loss, counts.to(device or "cpu"))
        return ARGUSObjective(model, softmax, config.tasks, means)

    return make_argus
