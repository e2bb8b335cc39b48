"""What training two towers takes, before it begins: its configuration, impressions, what makes it, need, validation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.batches import Column
from upnext.base.configuration import Config, Duration, Weight
from upnext.base.errors import BadConfig, UserError
from upnext.evaluation.utility import compared, pair_validation
from upnext.evaluation.validation import Validate, validation_metric
from upnext.events.impressions import Impressions
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.fitting.impressions import ChunkLimits, FutureData, ImpressionData
from upnext.models.argus import ARGUSConfig
from upnext.models.build import read_inputs
from upnext.models.two_towers import TwoTowers, TwoTowersConfig
from upnext.objectives.future_items import FutureItems, PositivesConfig
from upnext.objectives.pairwise import PairwiseRanking
from upnext.objectives.softmax import LossConfig, SampledSoftmaxConfig, make_softmax
from upnext.sampling.frequency import count_items
from upnext.training.loop import TrainingConfig
from upnext.training.memory import Need, largest_batch, need_of

__all__ = [
    "FinetuneConfig",
    "Given",
    "PairwiseConfig",
    "Plan",
    "RetrievalConfig",
    "check_lag",
    "plan",
    "plan_retrieval",
]


class FinetuneCommon(Config):
    """What both kinds of fine-tuning have."""

    start: Annotated[str, Field(alias="from")]
    """The ARGUS that it begins with, by its name in [pretrain]."""
    pretrained: bool = True
    """Begin with its weights. False: only its shape, with new weights."""
    width: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Width of the vectors that are stored."""
    lag: Annotated[Duration, Field(ge=0)] = 86_400_000
    """How old user vectors are when they are used: they know events strictly before the request's time - lag. A day
    for vectors that are computed daily, 0 for an encoder that runs for each request."""
    longest_history: Annotated[int, Field(ge=2)] | None = None
    """Events of a chunk, at most. Unset: `max_length` of the model."""
    shortest_history: Annotated[int, Field(ge=1)] = 1
    """Impressions of which fewer events of the user are known are left out."""
    most_impressions: Annotated[int, Field(ge=2)] = 512
    """Impressions of a chunk, unless what was shown together is more."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout in fine-tuning. Unset: that of the model."""
    hold_back: Annotated[Duration, Field(gt=0)] | None = None
    """The last part of the training part, so long, on which it is not trained: it is left to rankers that read its
    scores or whose candidates it finds. The model that it begins with has to hold back as much. Unset: none."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained."""

    @model_validator(mode="after")
    def _histories_have_a_length(self) -> "FinetuneCommon":
        if self.longest_history is not None and self.longest_history <= self.shortest_history:
            raise ValueError(
                f"longest_history {self.longest_history} is not above shortest_history {self.shortest_history}"
            )
        return self

    def shape(self, encoder: ARGUSConfig) -> TwoTowersConfig:
        """The towers that it makes of a model of this shape."""
        dropout = encoder.dropout if self.dropout is None else self.dropout
        return TwoTowersConfig(
            encoder=encoder.model_copy(update={"dropout": dropout, "recent": None}), width=self.width, lag=self.lag
        )

    def limits(self, encoder: ARGUSConfig) -> ChunkLimits:
        """The limits of a chunk.

        Raises:   BadConfig: the model reads shorter histories than were asked for.
        """
        longest = encoder.max_length if self.longest_history is None else self.longest_history
        if not self.shortest_history < longest <= encoder.max_length:
            raise BadConfig(
                f"longest_history {longest}, shortest_history {self.shortest_history}: {self.start!r} reads"
                f" {encoder.max_length} events (max_length); that has to be at least longest_history and above"
                " shortest_history"
            )
        return ChunkLimits(longest, self.shortest_history, self.most_impressions)


