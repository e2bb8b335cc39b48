"""`upnext distill`: examples -> teachers, fold by fold -> students -> a report side by side."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

from pydantic import model_validator

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import Config
from upnext.base.errors import BadConfig
from upnext.events.sources.letor import LetorSource
from upnext.features.aggregates import Aggregate
from upnext.models.main_model import MainModelConfig
from upnext.pipeline import compare, distill
from upnext.pipeline.distill import DistillConfig, ExamplesConfig
from upnext.training.loop import Start

__all__ = ["DistillProject", "SaidByOther", "no_other", "student_steps"]

SaidByOther = Callable[[str, DistillConfig], Artifact]
"""What a model says that is not of [distill], by its name, to a student."""


class DistillProject(Config):
    """Examples and students alone: for who has candidates with features and labels, and no log of events."""

    workspace: Path
    """The folder for everything that is made; relative to the current directory."""
    aggregates: dict[str, list[Aggregate]] = {}
    """Lists of aggregates that several tables share, by names of your choice: `aggregates = "counts"` reads `counts`,
    and so does `aggregates = ["counts", { by = ["item"] }]`, with one more."""
    examples: dict[str, ExamplesConfig] = {}
    """Example sets, by names of your choice: of the log, or of learning-to-rank files."""
    distill: dict[str, DistillConfig] = {}
    """Students, and teachers over the same examples, by names that no other model has."""

    @model_validator(mode="after")
    def _students_have_examples_and_teachers(self) -> Self:
        above: dict[str, DistillConfig] = {}
        for name, student in self.distill.items():
            if student.examples not in self.examples:
                raise ValueError(
                    f"distill.{name}.examples is {student.examples!r}; [examples] has {sorted(self.examples)}"
                )
            of_files = isinstance(self.examples[student.examples], LetorSource)
            if of_files and isinstance(student.student, MainModelConfig):
                raise ValueError(
                    f"distill.{name}.student is a main model, which reads a log; the examples {student.examples!r} are"
                    " files: choose another kind of student"
                )
            alike = [other for other, one in above.items() if one.examples == student.examples]
            usable = sorted([*alike, *([] if of_files else self.rankers)])
            for teacher in student.teachers:
                if teacher not in usable:
                    raise ValueError(
                        f"distill.{name}.teacher is {teacher!r}; it can be one of {usable}: rankers of the log where"
                        " the examples are of the log, and models of [distill] above it with the same examples"
                    )
            above[name] = student
        return self

    @property
    def rankers(self) -> list[str]:
        """The names of models that can teach, besides those of [distill]: none without a log."""
        return []

    def opened(self) -> Workspace:
        """The workspace on disk."""
        return Workspace(self.workspace)


def student_steps(
    project: DistillProject,
    said_by_other: SaidByOther,
    tell: Callable[[str, str], None],
    resume: bool,
    live: bool = False,
) -> Iterator[tuple[str, Callable[[], Artifact]]]:
    """What is to be made, in order, each with its label.

    Args:     tell: hears a label and what is worth saying. live: only students that learn beside their teachers.
    """
    workspace = project.opened()
    if live and not any(one.live for one in project.distill.values()):
        raise BadConfig("--live: no student has a table [distill.NAME.live]; add one, or leave --live out")
    for name, config in project.examples.items():
        yield f"examples {name}", partial(distill.make_examples, config, workspace, name)

    def start(label: str) -> Start:
        return Start(label=label, resume=resume, tell=partial(tell, label))

    def said(teacher: str, to: DistillConfig) -> Artifact:
        if teacher not in project.distill:
            return said_by_other(teacher, to)
        config = project.distill[teacher]
        heard = [said(other, config) for other in config.teachers]
        return distill.said_by(config, to.folds, workspace, teacher, heard, start(f"distill {teacher} as a teacher"))

    def make(name: str) -> Artifact:
        config = project.distill[name]
        heard = [said(teacher, config) for teacher in config.teachers]
        return distill.run(config, workspace, name, heard, start(f"distill {name}"))

    for name in [name for name, one in project.distill.items() if one.live or not live]:
        yield f"distill {name}", partial(make, name)
    for examples in project.examples:
        all_of = {name: one for name, one in project.distill.items() if one.examples == examples}
        students = {name: one for name, one in all_of.items() if one.live or not live}
        if students:
            yield f"compare {examples}", partial(_compared, project, examples, students, said)


def _compared(
    project: DistillProject,
    examples: str,
    students: dict[str, DistillConfig],
    said: Callable[[str, DistillConfig], Artifact],
) -> Artifact:
    workspace = project.opened()
    parent = workspace.current(f"examples-{examples}", "examples")
    models = {name: workspace.current(f"model-{name}", "model", parent) for name in students}
    teachers = {teacher: said(teacher, one) for one in students.values() for teacher in one.teachers}
    rankers = {name: workspace.current(f"model-{name}", "model") for name in teachers if name not in project.distill}
    return compare.run(workspace, examples, models, teachers, rankers)


def no_other(teacher: str, _: DistillConfig) -> Artifact:
    """In a project without a log nobody else can teach."""
    raise BadConfig(f"there is no model {teacher!r}")
