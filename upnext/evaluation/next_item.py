"""The next-item loss: how probable a model thought what was chosen, by the full softmax.

Shape letters: K cases, T targets, B cases of a block, V catalogue.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.cases import Cases
from upnext.evaluation.ranking import Histories, Scores
from upnext.evaluation.segments import FEWEST_USERS, find_dimensions
from upnext.metrics.intervals import bootstrap_over_users

__all__ = ["FREQUENCY", "NextItemLosses"]

FREQUENCY = "frequency"
"""The name of the baseline that knows only how often each item occurs in training."""


class NextItemLosses:
    """Keeps -log p of every target, p the softmax of a model's logits over all items with a training event.

    It listens while cases are ranked, so that nothing is computed twice. The items are the same for every model: those
    with a training event in the evaluated view. One that a model cannot score has the probability 0 there; a target
    without a training event has no loss, and neither has one that the model cannot score. Both are counted.

    Args:     trained: (V,) training events of the view per dense id.
    """

    def __init__(self, cases: Cases, trained: NDArray[np.int64]) -> None:
        self.cases, self.trained = cases, trained
        self.items = np.flatnonzero(trained)
        self.losses: dict[str, NDArray[np.float64]] = {}
        """Per model (T,): NaN where the target is not trained, inf where the model cannot score it."""
        self._first = np.searchsorted(cases.case, np.arange(len(cases) + 1))

    def listen(self, name: str, scores: Scores, temperature: float | None) -> Scores:
        """The same scores, heard on their way.

        Args:     temperature: what divides scores into logits; None for a model that was trained with no softmax, and
                  whose scores mean nothing here.
        """
        if temperature is None:
            return scores
        losses = self.losses[name] = np.full(len(self.cases.target), np.nan)

        def heard(block: NDArray[np.int64]) -> NDArray[np.float32]:
            found = scores(block)
            logits = found[:, self.items].astype(np.float64) / temperature
            highest = logits.max(1, initial=-np.inf, keepdims=True)
            highest[~np.isfinite(highest)] = 0.0
            with np.errstate(divide="ignore"):
                log_normaliser = highest[:, 0] + np.log(np.exp(logits - highest).sum(1))
            for row, case in enumerate(block):
                places = np.arange(self._first[case], self._first[case + 1])
                places = places[self.trained[self.cases.target[places]] > 0]
                target = found[row, self.cases.target[places]].astype(np.float64) / temperature
                losses[places] = np.where(target == -np.inf, np.inf, log_normaliser[row] - target)
            return found

        return heard

    def figures(
        self,
        histories: Histories,
        part: NDArray[np.int8],
        contexts: Mapping[str, Callable[[int], str]],
        num_samples: int,
    ) -> list[dict[str, Any]]:
        """Mean losses with 95 % intervals over users, of all targets and per value of each context; frequency's too.

        Args:     part: (N,) the split; contexts: categorical contexts, and how to name a code of each.
        Returns:  tidy rows: model, dimension and segment (None for all), metric "nip_loss", value, low, high, targets,
                  untrained, unscored (the numbers of targets that are left out); no value for segments of few users.
        """
        if not self.losses:
            return []
        share = self.trained / max(1, self.trained.sum())
        with np.errstate(divide="ignore"):
            frequency = -np.log(share[self.cases.target])
        frequency[self.trained[self.cases.target] == 0] = np.nan
        everything = np.ones(len(self.cases.target), bool)
        segments: list[tuple[str | None, str | None, NDArray[np.bool_]]] = [(None, None, everything)]
        for one in find_dimensions(histories, part, self.cases, self.trained, contexts):
            if one.name.startswith("Context "):
                segments += [(one.name, label, mask) for label, mask in one.segments.items()]
        return [
            {"model": name, "dimension": dimension, "segment": segment}
            | self._figure(losses, mask, num_samples, fewest=1 if dimension is None else FEWEST_USERS)
            for name, losses in {**self.losses, FREQUENCY: frequency}.items()
            for dimension, segment, mask in segments
        ]

    def _figure(
        self, losses: NDArray[np.float64], mask: NDArray[np.bool_], num_samples: int, fewest: int
    ) -> dict[str, Any]:
        counted = mask & np.isfinite(losses)
        users = self.cases.user[self.cases.case[counted]]
        row: dict[str, Any] = {"metric": "nip_loss", "value": None, "low": None, "high": None}
        if len(np.unique(users)) >= fewest:
            found = bootstrap_over_users(losses[counted], users, num_samples=num_samples)
            row |= {"value": found.value, "low": found.low, "high": found.high}
        left_out = {
            "targets": int(counted.sum()),
            "untrained": int((mask & np.isnan(losses)).sum()),
            "unscored": int((mask & np.isposinf(losses)).sum()),
        }
        return row | left_out
