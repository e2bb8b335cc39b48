"""Live distillation: teacher and student trained together on the stream of examples; then the student alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from upnext.base.errors import BadConfig
from upnext.base.example_sets import ExampleSets, SetData
from upnext.base.protocols import Link
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.aggregates import Aggregate
from upnext.fitting.calibration import scale_and_shift
from upnext.fitting.distillation import DistillConfig, LiveConfig, base_of, digested, loss_of, scores_of
from upnext.models.student import Student, StudentConfig, inputs_of
from upnext.objectives.distillation import Distillation, LiveDistillation
from upnext.training.batches import ordered_batches
from upnext.training.loop import Start, train

__all__ = ["fit_live"]

_FIRST = 0.1
"""The share of the stream that says where the quantiles of numbers lie, and which values categories have."""


def fit_live(
    config: DistillConfig,
    live: LiveConfig,
    sets: ExampleSets,
    folder: Path,
    start: Start,
    aggregates: list[Aggregate] | None = None,
) -> tuple[Student, Student]:
    """Train teacher and student on the training part, in the order of time, once.

    Returns:  the student, and the teacher as it was when the student went on alone.
    Raises:   BadConfig: a part has no sets, or one of them does not fit the features.
    """
    shape = config.student
    assert isinstance(shape, StudentConfig)  # boosted students are refused
    parts = [np.flatnonzero(sets.part == which) for which in (TRAIN, VALIDATION)]
    if not all(map(len, parts)):
        raise BadConfig("the training or the validation part of the examples is empty; choose another split")
    if sets.time_ms is not None:
        parts = [part[np.argsort(sets.time_ms[part], kind="stable")] for part in parts]
    stream, held = (sets.take(part) for part in parts)
    first = stream.take(np.arange(max(1, int(_FIRST * len(stream)))))
    torch.manual_seed(config.training.seed)

    def fresh(of: StudentConfig) -> Student:
        inputs = inputs_of(of, first.features, sets.of_request, aggregates or [], sets.target, Link.SIGMOID)
        return Student.fresh(of, inputs, first.features, base_of(first))

    teacher, student = fresh(live.teacher), fresh(shape)
    both = [replace(SetData.of(of), inputs=(*digested(teacher, of), *digested(student, of))) for of in (stream, held)]
    until = round(live.until * len(ordered_batches(both[0].lengths, config.training.tokens_per_batch)))
    objective = LiveDistillation(
        Distillation(teacher, live.losses, sets.relevant), Distillation(student, config.losses, sets.relevant), until
    )

    def validate() -> dict[str, float]:
        batches = [both[1].batch(rows) for rows in ordered_batches(held.sizes, 4 * config.training.tokens_per_batch)]
        return {"negative_loss": -loss_of(objective.alone, batches, [student(*b.inputs[2:]) for b in batches])}

    once = config.training.model_copy(update={"epochs": 1})
    train(objective, objective, both[0], validate, once, folder, start, in_order=True)
    if config.is_calibrated:
        student.rescale(*scale_and_shift(scores_of(student.eval(), held), held.is_positive))
    return student.eval(), teacher.eval()
