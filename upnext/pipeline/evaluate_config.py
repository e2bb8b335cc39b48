"""The protocol of an evaluation, as a project asks for it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from upnext.base.configuration import Config, Duration, Weight
from upnext.evaluation.uplift import UpliftConfig
from upnext.pipeline.pairs import StagesConfig

__all__ = ["EvaluateConfig"]


class EvaluateConfig(Config):
    """The protocol: what counts as a target, what a model may look at, and which figures are computed."""

    view: str | None = None
    """The events to predict. Unset: the view that the models read."""
    k: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [10, 50]
    """The lengths of list at which metrics are computed; the first is the one that is shown."""
    history: Literal["rolling", "frozen"] = "rolling"
    """Rolling: everything before the request. Frozen: everything before the test part begins."""
    events: Literal["all", "first"] = "all"
    """All of a user's targets, or those of the first request of the test part."""
    unfamiliar: bool = False
    """Only targets that the user met in no event before, of any view; what they met is removed from the ranking."""
    remove_history: bool | None = None
    """Remove items of the history from the ranking. Unset: on for leave-last-out, off for a split by time."""
    bootstrap_samples: Annotated[int, Field(ge=10)] = 1000
    """Resamples of users behind each interval."""
    utility: dict[str, Weight] = {}
    """What a unit of each feedback is worth: `{ like = 1.0, dislike = -1.0 }`. Given, models are compared by how they
    order what was shown together."""
    pairs: Literal["request"] | Annotated[Duration, Field(gt=0)] = "request"
    """What counts as shown together: the impressions of one request, or of one user within windows of time: `"1d"`."""

    uplift: list[UpliftConfig] = []
    """Models and those that they extend, `{ of = "trees-argus", over = "trees" }`: how much the pair accuracy rises."""
    stages: list[StagesConfig] = []
    """A retriever and a ranker that are measured together: what one finds, and what the other makes of it."""
    stage_cases: Annotated[int, Field(ge=1)] = 2000
    """On how many cases they are, drawn once."""

    @model_validator(mode="after")
    def _unfamiliar_removes_the_history(self) -> "EvaluateConfig":
        if self.unfamiliar and self.remove_history is False:
            raise ValueError(
                "'unfamiliar' removes what the user met from the ranking; leave out remove_history = false"
            )
        return self

    @model_validator(mode="after")
    def _pairs_have_a_utility(self) -> "EvaluateConfig":
        for key in ("pairs", "uplift"):
            if key in self.model_fields_set and not self.utility:
                raise ValueError(f"{key!r} has no effect without a utility; give weights of feedback, or remove it")
        return self

    @property
    def window_ms(self) -> int | None:
        """The window of time in which impressions are compared; None for one request."""
        return None if self.pairs == "request" else self.pairs