class PairwiseConfig(FinetuneCommon):
    """Two towers, fine-tuned to order what was shown together by the utility of what came of it."""

    kind: Literal["pairwise"] = "pairwise"
    utility: Annotated[dict[str, Weight], Field(min_length=1)]
    """What a unit of each feedback is worth: `{ like = 1.0, played = 0.5, dislike = -1.0 }`."""
    window: Annotated[Duration, Field(gt=0)] | None = None
    """Compare the impressions of a user within windows of time: `"1d"`. Unset: those of one request."""
    validation_cases: Annotated[int, Field(ge=1)] = 2000
    """On how many requests (or windows) of the validation part the early stopping computes pair accuracy, drawn
    once."""

    @model_validator(mode="after")
    def _no_impression_knows_its_rivals(self) -> "PairwiseConfig":
        if self.window is not None and self.lag < self.window:
            raise ValueError(
                f"lag {self.lag} ms is shorter than window {self.window} ms: what came of an earlier impression would"
                " tell what came of a later one that it is compared with; make the lag as long as the window"
            )
        return self


class RetrievalConfig(FinetuneCommon):
    """Two towers, fine-tuned to find what the user chooses later."""

    kind: Literal["retrieval"] = "retrieval"
    positives: PositivesConfig = PositivesConfig()
    """What is to be found."""
    loss: LossConfig = SampledSoftmaxConfig()
    """The softmax over the catalogue, full or sampled."""
    validation_cases: Annotated[int, Field(ge=1)] = 2000
    """On how many cases of the validation part the early stopping computes NDCG@10, drawn once."""


FinetuneConfig = Annotated[PairwiseConfig | RetrievalConfig, Field(discriminator="kind")]

Objective = PairwiseRanking | FutureItems


@dataclass(frozen=True)
class Plan:
    """A training before it begins: what it reads, what makes its model, its need, how it is validated.

    `counts` says how many impressions there are and how many were left out, and why.
    """

    data: ImpressionData | FutureData
    make: Callable[[torch.device | None], Objective]
    need: Need
    validation: Callable[[TwoTowers], Validate]
    counts: dict[str, int]

    @property
    def said(self) -> str:
        """The counts in words."""
        n = self.counts
        lonely = n.get("num_impressions_without_pair")
        without_pair = "" if lonely is None else f" {lonely:,} with nothing to compare them with,"
        return (
            f"{n['num_impressions']:,} impressions in {n['num_chunks']:,} chunks; left out:{without_pair}"
            f" {n['num_impressions_without_state']:,} of users of whom too little was known before the lag"
        )


@dataclass(frozen=True)
class Given:
    """What every plan begins with: a prepared log."""

    folder: Path
    log: EventLog
    part: NDArray[np.int8]
    users: Mapping[str, Column]
    removes_history: bool


def plan(config: PairwiseConfig | RetrievalConfig, encoder: ARGUSConfig, given: Given) -> Plan:
    """Plan the fine-tuning of a model of this shape.

    Raises:   BadConfig: the log does not have what is asked for; UserError: there is nothing to train on.
    """
    shape, limits, cases = config.shape(encoder), config.limits(encoder), config.validation_cases
    if isinstance(config, RetrievalConfig):
        return plan_retrieval(shape, limits, config.positives, config.loss, config.training, cases, given)
    log, part = given.log, given.part
    check_lag(shape.lag, log)
    shown = Impressions.of(log, np.flatnonzero(part == TRAIN), config.utility, config.window)
    paired = shown.with_partner()
    data = ImpressionData.join(log, _read(shape, given), paired, shape.lag, limits)
    if not len(data.chunks):
        raise UserError(
            f"nothing to fine-tune on: of {len(shown):,} impressions of the training part {len(paired):,} were shown"
            " with others of another utility, and of none of these enough was known before the lag; weigh other"
            " feedback, set a (longer) window, or shorten the lag"
        )
    held_out = compared(log, np.flatnonzero(part == VALIDATION), config.utility, config.window)
    make_model = _maker(shape, given)

    def make(device: torch.device | None) -> PairwiseRanking:
        return PairwiseRanking(make_model(device))

    return Plan(
        data,
        make,
        _need(make, data, config.training, log),
        lambda model: pair_validation(model, log, held_out, cases, model.trained.device),
        _counts(data) | {"num_impressions_without_pair": len(shown) - len(paired)},
    )


