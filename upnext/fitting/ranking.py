"""What training a neural ranker takes, before it begins: its configuration, sets of candidates, what makes it, need."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Column, FlatColumn, ItemTable
from upnext.base.errors import BadConfig
from upnext.base.schema import FeedbackKind, context_column, vector_columns
from upnext.evaluation.feedback import mean_of
from upnext.events.impressions import Impressions, utility
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.features.quantiles import quantiles_of
from upnext.fitting.importance import permutation_importance
from upnext.fitting.ranking_config import AnyRankConfig, MainRankConfig, YouTubeRankConfig
from upnext.fitting.shown import Drawings, Reads, ShownSets
from upnext.models.boosted_config import UTILITY
from upnext.models.build import load_any, read_inputs
from upnext.models.candidates import foreseeable
from upnext.models.main_model import MainModel, MainModelConfig
from upnext.models.ranker_inputs import RankerInputs, known_values
from upnext.models.youtube import YouTubeRanker, YouTubeRankerConfig
from upnext.objectives.feedback import FeedbackLosses
from upnext.objectives.masked import MaskedTraining, masked_aggregators
from upnext.objectives.ranking import NeuralRanker, OrderRanking, PointwiseRanking, RankingBatch
from upnext.training.batches import length_batches
from upnext.training.memory import Need, need_of

__all__ = [
    "RankPlan",
    "ToldOf",
    "begin_with_weights",
    "check",
    "plan",
]


AnyObjective = PointwiseRanking | OrderRanking | MaskedTraining


@dataclass(frozen=True)
class ToldOf:
    """A part of the split as candidates: rows of the log (I,), and what is told of them besides, by name (I,).

    `scores` are the columns that other models put out as numbers; `vectors` the models whose vectors are there; `drawn`
    what there is in place of the rows' own events.
    """

    rows: NDArray[np.int64]
    features: Mapping[str, FlatColumn]
    scores: Sequence[str] = ()
    vectors: Sequence[str] = ()
    drawn: Drawings | None = None


@dataclass(frozen=True)
class RankPlan:
    """A training before it begins: what it reads, what makes its model, its need, how it is validated."""

    data: ShownSets
    held: ShownSets
    make: Callable[[torch.device | None], AnyObjective]
    need: Need
    validation: Callable[[AnyObjective], Callable[[], dict[str, float]]]
    importance: Callable[[AnyObjective], dict[str, dict[str, float]]]
    counts: dict[str, int]

    @property
    def said(self) -> str:
        """The counts in words."""
        return "{num_candidates:,} candidates in {num_sets:,} sets, with {num_events:,} events before them".format(
            **self.counts
        )


def check(config: AnyRankConfig, log: EventLog) -> None:
    """Check that a log has what a neural ranker is to read and to predict.

    Raises:   BadConfig, BadData: it does not.
    """
    _predicted(config, log)
    if isinstance(config, MainRankConfig) and config.masked is not None:
        masked_aggregators(config.masked, config.model)
    model = config.model
    for name in _views(model):
        log.mask(name)
    of_items = model.item_features if isinstance(model, YouTubeRankerConfig) else None
    for key, names, there in (
        ("contexts", model.contexts, list(log.schema.contexts)),
        ("user_features", model.user_features, list(log.schema.user_features)),
        ("item_features", of_items, list(log.schema.item_features)),
    ):
        for name in names or []:
            if name not in there:
                raise BadConfig(f"model.{key} names {name!r}; the log has {sorted(there)}")
    if not log.schema.has_times:
        if config.window is not None:
            raise BadConfig("`window` needs times; this log has only an order: remove it")
        if isinstance(model, MainModelConfig) and model.time:
            raise BadConfig(f"model.time reads {model.time[0]!r}, and this log has only an order; remove it")


def plan(
    config: AnyRankConfig,
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
    shape = _shape(config, log)
    _check_views(shape, log, part)
    items = Catalogue.load(folder).items
    parts = {which: told(which) for which in (TRAIN, VALIDATION)}
    inputs = _inputs(config, folder, log, items, users, parts[TRAIN])
    read = {name: users[name] for name in inputs.user_features}
    targets = list(inputs.predicted) or list(config.utility)
    reads = Reads(shape.view, shape.max_length, _views(shape), list(inputs.events.contexts), read, targets)
    train, held = (_sets(config, inputs, log, of, reads, which) for which, of in parts.items())
    means = {name: mean_of(train.feedback[name], np.arange(len(train.rows))) for name in inputs.predicted}
    bounds, scales = _bounds(shape, inputs, log, train), _scales(inputs, train)
    known = known_values(inputs, items, users)
    counts = torch.from_numpy(np.bincount(log.rows.item[part == TRAIN], minlength=len(items)))

    def make(device: torch.device | None) -> AnyObjective:
        there = items if device is None else items.to(device)
        model: NeuralRanker
        if isinstance(shape, YouTubeRankerConfig):
            model = YouTubeRanker(shape, inputs, there, bounds, known)
        else:
            model = MainModel(shape, inputs, there, bounds, known)
        model.begin_with(means)
        if model.vectors is not None:
            model.vectors.divide_by(scales)
        objective = _objective(config, model, inputs, means, counts.to(device or "cpu"))
        return objective if device is None else objective.to(device)

    return RankPlan(
        train,
        held,
        make,
        _need(make, train, config.training.tokens_per_batch, log),
        lambda objective: _validation(objective, held, config),
        lambda objective: _importance(objective, held, config),
        {
            "num_sets": len(train),
            "num_candidates": len(train.rows),
            "num_events": int((train.end - train.begin).sum()),
        },
    )


def _objective(
    config: AnyRankConfig, model: NeuralRanker, inputs: RankerInputs, means: Mapping[str, float], counts: torch.Tensor
) -> AnyObjective:
    """What a model is trained with; `counts` (V,) training events per item."""
    ranking: PointwiseRanking | OrderRanking
    if config.objective == "pointwise":
        ranking = PointwiseRanking(model, FeedbackLosses(inputs.predicted, config.losses, means))
    else:
        ranking = OrderRanking(model, config.objective, config.utility)
    if isinstance(config, MainRankConfig) and config.masked is not None:
        return MaskedTraining(ranking, config.masked, counts)
    return ranking


def begin_with_weights(model: NeuralRanker, folder: Path, name: str) -> None:
    """Give a model the weights of a ranker that was trained before.

    Raises:   BadConfig: that ranker has another shape.
    """
    earlier = load_any(folder, model.items.to(torch.device("cpu")))
    if type(earlier) is not type(model) or (earlier.config, earlier.inputs) != (model.config, model.inputs):
        raise BadConfig(f"from names {name!r}, which has another shape; give both the same [model] and feedback")
    model.load_state_dict(earlier.state_dict())


def _views(model: MainModelConfig | YouTubeRankerConfig) -> list[str]:
    """The views that a model reads."""
    others = [] if isinstance(model, YouTubeRankerConfig) else [one.view for one in model.aggregators.values()]
    return sorted({model.view, *others})


def _check_views(shape: MainModelConfig | YouTubeRankerConfig, log: EventLog, part: NDArray[np.int8]) -> None:
    """Refuse a view that selects nothing that could be learnt from."""
    read = {"the model": shape.view}
    if isinstance(shape, MainModelConfig):
        read = {f"the aggregator {name!r}": one.view for name, one in shape.aggregators.items()}
    for who, view in read.items():
        if not (log.mask(shape.view) & log.mask(view) & (part == TRAIN)).any():
            raise BadConfig(
                f"{who} reads the view {view!r}, which selects nothing of the training part: choose another view, or"
                " mend its condition in [prepare.views]"
            )


def _shape(config: AnyRankConfig, log: EventLog) -> MainModelConfig | YouTubeRankerConfig:
    """The model, with what it reads of the clock decided."""
    if isinstance(config, YouTubeRankConfig) or config.model.time is not None:
        return config.model
    readings = (
        [] if not log.schema.has_times else ["hour", "weekday", "gap"] if config.window is None else ["weekday", "gap"]
    )
    return config.model.model_copy(update={"time": readings})


def _inputs(
    config: AnyRankConfig, folder: Path, log: EventLog, items: ItemTable, users: Mapping[str, Column], told: ToldOf
) -> RankerInputs:
    """What the model reads of what the log, and other models, offer."""
    model, kinds = config.model, log.schema.user_features
    names = list(kinds) if model.user_features is None else model.user_features
    events = read_inputs(model.contexts, folder, log.schema, items)
    if isinstance(model, YouTubeRankerConfig) and model.item_features is not None:
        chosen = {name: kind for name, kind in events.item_features.items() if name in model.item_features}
        widths = {name: width for name, width in events.vector_widths.items() if name in chosen}
        events = events.model_copy(update={"item_features": chosen, "vector_widths": widths})
    return RankerInputs(
        events=events,
        user_features={name: kinds[name] for name in names},
        user_vector_widths={name: users[name].values.shape[1] for name in names if kinds[name] == "vector"},
        numbers=[*(aggregate.name for aggregate in model.aggregates), *told.scores],
        vectors={name: told.features[vector_columns(name)[0]].values.shape[1] for name in told.vectors},
        predicted=_predicted(config, log),
        orders=config.objective != "pointwise" or config.candidates is not None,
    )


def _bounds(
    shape: MainModelConfig | YouTubeRankerConfig, inputs: RankerInputs, log: EventLog, train: ShownSets
) -> torch.Tensor:
    """Quantiles of the numbers, over the candidates that are trained on."""
    read = {name: train.features[name] for name in inputs.numbers}
    if isinstance(shape, YouTubeRankerConfig):
        for name in [context_column(name) for name, size in inputs.events.contexts.items() if not size]:
            column = log.rows.columns[name]
            read[name] = FlatColumn(column.values[train.rows], column.observed[train.rows])
    return torch.from_numpy(quantiles_of(read))


def _scales(inputs: RankerInputs, train: ShownSets) -> dict[str, tuple[float, float]]:
    """The root mean squares of what vectors hold, over the candidates that are trained on: what they are divided by."""
    found = {}
    for name in inputs.vectors:
        user, item = (
            max(float(np.sqrt(np.mean(np.square(train.features[column].values, dtype=np.float64)))), 1e-6)
            for column in vector_columns(name)
        )
        found[name] = user, item
    return found


def _predicted(config: AnyRankConfig, log: EventLog) -> dict[str, FeedbackKind]:
    """The feedback that is foreseen; none where it orders by a utility.

    Raises:   BadConfig: the log does not have what is asked for.
    """
    found = foreseeable(config.candidates, log.schema.feedback, config.feedback, config.utility)
    if config.objective != "pointwise":
        if UTILITY in log.schema.feedback:
            raise BadConfig(f"the log has a feedback {UTILITY!r}, as the output of an order; rename it in the source")
        return {}
    losses = FeedbackLosses(found, config.losses, {})
    if not any(name in losses for name in found):
        raise BadConfig("there is nothing to predict: name feedback, and give one of them a weight in `losses`")
    return found


def _sets(
    config: AnyRankConfig, inputs: RankerInputs, log: EventLog, told: ToldOf, reads: Reads, which: int
) -> ShownSets:
    where = {TRAIN: "training", VALIDATION: "validation"}[which]
    if not len(told.rows):
        raise BadConfig(f"the {where} part holds no event of the view {config.view!r}; choose another")
    features = {name: told.features[name] for name in inputs.reads}
    sets = ShownSets.of(log, told.rows, features, reads, config.window, config.most_candidates, told.drawn)
    for name in inputs.predicted:
        if not sets.feedback[name].observed.any():
            raise BadConfig(f"{name!r} was nowhere observed in the {where} part; leave it out of `feedback`")
    if config.objective != "pointwise":
        owner = np.repeat(np.arange(len(sets)), sets.num_candidates)
        if not len(Impressions(sets.rows, owner, utility(sets.feedback, config.utility, len(owner))).with_partner()):
            raise BadConfig(
                f"no two candidates of the {where} part that were shown together differ in utility: there is no order"
                " to learn; weigh other feedback, or set a (longer) window"
            )
    return sets


def _need(
    make: Callable[[torch.device | None], AnyObjective], data: ShownSets, tokens_per_batch: int, log: EventLog
) -> Need:
    with torch.device("meta"):
        shapes = make(None)
    most = max(tokens_per_batch, int(data.lengths.max(initial=0)))
    return need_of(shapes, shapes.num_activations(most, most), 2 * len(log))


def _importance(objective: AnyObjective, held: ShownSets, config: AnyRankConfig) -> dict[str, dict[str, float]]:
    """How much worse the answers get without each input, on sets of the validation part; of masks alone nothing."""
    if isinstance(objective, MaskedTraining):
        if objective.config.mode == "only":
            return {}
        objective = objective.ranking
    return permutation_importance(objective, held, config.validation_cases, config.training.tokens_per_batch)


def _validation(objective: AnyObjective, held: ShownSets, config: AnyRankConfig) -> Callable[[], dict[str, float]]:
    """Minus the loss on sets of the validation part, as the model then is: larger is better."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(held))[: config.validation_cases])
    device = next(objective.parameters()).device

    def batches() -> Iterator[RankingBatch]:
        for rows in length_batches(held.lengths[chosen], config.training.tokens_per_batch):
            yield held.batch(chosen[rows]).to(device)

    def validate() -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        generator = torch.Generator().manual_seed(0)
        for batch in batches():
            for name, (total, weight) in objective.held_out(batch, generator).items():
                found = sums.setdefault(name, [0.0, 0.0])
                found[0], found[1] = found[0] + total.item(), found[1] + weight.item()
        losses = {name: total / (weight or 1.0) for name, (total, weight) in sums.items()}
        return {"negative_loss": -sum(losses.values())}

    return validate
