"""What training a student takes: its configuration, example sets, what it is trained with, and its scores.

Shape letters: I candidates, S sets, B sets of a batch, N candidates of a set.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from upnext.base.batches import Candidates, Column, FlatColumn, Request, State
from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets, SetBatch, SetData
from upnext.base.protocols import Link
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.aggregates import Aggregate
from upnext.fitting.calibration import scale_and_shift
from upnext.fitting.folds import FoldsConfig
from upnext.models.boosted import Boosted
from upnext.models.boosted_config import BoostedConfig
from upnext.models.main_model import MainModel, MainModelConfig
from upnext.models.student import LayersConfig, LinearConfig, Student, StudentConfig, TowersConfig, inputs_of
from upnext.models.trees import BoostingConfig, Part, grow_down, matrix, told_apart
from upnext.objectives.distillation import AnyTerm, Distillation, LabelTerm, RanksConfig, RankStepsConfig
from upnext.training.batches import length_batches
from upnext.training.loop import Start, TrainingConfig, train

__all__ = [
    "AnyStudent",
    "DistillConfig",
    "LiveConfig",
    "OverFeatures",
    "base_of",
    "digested",
    "fit_student",
    "loss_of",
    "scores_of",
]

OverFeatures = Student | Boosted
AnyStudent = OverFeatures | MainModel
_PER_BLOCK = 65_536
"""So many candidates are scored at a time, padding included."""
_PER_SLOPES = 4096
"""So many have their slopes worked out at a time: sets of like sizes, so that few pairs are padding."""
_LOT = 1e-9
"""What tells equal scores apart, times a number drawn for each candidate."""


class TreesConfig(BoostingConfig):
    """Boosted trees, grown down the slopes of the losses: plain gradient boosting."""

    kind: Literal["boosted"] = "boosted"
    ignore: list[str] = []
    """Of the examples' features, what it does not read."""
    trees: Annotated[int, Field(ge=1)] = 100
    """The most trees."""
    leaves: Annotated[int, Field(ge=2, le=10_000)] = 15
    """The most leaves of a tree."""


class DistillTrainingConfig(TrainingConfig):
    """How long, how fast, and when to stop. Candidates count as events."""

    epochs: Annotated[int, Field(ge=1)] = 30
    """The most passes over the training part."""
    tokens_per_batch: Annotated[int, Field(ge=1)] = 2048
    """Candidates in a batch, padding included."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """The peak of the schedule: linear warm-up, then a cosine down to a tenth."""


class LiveConfig(Config):
    """A teacher that is trained together with the student, on the stream of examples."""

    teacher: Annotated[LinearConfig | LayersConfig | TowersConfig, Field(discriminator="kind")]
    """What it is."""
    losses: Annotated[list[Annotated[LabelTerm, Field(discriminator="kind")]], Field(min_length=1)]
    """The terms of its loss: labels, and their order."""
    until: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of the stream after which the student goes on alone, from labels."""


