"""How well each of several models ranks the same cases: figures under every treatment of the history, and rankings."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.cases import Cases
from upnext.evaluation.examples import NUM_SHOWN
from upnext.evaluation.figures import figures
from upnext.evaluation.next_item import NextItemLosses
from upnext.evaluation.ranking import Histories, Ranking, Scores, rank_cases

__all__ = ["Trial"]


@dataclass(frozen=True)
class Trial:
    """What every model is asked, and how it is measured.

    `met` holds what is removed where the history is; `treatments` says whether it is, the first leads the report;
    `trained` (V,) are training events per dense id, `cutoffs` the lengths of list.
    """

    cases: Cases
    met: Histories
    treatments: tuple[bool, ...]
    trained: NDArray[np.int64]
    cutoffs: Sequence[int]
    num_samples: int

    def rank(
        self, subjects: Mapping[str, tuple[Scores, int]], next_item: NextItemLosses, costs: dict[str, dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, Ranking]]:
        """Rank every model.

        Args:     subjects: scores, and the longest history that is read; next_item: hears all scores; costs: of each
                  model, its temperature is read and `rank_seconds` is added.
        Returns:  tidy rows, and the ranking of each model under the first treatment.
        """
        rows, primary = list[dict[str, Any]](), dict[str, Ranking]()
        for name, (scores, length) in subjects.items():
            scores = next_item.listen(name, scores, costs.get(name, {}).get("temperature"))
            start, k, V = time.perf_counter(), max(*self.cutoffs, NUM_SHOWN), len(self.trained)
            removes = self.treatments
            rankings = rank_cases(scores, self.cases, self.met, V, k=k, remove_history=removes, max_length=length)
            costs.setdefault(name, {})["rank_seconds"] = time.perf_counter() - start
            for ranking, is_removed in zip(rankings, removes, strict=True):
                head = {"model": name, "history_removed": is_removed}
                found = figures(ranking, self.cases, self.trained, self.cutoffs, self.num_samples)
                rows += [head | row for row in found]
            primary[name] = rankings[0].first(max(self.cutoffs[0], NUM_SHOWN))
        return rows, primary
