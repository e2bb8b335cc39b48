"""Distillation: what a student learns of example sets, from labels and from what a teacher says of the candidates.

Shape letters: B sets, N candidates.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from upnext.base.batches import Column
from upnext.base.configuration import Config
from upnext.base.example_sets import SetBatch
from upnext.losses.distillation import difference_loss, label_loss, score_loss
from upnext.losses.listwise import list_probability_loss, listwise_softmax_loss, multi_positive_loss
from upnext.losses.pairwise import PairForm, label_pair_loss, pair_difference_loss, pair_probability_loss
from upnext.losses.ranks import WeightForm, rank_loss, rank_pair_weights, rank_step_loss
from upnext.losses.sets import as_one_set
from upnext.models.main_model import MainModel
from upnext.objectives.ranking import RankingBatch, by_set

__all__ = [
    "LABEL",
    "SAID",
    "AnyTerm",
    "Distillation",
    "LabelTerm",
    "LiveDistillation",
    "MainDistillation",
    "RankStepsConfig",
    "RanksConfig",
    "TeacherTerm",
    "term_sum",
]

LABEL, SAID = "distill.label", "distill.said"
"""Columns of candidates that a main model is taught with and does not read: what came of each, and what a teacher says
of it."""


class Schedule(Config):
    """What a term's weight is multiplied by over the steps of training."""

    kind: Literal["linear", "cosine", "step"]
    """From `begin` to `end` along a line or half a cosine; or at once, when the steps are over."""
    steps: Annotated[int, Field(ge=1)]
    """Over so many steps; then it stays at `end`."""
    begin: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """The factor of the first step."""
    end: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """The factor after the last of them."""

    def factor(self, step: int) -> float:
        """The factor of a step, counted from 0."""
        done = min(1.0, step / self.steps)
        shares = {"linear": done, "cosine": (1 - math.cos(math.pi * done)) / 2, "step": float(done == 1.0)}
        return self.begin + (self.end - self.begin) * shares[self.kind]


class RankWeights(Config):
    """What each pair weighs by the ranks of its candidates."""

    form: WeightForm = "reciprocal_log"
    """`reciprocal`: |1/r_i - 1/r_j|; `reciprocal_log`: the same of log(1 + r), as LambdaRank's; `distance`: 1/|r_i -
    r_j| to the power of `exponent`; `softmax`: the product of both softmax probabilities."""
    by: Literal["teacher", "student", "both"] = "teacher"
    """Whose ranks."""
    exponent: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Of `distance`."""


class _TermConfig(Config):
    """What every term has."""

    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """What its mean counts in the loss."""
    schedule: Schedule | None = None
    """What the weight is multiplied by over the steps. Unset: 1."""
    whole_batch: bool = False
    """Take all candidates of a batch for one set: more pairs, of candidates that nobody saw together."""


class LabelConfig(_TermConfig):
    """The labels themselves: what calibrates."""

    kind: Literal["label"] = "label"
    form: Literal["cross_entropy", "squared_probability", "squared"] = "cross_entropy"
    """Of positive or not; `squared` is of graded labels and raw scores."""


class LabelPairsConfig(_TermConfig):
    """Which of two candidates has the higher label: pairwise logistic."""

    kind: Literal["label_pairs"] = "label_pairs"
    ties: Literal["keep", "drop"] = "drop"
    """Whether candidates of equal labels are drawn together."""
    rank_weights: RankWeights | None = None
    """What each pair weighs. Unset: all the same."""


class LabelListConfig(_TermConfig):
    """The labels as one choice of the set: softmax, with shares of the gains as targets."""

    kind: Literal["label_list"] = "label_list"
    equal: Literal["keep", "drop"] = "drop"
    """What becomes of a set whose labels are all equal."""


class MultiPositiveConfig(_TermConfig):
    """The probability that a choice from the set is positive."""

    kind: Literal["multi_positive"] = "multi_positive"


class ScoresConfig(_TermConfig):
    """Score distillation: the teacher's logits themselves."""

    kind: Literal["scores"] = "scores"
    form: Literal["squared", "cross_entropy"] = "squared"
    """Squared differences of logits, or cross-entropy of their probabilities."""


