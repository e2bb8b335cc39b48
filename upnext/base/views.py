"""Views: named selections of events by their feedback and context, such as `played >= 0.5 or like == 1`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.errors import BadConfig

__all__ = ["ALL", "TARGET", "Condition"]

ALL = "all"
"""The view every log has: all of its events."""

TARGET = "target"
"""The view of a training batch that marks which events are predicted; no log has it."""

_COMPARISON = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|==|!=|>|<)\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*")

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": np.greater_equal,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
}


@dataclass(frozen=True)
class Condition:
    """A disjunction of conjunctions of comparisons between a feedback and a number."""

    alternatives: tuple[tuple[tuple[str, str, float], ...], ...]
    """Outer: joined by `or`; inner: joined by `and`; each a (name, operator, number)."""

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read a condition such as `played >= 0.5 and like == 1 or rating > 3`; `and` binds tighter.

        Raises:   BadConfig: the text is not such a condition.
        """
        alternatives = []
        for alternative in re.split(r"\bor\b", text):
            comparisons = []
            for part in re.split(r"\band\b", alternative):
                match = _COMPARISON.fullmatch(part)
                if match is None:
                    raise BadConfig(
                        f"the condition {text!r} cannot be read at {part.strip()!r}; write comparisons of a"
                        ' feedback with a number, joined by "and" and "or", such as "played >= 0.5 or like == 1"'
                    )
                comparisons.append((match[1], match[2], float(match[3])))
            alternatives.append(tuple(comparisons))
        return cls(tuple(alternatives))

    @property
    def names(self) -> set[str]:
        """The feedback that the condition reads."""
        return {name for alternative in self.alternatives for name, _, _ in alternative}

    def select(
        self, values: Mapping[str, NDArray[np.float32]], observed: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.bool_]:
        """Say for each event whether the condition holds; what was not observed fulfils no comparison.

        Args:     values, observed: per feedback name (N,).
        Returns:  (N,) bool.
        """
        holds = [
            np.logical_and.reduce(
                [observed[name] & _OPERATORS[operator](values[name], number) for name, operator, number in part]
            )
            for part in self.alternatives
        ]
        selected: NDArray[np.bool_] = np.logical_or.reduce(holds)
        return selected
