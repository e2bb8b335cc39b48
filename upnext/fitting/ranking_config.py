"""What neural rankers are trained on, and how: their configuration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from upnext.base.configuration import Duration, Weight
from upnext.base.views import ALL
from upnext.features.aggregates import Aggregate
from upnext.models.candidates import WINDOW_OF_DRAWN
from upnext.models.main_model import MainModelConfig
from upnext.models.scorers import ReadsScores
from upnext.models.youtube import YouTubeRankerConfig
from upnext.objectives.feedback import FeedbackLoss
from upnext.objectives.masked import MaskedConfig
from upnext.training.loop import TrainingConfig

__all__ = ["AnyRankConfig", "MainRankConfig", "NeuralRankConfig", "YouTubeRankConfig"]


class NeuralRankConfig(ReadsScores):
    """What every neural ranker learns from."""

    view: str = ALL
    """The events that it is trained on, each as a candidate."""
    objective: Literal["pointwise", "pairwise", "listwise"] = "pointwise"
    """`pointwise` foresees each feedback of each candidate. The others only order what was shown together, by its
    utility: pair by pair, or as one choice of all."""
    feedback: list[str] | None = None
    """The feedback that it predicts, pointwise. Unset: all that the log has, or, of drawn candidates, `chosen`."""
    losses: dict[str, FeedbackLoss] = {}
    """Per feedback that it predicts; those that are not named have the defaults."""
    utility: dict[str, Weight] = {}
    """Weights of feedback: what pairwise and listwise training orders by. Of drawn candidates `chosen` can be weighed
    too."""
    window: Annotated[Duration, Field(gt=0)] | None = None
    """What counts as shown together: a user's events within so much time, cut on the clock, all asked about with what
    was known when it began. Unset: those of a request, with what was known before it."""
    most_candidates: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Candidates of a set, at most: longer ones are cut."""
    validation_cases: Annotated[int, Field(ge=1)] = 5000
    """On how many sets of the validation part the early stopping computes the loss, drawn once."""
    start: Annotated[str | None, Field(alias="from")] = None
    """The ranker of [rank], of the same shape and above it in the file, whose weights it begins with: one that was
    pre-trained with `masked.mode = "only"`, say. Unset: new weights."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained. Candidates count as tokens, as events do."""

    @model_validator(mode="after")
    def _drawn_candidates_are_sets(self) -> "NeuralRankConfig":
        if self.candidates is not None:
            if self.window is not None:
                raise ValueError(WINDOW_OF_DRAWN)
            if (size := 1 + self.candidates.negatives + self.candidates.uniform) > self.most_candidates:
                raise ValueError(
                    f"a set has up to {size} candidates, and most_candidates would cut it; set it to {size}"
                )
        return self

    @model_validator(mode="after")
    def _an_order_has_a_utility(self) -> "NeuralRankConfig":
        if self.objective == "pointwise" and self.utility:
            raise ValueError("'utility' has no effect on a pointwise objective; remove it, or choose another objective")
        if self.objective != "pointwise":
            if not self.utility:
                raise ValueError(f"objective = {self.objective!r} orders by a utility: give weights of feedback")
            for name in sorted(self.model_fields_set & {"feedback", "losses"}):
                raise ValueError(f"{name!r} has no effect: objective = {self.objective!r} foresees nothing; remove it")
        return self


class MainRankConfig(NeuralRankConfig):
    """A main model: aggregators of behaviour sequences, networks of user, time and place, and a joining network."""

    kind: Literal["main"] = "main"
    model: MainModelConfig
    """What it reads and how large it is."""
    masked: MaskedConfig | None = None
    """Masked training of its self-attention aggregators. Unset: none."""

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


class YouTubeRankConfig(NeuralRankConfig):
    """YouTube's ranking network: averaged watches, features and numbers of all kinds, a ReLU tower."""

    kind: Literal["youtube"] = "youtube"
    model: YouTubeRankerConfig
    """What it reads and how large it is."""

    @property
    def aggregates(self) -> list[Aggregate]:
        """The aggregates that the model reads."""
        return self.model.aggregates


AnyRankConfig = MainRankConfig | YouTubeRankConfig
"""The neural rankers."""
