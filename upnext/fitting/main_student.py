"""A main model as a student: it reads pasts and candidates as the ranker `main` does, and learns by a student's losses.

Its sets are those that rankers learn from; they are joined with example sets by the events of the log that they show.

Shape letters: I candidates.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from upnext.base.batches import FlatColumn
from upnext.base.example_sets import ExampleSets, SetData
from upnext.fitting.distillation import DistillConfig
from upnext.fitting.ranking import RankPlan
from upnext.fitting.shown import ShownSets
from upnext.models.main_model import MainModel
from upnext.objectives.distillation import LABEL, SAID, MainDistillation
from upnext.objectives.ranking import RankingBatch
from upnext.training.batches import length_batches
from upnext.training.devices import choose_device
from upnext.training.loop import Start, train
from upnext.training.memory import check_memory

__all__ = ["fit_main", "taught_sets"]


def fit_main(
    config: DistillConfig, planned: RankPlan, sets: ExampleSets, teacher: FlatColumn | None, folder: Path, start: Start
) -> MainModel:
    """Train a main model as a student; the validation part says when to stop.

    Args:     planned: the training of a ranker on the events of the sets. teacher: what is said of all candidates (I,).
              folder: keeps checkpoints.
    """
    device = choose_device(config.training.device)
    check_memory(planned.need, device, start.label)
    torch.manual_seed(config.training.seed)
    model = planned.make(device).model
    assert isinstance(model, MainModel)
    objective = MainDistillation(model, config.losses, sets.relevant)
    given, held = (taught_sets(part, sets, teacher) for part in (planned.data, planned.held))

    def batches() -> Iterator[RankingBatch]:
        for rows in length_batches(held.lengths, config.training.tokens_per_batch):
            yield held.batch(rows).to(device)

    def validate() -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        for batch in batches():
            for name, (total, weight) in objective(batch, None).items():
                found = sums.setdefault(name, [0.0, 0.0])
                found[0], found[1] = found[0] + float(total), found[1] + float(weight)
        return {"negative_loss": -sum(total / (weight or 1.0) for total, weight in sums.values())}

    train(objective, objective, given, validate, config.training, folder, start)
    tensors = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    return MainModel.from_tensors(model.config, model.inputs, model.items.to(torch.device("cpu")), tensors)


def taught_sets(shown: ShownSets, sets: ExampleSets, teacher: FlatColumn | None) -> ShownSets:
    """With what came of each candidate, and what a teacher says of it, beside what the model reads of it."""
    order = np.argsort(sets.row, kind="stable")
    place = order[np.searchsorted(sets.row[order], shown.rows)]
    said = SetData.of(sets, teacher).teacher
    beside = {
        LABEL: FlatColumn(sets.label[place], np.ones(len(place), bool)),
        SAID: FlatColumn(said.values[place], said.observed[place]),
    }
    return replace(shown, features={**shown.features, **beside})