class DifferencesConfig(_TermConfig):
    """Rank distillation: the teacher's differences within a set, in linear time without weights by rank."""

    kind: Literal["differences"] = "differences"
    rank_weights: RankWeights | None = None
    """What each pair weighs. Unset: all the same."""


class _TemperatureConfig(_TermConfig):
    """What has a temperature."""

    temperature: Annotated[float, Field(gt=0, le=1e3)] = 1.0
    """Scores are divided by it."""
    temperature_power: Literal[1, 2] = 1
    """The loss is multiplied by the temperature, or, 2, by its square, which keeps the scale of gradients."""


class PairProbabilitiesConfig(_TemperatureConfig):
    """Which of two candidates the teacher expects to be better, as probabilities."""

    kind: Literal["pair_probabilities"] = "pair_probabilities"
    form: PairForm = "unconditional"
    """`conditional` on one positive and one negative; `difference`: weighted by how much the probabilities differ;
    `tied`: half the difference, around a half."""
    rank_weights: RankWeights | None = None
    """What each pair weighs. Unset: all the same."""


class ListProbabilitiesConfig(_TemperatureConfig):
    """The teacher's softmax over the set."""

    kind: Literal["list_probabilities"] = "list_probabilities"


class RanksConfig(_TermConfig):
    """Nothing but the teacher's ranks: squared differences to ranks that have a gradient."""

    kind: Literal["ranks"] = "ranks"
    width: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Scores that are closer than this share their ranks in part."""


class RankStepsConfig(_TermConfig):
    """Nothing but the teacher's ranks: each step moves a score by how far its rank is off."""

    kind: Literal["rank_steps"] = "rank_steps"
    sign: bool = False
    """Steps of one length, whatever the distance."""


LabelTerm = LabelConfig | LabelPairsConfig | LabelListConfig | MultiPositiveConfig
TeacherTerm = (
    ScoresConfig | DifferencesConfig | PairProbabilitiesConfig | ListProbabilitiesConfig | RanksConfig | RankStepsConfig
)
AnyTerm = Annotated[LabelTerm | TeacherTerm, Field(discriminator="kind")]
"""A term of the loss. Those of labels need no teacher, so that teachers can be trained with them too."""

Means = tuple[Tensor, Tensor]


def term_sum(
    term: LabelTerm | TeacherTerm,
    scores: Tensor,
    label: Tensor,
    teacher: Column,
    mask: Tensor,
    relevant: float,
    ranked: Tensor | None = None,
) -> Means:
    """One term over padded sets: (sum, weight), without its own weight.

    Args:     scores, label (B, N); teacher: (B, N), of which only what was observed counts; relevant: labels from here
              on are positive; ranked: (B, N) scores of the student by whose ranks pairs weigh; unset: the same scores.
    """
    ranked = scores if ranked is None else ranked
    if isinstance(term, LabelTerm):
        other, seen = label.to(scores.dtype), mask
    else:
        other, seen = teacher.values.to(scores.dtype), mask & teacher.observed
    if isinstance(term, LabelConfig):  # it looks at each candidate alone
        target = other if term.form == "squared" else (other >= relevant).to(scores.dtype)
        return label_loss(scores, target, seen, form=term.form)
    if isinstance(term, ScoresConfig):
        return score_loss(scores, other, seen, form=term.form)
    pairs = getattr(term, "rank_weights", None)
    if term.whole_batch:
        ranked, _, _ = as_one_set(ranked, other, seen)
        scores, other, seen = as_one_set(scores, other, seen)
    weights = None if pairs is None else _pair_weights(pairs, ranked, other, seen)
    match term:
        case LabelPairsConfig():
            return label_pair_loss(scores, other, seen, ties=term.ties, pair_weights=weights)
        case LabelListConfig():
            return listwise_softmax_loss(scores, other, seen, equal=term.equal)
        case MultiPositiveConfig():
            return multi_positive_loss(scores, (other >= relevant).to(scores.dtype), seen)
        case DifferencesConfig() if weights is None:
            return difference_loss(scores, other, seen)
        case DifferencesConfig():
            return pair_difference_loss(scores, other, seen, pair_weights=weights)
        case PairProbabilitiesConfig():
            heat: dict[str, Any] = {"temperature": term.temperature, "temperature_power": term.temperature_power}
            return pair_probability_loss(scores, other, seen, form=term.form, pair_weights=weights, **heat)
        case ListProbabilitiesConfig():
            heat = {"temperature": term.temperature, "temperature_power": term.temperature_power}
            return list_probability_loss(scores, other, seen, **heat)
        case RanksConfig():
            return rank_loss(scores, other, seen, width=term.width)
        case RankStepsConfig():
            return rank_step_loss(scores, other, seen, sign=term.sign)


