"""The moment of a request as a vector.

Shape letters: B requests, D width.
"""

from collections.abc import Collection
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upnext.nn.encoders import NUM_GAPS

__all__ = ["ClockEncoder", "Reading"]

Reading = Literal["hour", "weekday", "gap"]
"""The hour of the day and the day of the week, both UTC; the time since the last event."""

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_EPOCH_WEEKDAY = 3
"""1970 began on a Thursday; Monday is 0."""


class ClockEncoder(nn.Module):
    """The sum of a vector per reading.

    Tables begin as zeros: a value that training never meets adds nothing.
    """

    def __init__(self, readings: Collection[Reading], width: int) -> None:
        super().__init__()
        sizes: dict[Reading, int] = {"hour": 24, "weekday": 7, "gap": NUM_GAPS}
        self.tables = nn.ModuleDict({name: nn.Embedding(sizes[name], width) for name in readings})
        self.bias = nn.Parameter(torch.empty(width).normal_(std=0.02))
        for table in self.tables.values():
            assert isinstance(table, nn.Embedding)
            nn.init.zeros_(table.weight)

    def forward(self, time_ms: Int[Tensor, " B"], gap: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Encode moments; `gap` comes from `gap_bucket`."""
        codes = {
            "hour": time_ms // _HOUR_MS % 24,
            "weekday": (time_ms // _DAY_MS + _EPOCH_WEEKDAY) % 7,
            "gap": gap,
        }
        total: Tensor = self.bias.expand(len(time_ms), -1)
        for name, table in self.tables.items():
            total = total + table(codes[name])
        return total
