"""Candidates that nobody was shown: what a user chose, among others that a retriever would have found then."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.base.schema import FeedbackKind

__all__ = ["CHOSEN", "WINDOW_OF_DRAWN", "CandidatesConfig", "foreseeable"]

CHOSEN = "chosen"
"""What is known of drawn candidates: 1 of what the user chose, 0 of the others. As an output it only orders."""

WINDOW_OF_DRAWN = "'window' has no effect with candidates: who competes was drawn for one moment; remove one of them"


class CandidatesConfig(Config):
    """Which candidates are drawn around what a user chose."""

    retriever: str
    """The model of [pretrain] or [finetune] that finds them. It has to leave events to the ranker: see `hold_back`."""
    top: Annotated[int, Field(ge=2, le=10_000)] = 100
    """They are drawn from its first so many at that moment: give what a release has it retrieve, `num_candidates`."""
    negatives: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many of these are set against each choice, drawn without regard to their order."""
    uniform: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many more are drawn from everything that anybody had met before that moment."""
    exclude_history: bool = True
    """Neither choices nor negatives are items of the user's own history, as a release shows none of them. Say what
    `publish.exclude_history` says."""
    missed: bool = False
    """Also learn from choices that are not among the first `top`: a service never puts them to the ranker."""
    seed: int = 0
    """Draws the negatives: of a moment always the same."""

    @model_validator(mode="after")
    def _there_are_enough(self) -> "CandidatesConfig":
        if self.negatives >= self.top:
            raise ValueError(
                f"negatives = {self.negatives} of top = {self.top}: the choice itself is one of these; draw at most"
                f" {self.top - 1}, or more from a longer top"
            )
        return self


def foreseeable(
    candidates: CandidatesConfig | None,
    kinds: Mapping[str, FeedbackKind],
    feedback: Sequence[str] | None,
    utility: Mapping[str, float],
) -> dict[str, FeedbackKind]:
    """What a ranker foresees: feedback of the log, or of drawn candidates that they were chosen.

    Args:     kinds: the feedback of the log. feedback, utility: what the ranker names, None for all.
    Raises:   BadConfig: there is no feedback, one is called as what is known of drawn candidates, or one is named that
              there is not.
    """
    found = dict(kinds)
    if candidates is not None:
        if CHOSEN in kinds:
            raise BadConfig(f"the log has a feedback {CHOSEN!r}, as what is known of drawn candidates; rename it")
        found = {CHOSEN: "binary"}
    elif not kinds:
        raise BadConfig(
            "the log has no feedback: a ranker has nothing to learn; declare some in prepare.source, or let it draw"
            " `candidates`"
        )
    for key, names, known in (("feedback", feedback or [], found), ("utility", utility, {**kinds, **found})):
        for name in names:
            if name not in known:
                whose = "the log has the feedback" if candidates is None else "drawn candidates have"
                raise BadConfig(f"{key} names {name!r}; {whose} {sorted(known)}")
    return {name: kind for name, kind in found.items() if feedback is None or name in feedback}