class DistillConfig(Config):
    """A student: what it learns from, who teaches it, what it is, and by which losses."""

    examples: str
    """The example sets, by their name in [examples]."""
    teacher: str | Annotated[list[str], Field(min_length=1)] | None = None
    """A model of [rank], of [pretrain] with feedback, or one above of [distill]; several are an ensemble: their logits
    are averaged. Unset: nobody, and every loss is one of labels; a teacher can be trained so."""
    scores: list[str] = []
    """Instead of a teacher, files with what one said of each candidate: a number a line, in the examples' order."""
    live: LiveConfig | None = None
    """Instead of a teacher, one that learns with the student: the examples of the training part come once, in the order
    of time; each batch is scored by the teacher before it learns from it. `training.epochs` has no effect then."""
    folds: FoldsConfig = FoldsConfig()
    """How teachers are trained that speak of the training part."""
    student: Annotated[
        LinearConfig | LayersConfig | TowersConfig | TreesConfig | MainModelConfig, Field(discriminator="kind")
    ]
    """What it is. A `main` model reads pasts and its own aggregates instead of the examples' features."""
    losses: Annotated[list[AnyTerm], Field(min_length=1)]
    """The terms of its loss, added up."""
    training: DistillTrainingConfig = DistillTrainingConfig()
    """How it is trained, unless it is boosted."""
    calibrate: bool = True
    """Afterwards every score s becomes a · s + b, a > 0, which leaves the order as it is; a and b are those with the
    least log-loss on the validation part, and lie in the last layer or the leaves. Not where scores are grades, with a
    loss `label` of the form `squared`, and of a `main` model not where they only order."""

    @model_validator(mode="after")
    def _somebody_teaches(self) -> "DistillConfig":
        taught = [term.kind for term in self.losses if not isinstance(term, LabelTerm)]
        if (self.teacher is not None) + bool(self.scores) + (self.live is not None) > 1:
            raise ValueError("give one of 'teacher', 'scores' and 'live'")
        is_taught = bool(self.teachers or self.scores or self.live)
        if self.live is not None and isinstance(self.student, TreesConfig | MainModelConfig):
            raise ValueError(f"a {self.student.kind} student cannot learn live; choose another kind of student")
        if self.live is not None and not any(isinstance(term, LabelTerm) for term in self.losses):
            raise ValueError("a live student goes on alone from labels: add a loss of labels")
        if taught and not is_taught:
            raise ValueError(
                f"the loss {taught[0]!r} needs a teacher: name one with 'teacher', or give files of scores"
            )
        if not taught and is_taught:
            raise ValueError('no loss listens to the teacher: add one such as { kind = "differences" }, or remove it')
        if isinstance(self.student, TreesConfig) and "training" in self.model_fields_set:
            raise ValueError("'training' has no effect on a boosted student; set student.learning_rate and others")
        if "calibrate" in self.model_fields_set and self.calibrate > self.is_calibrated:
            raise ValueError("'calibrate' has no effect on grades: remove it, or the form of the loss 'label'")
        return self

    @property
    def is_calibrated(self) -> bool:
        """Whether scores are logits that are put right afterwards."""
        return self.calibrate and not any(term.kind == "label" and term.form == "squared" for term in self.losses)

    @property
    def teachers(self) -> list[str]:
        """The names of its teachers."""
        return [] if self.teacher is None else [self.teacher] if isinstance(self.teacher, str) else self.teacher


def fit_student(
    config: DistillConfig,
    sets: ExampleSets,
    teacher: FlatColumn | None,
    folder: Path,
    start: Start,
    aggregates: list[Aggregate] | None = None,
) -> OverFeatures:
    """Train a student over features on the training part of example sets; the validation part says when to stop.

    Args:     teacher: what is said of all candidates (I,). folder: keeps checkpoints. aggregates: those among the
              features.
    Raises:   BadConfig: a part has no sets, or the student does not fit the features.
    """
    parts = []
    for which, where in ((TRAIN, "training"), (VALIDATION, "validation")):
        chosen = np.flatnonzero(sets.part == which)
        if not len(chosen):
            raise BadConfig(f"the {where} part of the examples is empty; choose another split")
        place = sets.candidates_of(chosen)
        said = None if teacher is None else FlatColumn(teacher.values[place], teacher.observed[place])
        parts.append(SetData.of(sets.take(chosen), said))
    base = base_of(parts[0].sets)
    assert not isinstance(config.student, MainModelConfig)  # `fit_main` trains it: it reads more than the sets hold
    model: OverFeatures
    if isinstance(config.student, TreesConfig):
        model = _grown(config, config.student, parts[0], parts[1], base, aggregates or [])
    else:
        model = _trained(config, config.student, parts[0], parts[1], base, folder, start, aggregates or [])
    if config.is_calibrated:
        held = parts[1].sets
        model.rescale(*scale_and_shift(scores_of(model, held), held.is_positive))
    return model


