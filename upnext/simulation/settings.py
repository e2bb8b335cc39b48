"""What a simulated streaming service is asked to be: its size, its length, and how strong each effect is."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from upnext.base.configuration import Config

__all__ = ["DAY_MS", "HOUR_MS", "SimulationConfig"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Strength = Annotated[float, Field(ge=0.0, le=20.0)]


class SimulationConfig(Config):
    """One synthetic service; the same configuration always gives the same bytes.

    The strengths are in units of utility: +1 multiplies the odds of an organic choice by e. Set one to zero to
    switch its effect off, so that a claim such as "long histories help" has a control.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Another seed, another service."""
    num_users: Annotated[int, Field(ge=1, le=1_000_000)] = 4000
    """Users in the log."""
    num_items: Annotated[int, Field(ge=60, le=100_000)] = 2000
    """Titles in the catalogue."""
    num_events: Annotated[int, Field(ge=1)] = 400_000
    """Rows of the log, to within one list: organic plays, and every item of every list shown."""
    days: Annotated[int, Field(ge=2, le=366)] = 28
    """Length of the period."""
    start: str = "2025-01-06T00:00:00Z"
    """Its first midnight, in UTC."""
    list_length: Annotated[int, Field(ge=1, le=50)] = 10
    """Titles in a list that is shown; needs five times as many titles."""
    organic_share: _Share = 0.4
    """Share of the log's rows that are organic plays."""
    new_item_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.15
    """Share of titles that are released during the period."""
    new_user_share: Annotated[float, Field(ge=0.0, le=0.9)] = 0.2
    """Share of users who join during the period."""
    taste_strength: _Strength = 10.0
    """How much taste decides."""
    series_strength: _Strength = 3.25
    """How much a later part loses by itself; having watched the part before it gives back twice as much."""
    long_range_strength: _Strength = 3.0
    """How much a title watched 20 to 60 watches ago raises its kindred title."""
    drift: Annotated[float, Field(ge=0.0, le=1.0)] = 0.03
    """Standard deviation of a taste's daily step, per dimension."""
    exploration: _Share = 0.1
    """Share of uniform exploration in the home page's logging policy."""

    @field_validator("start")
    @classmethod
    def _start_is_utc(cls, start: str) -> str:
        try:
            moment = datetime.fromisoformat(start)
        except ValueError:
            raise ValueError('write an ISO 8601 time in UTC, such as "2025-01-06T00:00:00Z"') from None
        if moment.utcoffset() != timedelta(0):
            raise ValueError('end it with "Z": the log is in UTC')
        if (moment.hour, moment.minute, moment.second, moment.microsecond) != (0, 0, 0, 0):
            raise ValueError("start at midnight: titles are released at midnight")
        return start

    @model_validator(mode="after")
    def _lists_fit(self) -> "SimulationConfig":
        if self.list_length * 5 > self.num_items:
            raise ValueError(
                f"lists of {self.list_length} need at least {5 * self.list_length} titles; "
                f"num_items is {self.num_items}"
            )
        if self.num_events < 2 * self.list_length:
            raise ValueError(f"num_events is {self.num_events}; allow at least two lists ({2 * self.list_length})")
        return self

    @property
    def start_ms(self) -> int:
        """The first millisecond of the period."""
        return round(datetime.fromisoformat(self.start).astimezone(UTC).timestamp() * 1000)

    @property
    def end_ms(self) -> int:
        """The first millisecond after the period."""
        return self.start_ms + self.days * DAY_MS
