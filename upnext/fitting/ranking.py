"""What training a neural ranker takes, before it begins: its configuration, sets of candidates, what makes it, need."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.batches import Column, FlatColumn
from upnext.base.configuration import Config, Duration
from upnext.base.errors import BadConfig
from upnext.base.schema import FeedbackKind, feedback_column
from upnext.base.views import ALL
from upnext.evaluation.feedback import mean_of
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.aggregates import Aggregate
from upnext.features.catalogue import Catalogue
from upnext.features.quantiles import quantiles_of
from upnext.fitting.shown import Reads, ShownSets
from upnext.models.build import read_inputs
from upnext.models.main_model import MainModel, MainModelConfig, RankerInputs, known_values
from upnext.objectives.feedback import FeedbackLoss, FeedbackLosses
from upnext.objectives.ranking import PointwiseRanking, RankingBatch
from upnext.training.batches import length_batches
from upnext.training.loop import TrainingConfig
from upnext.training.memory import Need, need_of

__all__ = ["MainRankConfig", "NeuralRankConfig", "RankPlan", "ToldOf", "check", "plan"]


class NeuralRankConfig(Config):
    """What every neural ranker learns from."""

    view: str = ALL
    """The events that it is trained on, each as a candidate."""
    feedback: list[str] | None = None
    """The feedback that it predicts. Unset: all that the log has."""
    losses: dict[str, FeedbackLoss] = {}
    """Per feedback that it predicts; those that are not named have the defaults."""
    window: Annotated[Duration, Field(gt=0)] | None = None
    """What counts as shown together: a user's events within so much time, cut on the clock, all asked about with what
    was known when it began. Unset: those of a request, with what was known before it."""
    most_candidates: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Candidates of a set, at most: longer ones are cut."""
    validation_cases: Annotated[int, Field(ge=1)] = 5000
    """On how many sets of the validation part the early stopping computes the loss, drawn once."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained. Candidates count as tokens, as events do."""


class MainRankConfig(NeuralRankConfig):
    """A main model: aggregators of behaviour sequences, networks of user, time and place, and a joining network."""

    kind: Literal["main"] = "main"
    model: MainModelConfig
    """What it reads and how large it is."""

    @property
    def aggregates(self) -> list[Aggregate]:
        """The aggregates that the model reads."""
        return self.model.aggregates

    @model_validator(mode="after")
    def _a_window_has_no_hour(self) -> "MainRankConfig":
        if self.window is not None and "hour" in (self.model.time or []):
            raise ValueError(
                "model.time reads the hour, and with a window everybody is asked as of its beginning, at one hour;"
                " leave 'hour' out"
            )
        return self


@dataclass(frozen=True)
class ToldOf:
    """A part of the split as candidates: rows of the log (I,), and what is told of them besides, by name (I,)."""

    rows: NDArray[np.int64]
    features: Mapping[str, FlatColumn]


@dataclass(frozen=True)
class RankPlan:
    """A training before it begins: what it reads, what makes its model, its need, how it is validated."""

    data: ShownSets
    make: Callable[[torch.device | None], PointwiseRanking]
    need: Need
    validation: Callable[[PointwiseRanking], Callable[[], dict[str, float]]]
    counts: dict[str, int]

    @property
    def said(self) -> str:
        """The counts in words."""
        return "{num_candidates:,} candidates in {num_sets:,} sets, with {num_events:,} events before them".format(
            **self.counts
        )


def check(config: MainRankConfig, log: EventLog) -> None:
    """Check that a log has what a neural ranker is to read and to predict.

    Raises:   BadConfig, BadData: it does not.
    """
    _predicted(config, log)
    for name in (config.model.view, *(one.view for one in config.model.aggregators.values())):
        log.mask(name)
    for name in config.model.contexts or []:
        if name not in log.schema.contexts:
            raise BadConfig(f"model.contexts names {name!r}; the log has {sorted(log.schema.contexts)}")
    for name in config.model.user_features or []:
        if name not in log.schema.user_features:
            raise BadConfig(f"model.user_features names {name!r}; the log has {sorted(log.schema.user_features)}")
    if not log.schema.has_times:
        if config.window is not None:
            raise BadConfig("`window` needs times; this log has only an order: remove it")
        if config.model.time:
            raise BadConfig(f"model.time reads {config.model.time[0]!r}, and this log has only an order; remove it")


