"""Pretrain: event log -> model. Neural models are trained; counting models are counted."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.evaluation.cases import find_cases
from upnext.evaluation.ranking import Histories, rank_cases, retriever_scores
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.people import People
from upnext.metrics.ranking import ndcg
from upnext.models.build import AnyModel, ModelConfig, save_model
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.models.sasrec import SASRec, SASRecConfig
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

Validate = Callable[[], dict[str, float]]


class PretrainConfig(Config):
    """One model: what it is and, if it is trained by gradients, how."""

    model: ModelConfig
    """What the model is."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained; refused for models that are counted."""
    loss: LossConfig = FullSoftmaxConfig()
    """What its predictions are trained with; refused for models that are counted."""
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
        if not isinstance(self.model, SASRecConfig):
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

        def train_it(objective: NextItemPrediction, data: Chunks, validate: Validate) -> None:
            folder = draft.keep()
            start = Start(label=name, recipe=folder.name, resume=resume, tell=tell)
            result = train(objective, objective, data, validate, config.training, folder, start)
            shutil.copyfile(folder / HISTORY, draft.folder / HISTORY)
            draft.metrics |= asdict(result) | {"parameters": sum(p.numel() for p in objective.model.parameters())}
            draft.metrics["temperature"] = objective.softmax.temperature.value

        people = People.load(parent.folder)
        save_model(_fit(config, parent.manifest["metrics"], log, part, people, name, train_it), draft.folder)
        draft.schema = log.schema.digest()

    recipe = config.model_dump(mode="json", exclude={"training": {"checkpoint_every"}})  # it changes no result
    return workspace.ensure(f"model-{name}", "model", recipe, [parent], write)


def _fit(
    config: PretrainConfig,
    facts: dict[str, Any],
    log: EventLog,
    part: NDArray[np.int8],
    people: People,
    name: str,
    train_it: "TrainIt",
) -> AnyModel:
    rows, events = log.in_view(config.model.view)
    is_trained = part[rows] == TRAIN
    rows, events = rows[is_trained], events.take(is_trained)
    num_items = int(facts["num_dense_items"])
    match config.model:
        case PopularConfig():
            return Popular.fit(config.model, events.item, num_items)
        case RecentlyPopularConfig():
            if not log.schema.has_times:
                raise BadConfig(f"pretrain.{name}: recently_popular needs times; this log has only an order: remove it")
            return RecentlyPopular(config.model, events.item, events.time_ms, np.zeros(num_items, np.int64))
        case SASRecConfig():
            trained = torch.from_numpy(np.bincount(events.item, minlength=num_items) > 0)
            # The last event of a chunk is only a target: the longest history that is served is trained as well.
            longest = config.model.max_length + 1
            chunks = Chunks.cut(events.without_columns(), np.searchsorted(rows, log.offsets), longest)
            device = choose_device(config.training.device)
            num_events = int(log.views[config.model.view].sum())
            tokens = largest_batch(chunks.lengths, config.training.tokens_per_batch)
            sampled = config.loss if isinstance(config.loss, SampledSoftmaxConfig) else None
            counts = count_items(events.item, num_items, sampled.sketch if sampled else None)
            softmax = make_softmax(config.loss, torch.from_numpy(counts)[trained].to(device))
            make = partial(SASRec, config.model, trained, sparse_gradients=sampled is not None)
            with torch.device("meta"):  # only its shapes, so that nothing is allocated yet
                shapes = NextItemPrediction(make(), softmax)
            check_memory(need_of(shapes, shapes.num_activations(tokens), 2 * num_events), device, name)
            torch.manual_seed(config.training.seed)
            model = make().to(device)
            validate = _validation(model, config, log, part, people, facts["split"]["kind"] == "leave_last_out")
            train_it(NextItemPrediction(model, softmax), chunks, validate)
            return model


def _validation(
    model: SASRec, config: PretrainConfig, log: EventLog, part: NDArray[np.int8], people: People, removes_history: bool
) -> Validate:
    """What early stopping looks at: the metric that `evaluate` reports, on cases of the validation part."""
    cases = find_cases(log, part, VALIDATION, model.view)
    chosen = np.random.default_rng(0).permutation(len(cases))[: config.validation_cases]
    cases = cases.take(np.sort(chosen))
    if not len(cases):
        what = "check prepare.split.view" if removes_history else "make prepare.split.validation longer"
        raise BadConfig(f"the validation part holds no event of the view {model.view!r}; {what}")
    num_items = len(model.trained)
    rank = partial(
        rank_cases,
        retriever_scores(model, log, cases, num_items, model.trained.device, people.features.columns),
        cases,
        Histories(log, model.view),
        num_items,
        k=10,
        remove_history=(removes_history,),
        max_length=model.max_length,
    )
    return lambda: {"ndcg@10": float(ndcg(rank()[0].ranks, cases.case, len(cases), 10).mean())}


TrainIt = Callable[[NextItemPrediction, Chunks, Validate], None]
