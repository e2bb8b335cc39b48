"""What early stopping looks at: the metric that `evaluate` reports, on cases of the validation part."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.batches import Column
from upnext.base.errors import BadConfig
from upnext.base.protocols import Retriever
from upnext.evaluation.cases import find_cases
from upnext.evaluation.ranking import Histories, rank_cases, retriever_scores
from upnext.events.log import EventLog
from upnext.events.split import VALIDATION
from upnext.metrics.ranking import ndcg

__all__ = ["Validate", "validation_metric"]

Validate = Callable[[], dict[str, float]]


class TrainedRetriever(Retriever, Protocol):
    """A retriever that knows which items have a training event."""

    @property
    def trained(self) -> Tensor:
        """(V,) bool."""
        ...


def validation_metric(
    model: TrainedRetriever,
    log: EventLog,
    part: NDArray[np.int8],
    num_cases: int,
    user_features: Mapping[str, Column],
    removes_history: bool,
    view: str | None = None,
) -> Validate:
    """NDCG@10 of the model as it then is, on up to `num_cases` cases, drawn once.

    Args:     view: the events to predict; unset, the model's.
    Raises:   BadConfig: the validation part holds no event of the view.
    """
    view = view or model.view
    cases = find_cases(log, part, VALIDATION, view)
    chosen = np.random.default_rng(0).permutation(len(cases))[:num_cases]
    cases = cases.take(np.sort(chosen))
    if not len(cases):
        what = "check prepare.split.view" if removes_history else "make prepare.split.validation longer"
        raise BadConfig(f"the validation part holds no event of the view {view!r}; {what}")
    num_items = len(model.trained)
    rank = partial(
        rank_cases,
        retriever_scores(model, log, cases, num_items, model.trained.device, user_features),
        cases,
        Histories(log, view),
        num_items,
        k=10,
        remove_history=(removes_history,),
        max_length=model.max_length,
    )
    return lambda: {"ndcg@10": float(ndcg(rank()[0].ranks, cases.case, len(cases), 10).mean())}