def base_of(sets: ExampleSets) -> float:
    """The logit of what share of the candidates is positive: where scores begin."""
    rate = np.clip(sets.is_positive.mean(), 1e-4, 1 - 1e-4)
    return float(np.log(rate / (1 - rate)))


def _trained(
    config: DistillConfig,
    shape: StudentConfig,
    given: SetData,
    held: SetData,
    base: float,
    folder: Path,
    start: Start,
    aggregates: list[Aggregate],
) -> Student:
    sets = given.sets
    inputs = inputs_of(shape, sets.features, sets.of_request, aggregates, sets.target, Link.SIGMOID)
    torch.manual_seed(config.training.seed)
    student = Student.fresh(shape, inputs, sets.features, base)
    data, asked = (replace(part, inputs=digested(student, part.sets)) for part in (given, held))
    objective = Distillation(student, config.losses, sets.relevant)
    batches = [asked.batch(rows) for rows in length_batches(asked.lengths, 4 * config.training.tokens_per_batch)]

    def validate() -> dict[str, float]:
        return {"negative_loss": -loss_of(objective, batches, [student(*batch.inputs) for batch in batches])}

    train(objective, objective, data, validate, config.training, folder, start)
    return student.eval()


def loss_of(
    objective: Distillation, batches: list[SetBatch], scores: list[Tensor], ranked: list[Tensor] | None = None
) -> float:
    """The loss of all batches together, with the weights that training ends with.

    Args:     ranked: scores by whose ranks pairs weigh; unset: the same.
    """
    sums: dict[str, list[float]] = {}
    for batch, of, by in zip(batches, scores, scores if ranked is None else ranked, strict=True):
        for name, (total, weight) in objective.of_scores(of, batch, None, by).items():
            found = sums.setdefault(name, [0.0, 0.0])
            found[0], found[1] = found[0] + float(total), found[1] + float(weight)
    return sum(total / (weight or 1.0) for total, weight in sums.values())


# --- boosted students ------------------------------------------------------------------------------------------------


def _grown(
    config: DistillConfig,
    shape: TreesConfig,
    given: SetData,
    held: SetData,
    base: float,
    aggregates: list[Aggregate],
) -> Boosted:
    for name in shape.ignore:
        if name not in given.sets.features:
            raise BadConfig(f"student.ignore names {name!r}; the examples have {sorted(given.sets.features)}")
    read = {name: column for name, column in given.sets.features.items() if name not in shape.ignore}
    features = {name: told_apart(column, shape.most_categories) for name, column in read.items()}
    objective = Distillation(torch.nn.Identity(), config.losses, given.sets.relevant)
    # Steps by ranks cost least where all scores are equal, as they are at first: what they are for are the ranks.
    judged = [
        RanksConfig(width=1e-6, weight=term.weight, schedule=term.schedule, whole_batch=term.whole_batch)
        if isinstance(term, RankStepsConfig)
        else term
        for term in config.losses
    ]
    judge = Distillation(torch.nn.Identity(), judged, given.sets.relevant)
    slopes, of_held = _Slopes(objective, given, shape.seed), _Slopes(judge, held, shape.seed)
    parts = [Part(matrix(part.sets.features, features), part.sets.label) for part in (given, held)]
    booster = grow_down(slopes.at, of_held.loss, parts, features, shape, base)
    told = BoostedConfig(aggregates=aggregates, ignore=shape.ignore)
    return Boosted.of_one(told, features, given.sets.target, Link.SIGMOID, base, booster)