def plan(
    config: MainRankConfig,
    folder: Path,
    log: EventLog,
    part: NDArray[np.int8],
    users: Mapping[str, Column],
    told: Callable[[int], ToldOf],
) -> RankPlan:
    """Plan the training of a neural ranker.

    Args:     folder: of the prepared log; users: what is known of them, by dense id; told: gives a part as candidates.
    Raises:   BadConfig: the log does not have what is asked for, or a view selects nothing.
    """
    check(config, log)
    shape, predicted = _shape(config, log), _predicted(config, log)
    for name, aggregator in shape.aggregators.items():
        if not (log.mask(shape.view) & log.mask(aggregator.view) & (part == TRAIN)).any():
            raise BadConfig(
                f"the aggregator {name!r} reads the view {aggregator.view!r}, which selects nothing of the training"
                " part: choose another view, or mend its condition in [prepare.views]"
            )
    items = Catalogue.load(folder).items
    names = list(log.schema.user_features) if shape.user_features is None else shape.user_features
    read = {name: users[name] for name in names}
    inputs = RankerInputs(
        events=read_inputs(shape.contexts, folder, log.schema, items),
        user_features={name: log.schema.user_features[name] for name in names},
        user_vector_widths={
            name: read[name].values.shape[1] for name in names if log.schema.user_features[name] == "vector"
        },
        numbers=[aggregate.name for aggregate in shape.aggregates],
        predicted=predicted,
    )
    views = sorted({shape.view, *(one.view for one in shape.aggregators.values())})
    reads = Reads(shape.view, shape.max_length, views, list(inputs.events.contexts), read, list(predicted))
    train, held = (_sets(config, inputs, log, told(which), reads, which) for which in (TRAIN, VALIDATION))
    means = {name: mean_of(log.rows.columns[feedback_column(name)], train.rows) for name in predicted}
    losses = FeedbackLosses(predicted, config.losses, means)
    # quantiles of the numbers, over the candidates that are trained on
    bounds = torch.from_numpy(quantiles_of({name: train.features[name] for name in inputs.numbers}))
    known = known_values(inputs, items, users)

    def make(device: torch.device | None) -> PointwiseRanking:
        model = MainModel(shape, inputs, items if device is None else items.to(device), bounds, known)
        model.begin_with(means)
        return PointwiseRanking(model if device is None else model.to(device), losses)

    return RankPlan(
        train,
        make,
        _need(make, train, config.training.tokens_per_batch, log),
        lambda objective: _validation(objective, held, config),
        {
            "num_sets": len(train),
            "num_candidates": len(train.rows),
            "num_events": int((train.end - train.begin).sum()),
        },
    )


def _shape(config: MainRankConfig, log: EventLog) -> MainModelConfig:
    """The model, with what it reads of the clock decided."""
    if config.model.time is not None:
        return config.model
    readings = (
        [] if not log.schema.has_times else ["hour", "weekday", "gap"] if config.window is None else ["weekday", "gap"]
    )
    return config.model.model_copy(update={"time": readings})


def _predicted(config: MainRankConfig, log: EventLog) -> dict[str, FeedbackKind]:
    kinds = log.schema.feedback
    if not kinds:
        raise BadConfig("the log has no feedback: a ranker has nothing to learn; declare some in prepare.source")
    for name in config.feedback or []:
        if name not in kinds:
            raise BadConfig(f"feedback names {name!r}; the log has the feedback {sorted(kinds)}")
    predicted = {name: kind for name, kind in kinds.items() if config.feedback is None or name in config.feedback}
    losses = FeedbackLosses(predicted, config.losses, {})
    if not any(name in losses for name in predicted):
        raise BadConfig("there is nothing to predict: name feedback, and give one of them a weight in `losses`")
    return predicted


def _sets(
    config: MainRankConfig, inputs: RankerInputs, log: EventLog, told: ToldOf, reads: Reads, which: int
) -> ShownSets:
    where = {TRAIN: "training", VALIDATION: "validation"}[which]
    if not len(told.rows):
        raise BadConfig(f"the {where} part holds no event of the view {config.view!r}; choose another")
    for name in reads.feedback:
        if not log.rows.columns[feedback_column(name)].observed[told.rows].any():
            raise BadConfig(f"{name!r} was nowhere observed in the {where} part; leave it out of `feedback`")
    features = {name: told.features[name] for name in inputs.numbers}
    return ShownSets.of(log, told.rows, features, reads, config.window, config.most_candidates)


def _need(
    make: Callable[[torch.device | None], PointwiseRanking], data: ShownSets, tokens_per_batch: int, log: EventLog
) -> Need:
    with torch.device("meta"):
        shapes = make(None)
    most = max(tokens_per_batch, int(data.lengths.max(initial=0)))
    return need_of(shapes, shapes.num_activations(most, most), 2 * len(log))


def _validation(objective: PointwiseRanking, held: ShownSets, config: MainRankConfig) -> Callable[[], dict[str, float]]:
    """Minus the loss on sets of the validation part, as the model then is: larger is better."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(held))[: config.validation_cases])
    device = next(objective.parameters()).device

    def batches() -> Iterator[RankingBatch]:
        for rows in length_batches(held.lengths[chosen], config.training.tokens_per_batch):
            yield held.batch(chosen[rows]).to(device)

    def validate() -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        for batch in batches():
            for name, (total, weight) in objective(batch, 0).items():
                found = sums.setdefault(name, [0.0, 0.0])
                found[0], found[1] = found[0] + total.item(), found[1] + weight.item()
        losses = {name: total / (weight or 1.0) for name, (total, weight) in sums.items()}
        return {"negative_loss": -sum(losses.values())}

    return validate