def _pair_weights(config: RankWeights, scores: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """By the ranks of the student, of the other (a teacher's scores, or labels), or of both."""
    return rank_pair_weights(scores, other, mask, form=config.form, by=config.by, exponent=config.exponent)


class Distillation(nn.Module):
    """Σ_k w_k(step) · term k, each a mean over what it looks at: items, pairs or sets."""

    def __init__(self, model: nn.Module, terms: Sequence[LabelTerm | TeacherTerm], relevant: float) -> None:
        super().__init__()
        self.model, self.terms, self.relevant = model, list(terms), relevant

    def forward(self, batch: SetBatch, step: int) -> dict[str, Means]:
        """The terms by kind, numbered where a kind comes twice: (weighted sum of losses, their number)."""
        return self.of_scores(self.model(*batch.inputs), batch, step)

    def of_scores(
        self, scores: Tensor, batch: SetBatch, step: int | None, ranked: Tensor | None = None
    ) -> dict[str, Means]:
        """The same of scores (B, N); without a step, with the weights that schedules end with.

        Args:     ranked: as for `term_sum`.
        """
        found: dict[str, Means] = {}
        for number, term in enumerate(self.terms):
            factor = 1.0 if term.schedule is None else term.schedule.end if step is None else term.schedule.factor(step)
            total, count = term_sum(term, scores, batch.label, batch.teacher, batch.mask, self.relevant, ranked)
            name = term.kind if term.kind not in found else f"{term.kind}-{number}"
            found[name] = total * (term.weight * factor), count
        return found


class LiveDistillation(nn.Module):
    """Teacher and student trained together on a stream: each batch is scored by the teacher before it learns from it.

    The student learns from these scores, and after `until` steps goes on alone, from labels.
    """

    def __init__(self, teacher: Distillation, student: Distillation, until: int) -> None:
        super().__init__()
        self.teacher, self.student, self.until = teacher, student, until
        of_labels = [term for term in student.terms if isinstance(term, LabelTerm)]
        self.alone = Distillation(nn.Identity(), of_labels, student.relevant)  # the student's weights have one place

    def forward(self, batch: SetBatch, step: int) -> dict[str, Means]:
        """The student's terms, and `teacher.` those of the teacher. What each reads are halves of the inputs."""
        half = len(batch.inputs) // 2
        scores = self.student.model(*batch.inputs[half:])
        if step >= self.until:
            return self.alone.of_scores(scores, batch, step)
        said = self.teacher.model(*batch.inputs[:half])
        found = {f"teacher.{name}": term for name, term in self.teacher.of_scores(said, batch, step).items()}
        heard = replace(batch, teacher=Column(said.detach(), batch.mask))
        return found | self.student.of_scores(scores, heard, step)


class MainDistillation(nn.Module):
    """The same for a main model, which reads pasts and candidates: its candidates bring `LABEL` and `SAID` along."""

    def __init__(self, model: MainModel, terms: Sequence[LabelTerm | TeacherTerm], relevant: float) -> None:
        super().__init__()
        self.model, self.terms = model, Distillation(nn.Identity(), terms, relevant)

    def forward(self, batch: RankingBatch, step: int | None) -> dict[str, Means]:
        """The terms by kind; without a step, with the weights that schedules end with."""
        state = self.model.encode(batch.histories).take(batch.set)
        (scores,) = self.model.predict(state, batch.request, batch.candidates).values()
        label, said = (batch.candidates.features[name] for name in (LABEL, SAID))
        scores, label_of, said_of, is_said, mask = by_set(batch, scores, label.values, said.values, said.observed)
        return self.terms.of_scores(scores, SetBatch((), mask, label_of, Column(said_of, is_said)), step)
