"""Training into an artifact: what a plan made is trained, and what was found is written down."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TypeVar

from upnext.base.artifacts import Draft
from upnext.base.protocols import TrainingBatch
from upnext.objectives.argus import ARGUSObjective
from upnext.objectives.future_items import FutureItems
from upnext.objectives.masked import MaskedTraining
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.pairwise import PairwiseRanking
from upnext.objectives.ranking import OrderRanking, PointwiseRanking
from upnext.training.loop import HISTORY, Start, TrainingConfig, TrainingData, train

__all__ = ["train_into"]

Rankings = PointwiseRanking | OrderRanking | MaskedTraining
Trained = NextItemPrediction | ARGUSObjective | FutureItems | PairwiseRanking | Rankings

_Batch = TypeVar("_Batch", bound=TrainingBatch)


def train_into(
    draft: Draft,
    objective: Trained,
    data: TrainingData[_Batch],
    validate: Callable[[], dict[str, float]],
    training: TrainingConfig,
    start: Start,
) -> None:
    """Train an objective with the `model` it holds; the draft keeps checkpoints, the learning curve and the figures."""
    folder = draft.keep()
    result = train(objective, objective, data, validate, training, folder, replace(start, recipe=folder.name))
    shutil.copyfile(folder / HISTORY, draft.folder / HISTORY)
    draft.metrics |= asdict(result) | {"parameters": sum(p.numel() for p in objective.model.parameters())}
    if not isinstance(objective, PairwiseRanking | Rankings):
        draft.metrics["temperature"] = objective.softmax.temperature.value
