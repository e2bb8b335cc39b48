"""What a boosted ranker is: what it reads, and what it predicts."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from upnext.base.configuration import Duration, Weight
from upnext.base.errors import BadConfig
from upnext.base.schema import FeedbackKind
from upnext.base.views import ALL
from upnext.features.aggregates import Aggregate
from upnext.models.candidates import WINDOW_OF_DRAWN, foreseeable
from upnext.models.scorers import ReadsScores
from upnext.models.trees import BoostingConfig

__all__ = ["UTILITY", "BoostedConfig"]

UTILITY = "utility"
"""What the output is called that only orders."""


class BoostedConfig(ReadsScores):
    """What a boosted ranker reads, and what it predicts."""

    kind: Literal["boosted"] = "boosted"
    view: str = ALL
    """The events that it is trained on."""
    aggregates: list[Aggregate] = []
    """Counts, means, recency and age up to the moment of the request. Beside them it reads the contexts, the hour of
    the day (UTC), and the categorical, multi-valued (the first value) and numeric features of item and user."""
    ignore: list[str] = []
    """Of what it would read, what it does not: `"feature.user.age"`, `"context.device"`, `"hour_of_day"`."""
    feedback: list[str] | None = None
    """The feedback that it predicts. Unset: all that the log has, or, of drawn candidates, `chosen`."""
    utility: dict[str, Weight] = {}
    """Weights of feedback. Given, it also learns, by LambdaRank, to order candidates by their weighted sum. Of drawn
    candidates `chosen` can be weighed too."""
    window: Annotated[Duration, Field(gt=0)] | None = None
    """Who competes in the ordering: a user's events within so much time, cut on the clock, with what was known when it
    began. Unset: those of a request."""
    training: BoostingConfig = BoostingConfig()
    """How trees are grown."""

    @model_validator(mode="after")
    def _it_learns_something_once(self) -> "BoostedConfig":
        names = [aggregate.name for aggregate in self.aggregates]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the aggregate {name!r} is declared twice; remove one")
        if self.feedback == [] and not self.utility:
            raise ValueError("feedback = [] leaves nothing to predict; name feedback, or give a utility")
        if self.window is not None and self.candidates is not None:
            raise ValueError(WINDOW_OF_DRAWN)
        if self.window is not None and not self.utility:
            raise ValueError("'window' has no effect without a utility; remove it")
        return self

    def predicted(self, kinds: Mapping[str, FeedbackKind]) -> dict[str, FeedbackKind]:
        """The feedback that it predicts, of what a log has.

        Raises:   BadConfig: it is to predict or weigh what the log does not have, or the log has no feedback.
        """
        found = foreseeable(self.candidates, kinds, self.feedback, self.utility)
        if self.utility and UTILITY in kinds:
            raise BadConfig(f"the log has a feedback {UTILITY!r}, as the output of `utility`; rename it in the source")
        return found