def plan_retrieval(
    shape: TwoTowersConfig,
    limits: ChunkLimits,
    positives: PositivesConfig,
    loss: LossConfig,
    training: TrainingConfig,
    cases: int,
    given: Given,
) -> Plan:
    """Plan the contrastive training of two towers; `cases` of the validation part are ranked after each epoch.

    Raises:   BadConfig, BadData: the log does not have what is asked for; UserError: there is nothing to train on.
    """
    log, view = given.log, positives.view or shape.encoder.view
    check_lag(shape.lag, log)
    is_chosen = log.mask(view) & (given.part == TRAIN)
    rows = np.flatnonzero(is_chosen)
    if positives.hard_negatives > 0:  # and what was shown beside it
        rows = np.flatnonzero((given.part == TRAIN) & np.isin(log.groups, np.unique(log.groups[is_chosen])))
        if is_chosen[rows].all():
            raise BadConfig(
                f"hard_negatives has no effect: nothing of the training part was shown beside an event of the view"
                f" {view!r} and is not of it; set it to 0, or choose another view"
            )
    shown = Impressions(rows, log.groups[rows], is_chosen[rows].astype(np.float64))
    joined = ImpressionData.join(log, _read(shape, given), shown, shape.lag, limits)
    data = FutureData.of(joined, log.rows.user[rows], positives.among_next)
    if not len(joined.chunks):
        raise UserError(
            f"nothing to train on: the training part has {int(is_chosen.sum()):,} events of the view {view!r}, and of"
            " none of their users enough was known before the lag; choose another view, or shorten the lag"
        )
    sketch = loss.sketch if isinstance(loss, SampledSoftmaxConfig) else None
    make_model = _maker(shape, given)

    def make(device: torch.device | None) -> FutureItems:
        model = make_model(device)
        counts = torch.from_numpy(count_items(data.items, len(model.trained), sketch))
        # Every trained item can be a negative, also one that nobody chose.
        softmax = make_softmax(loss, counts[_trained(given)].clamp(min=1).to(device or "cpu"))
        return FutureItems(model, softmax if device is None else softmax.to(device), positives)

    def validation(model: TwoTowers) -> Validate:
        return validation_metric(model, log, given.part, cases, given.users, given.removes_history, view)

    return Plan(data, make, _need(make, joined, training, log), validation, _counts(joined))


def check_lag(lag_ms: int, log: EventLog) -> None:
    """Refuse a lag that nothing can be compared with."""
    if lag_ms and not log.schema.has_times:
        raise BadConfig('a lag needs times, and this log has only an order; set lag = "0s"')


def _read(shape: TwoTowersConfig, given: Given) -> NDArray[np.int64]:
    return np.flatnonzero((given.part == TRAIN) & given.log.mask(shape.encoder.view))


def _trained(given: Given) -> torch.Tensor:
    """(V,) the items with a training event: impressions count, whatever the model reads."""
    num_items = len(Catalogue.load(given.folder).items)
    return torch.from_numpy(np.bincount(given.log.rows.item[given.part == TRAIN], minlength=num_items) > 0)


def _maker(shape: TwoTowersConfig, given: Given) -> Callable[[torch.device | None], TwoTowers]:
    items, trained = Catalogue.load(given.folder).items, _trained(given)
    inputs = read_inputs(shape.encoder.contexts, given.folder, given.log.schema, items)

    def make(device: torch.device | None) -> TwoTowers:
        if device is None:
            return TwoTowers(shape, inputs, items, trained)
        return TwoTowers(shape, inputs, items.to(device), trained).to(device)

    return make


def _need(
    make: Callable[[torch.device | None], Objective], data: ImpressionData, training: TrainingConfig, log: EventLog
) -> Need:
    with torch.device("meta"):
        shapes = make(None)
    tokens = largest_batch(data.lengths, training.tokens_per_batch)
    activations = shapes.num_activations(tokens, data.most_impressions(training.tokens_per_batch))
    return need_of(shapes, activations, 2 * len(log))


def _counts(data: ImpressionData) -> dict[str, int]:
    return {
        "num_impressions": len(data.chunks.impression),
        "num_chunks": len(data.chunks),
        "num_impressions_without_state": data.num_unknown,
    }