class _Slopes:
    """The slopes of a loss over all candidates (I,), and one number for its curvature, which changes slowly.

    Where pairs weigh by the student's ranks, a fixed lot tells equal scores apart: at first all are equal, and later
    all in one leaf; and their curvature is that with the weights as they are, for weights are constants.
    """

    def __init__(self, objective: Distillation, data: SetData, seed: int) -> None:
        self.objective, self.round = objective, 0
        self.rows = list(length_batches(data.lengths, _PER_SLOPES))
        self.batches = [data.batch(rows) for rows in self.rows]
        self.places = [data.sets.candidates_of(rows) for rows in self.rows]
        self.direction = np.random.default_rng(seed).standard_normal(len(data.sets.label))
        self.curvature = 1.0

    def at(self, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Slopes, scaled so that a term of items has those of one item; the curvature along a random direction."""
        ranked = self._ranked(scores)
        slopes = self._slopes(scores, ranked)
        if self.round % 10 == 0:
            # Ranks jump: how much they bend shows only over a distance at which scores change places.
            step = 1.0 if any(isinstance(term, RankStepsConfig) for term in self.objective.terms) else 1e-3
            bent = (self._slopes(scores + step * self.direction, ranked) - slopes) / step
            self.curvature = max(1e-3, float(bent @ self.direction / (self.direction @ self.direction)))
        self.round += 1
        return slopes, np.full(len(slopes), self.curvature)

    def loss(self, scores: NDArray[np.float64]) -> float:
        """The loss of raw scores (I,)."""
        with torch.inference_mode():
            return loss_of(self.objective, self.batches, self._padded(scores), self._ranked(scores))

    def _ranked(self, scores: NDArray[np.float64]) -> list[Tensor]:
        return self._padded(scores + _LOT * self.direction)

    def _padded(self, scores: NDArray[np.float64]) -> list[Tensor]:
        padded = []
        for batch, place in zip(self.batches, self.places, strict=True):
            of = torch.zeros(batch.mask.shape, dtype=torch.float64)
            of[batch.mask] = torch.from_numpy(scores[place])
            padded.append(of)
        return padded

    def _slopes(self, scores: NDArray[np.float64], ranked: list[Tensor]) -> NDArray[np.float64]:
        found = np.zeros(len(scores))
        weights: dict[str, float] = {}
        parts = []
        for batch, of, by in zip(self.batches, self._padded(scores), ranked, strict=True):
            terms = self.objective.of_scores(of.requires_grad_(), batch, self.round, by)
            parts.append((of, terms))
            for name, (_, weight) in terms.items():
                weights[name] = weights.get(name, 0.0) + float(weight)
        for (of, terms), batch, place in zip(parts, self.batches, self.places, strict=True):
            total = torch.stack([one / (weights[name] or 1.0) for name, (one, _) in terms.items()]).sum()
            (slope,) = torch.autograd.grad(total, of)
            found[place] = slope[batch.mask].numpy() * len(scores)
        return found


# --- scores ----------------------------------------------------------------------------------------------------------


def scores_of(model: OverFeatures, sets: ExampleSets) -> NDArray[np.float64]:
    """What a student over features says of the candidates of example sets: (I,) raw, as a server would hear it."""
    scores = np.zeros(len(sets.label))
    if isinstance(model, Boosted):
        features = {
            name: Column(torch.from_numpy(column.values)[None], torch.from_numpy(column.observed)[None])
            for name, column in sets.features.items()
        }
        ids = torch.zeros(1, len(scores), dtype=torch.int64)
        asked = Candidates(ids, ids, ids == 0, features)
        nothing, nobody = State({"nothing": torch.zeros(1, 0)}), torch.zeros(1, dtype=torch.int64)
        (raw,) = model.predict(nothing, Request(nobody, nobody), asked).values()
        return raw[0].double().numpy()
    data = replace(SetData.of(sets), inputs=digested(model, sets))
    with torch.inference_mode():
        for rows in length_batches(data.lengths, _PER_BLOCK):
            batch = data.batch(rows)
            scores[sets.candidates_of(rows)] = model(*batch.inputs)[batch.mask].double().numpy()
    return scores


def digested(student: Student, sets: ExampleSets) -> tuple[Tensor, Tensor]:
    """What a student reads of the candidates of example sets, worked out once."""
    columns = {
        name: Column(torch.from_numpy(c.values), torch.from_numpy(c.observed)) for name, c in sets.features.items()
    }
    return student.digest(columns, (len(sets.label),))
