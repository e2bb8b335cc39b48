"""A project: one TOML file that configures every stage and command."""

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from upnext.base.artifacts import Workspace
from upnext.base.configuration import parse_config, read_toml, with_lists
from upnext.base.errors import BadConfig
from upnext.commands.distilling import DistillProject
from upnext.events.sources.letor import LetorSource
from upnext.events.split import LeaveLastOut
from upnext.fitting.finetuning import PairwiseConfig
from upnext.fitting.ranking_config import NeuralRankConfig
from upnext.models.argus import ARGUSConfig
from upnext.models.popularity import RecentlyPopularConfig
from upnext.models.scorers import ReadsScores
from upnext.pipeline.distill import DistillConfig
from upnext.pipeline.evaluate import EvaluateConfig
from upnext.pipeline.finetune import FinetuneConfig
from upnext.pipeline.prepare import PrepareConfig, SimulatedSource
from upnext.pipeline.pretrain import PretrainConfig
from upnext.pipeline.publish import ReleaseSettings
from upnext.pipeline.rank import RankConfig
from upnext.pipeline.serve import ServeConfig
from upnext.simulation.settings import SimulationConfig

__all__ = ["Project", "load_any_project", "load_project", "workspace_of"]

_TAKEN = ("frequency", "mean", "oracle")
"""What reports call their baselines and the simulation's truth."""

_AGGREGATES = "aggregates"

Named = TypeVar("Named", PretrainConfig, FinetuneConfig, RankConfig, DistillConfig)


class Project(DistillProject):
    """The whole configuration; each table belongs to the stage of its name."""

    simulate: SimulationConfig | None = None
    """The synthetic service, if the project has one."""
    prepare: PrepareConfig
    """The source of the log, its views, and the split."""
    pretrain: Annotated[dict[str, PretrainConfig], Field(min_length=1)]
    """The models, by the names the other stages use."""
    finetune: dict[str, FinetuneConfig] = {}
    """Two towers made from models of [pretrain], by names that no other model has."""
    rank: dict[str, RankConfig] = {}
    """The rankers, by names that no other model has."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """The protocol."""
    publish: ReleaseSettings | None = None
    """The release. Without this table the run ends with the report."""
    serve: ServeConfig = ServeConfig()
    """The address."""

    @field_validator("pretrain", "finetune", "rank", "distill")
    @classmethod
    def _names_are_file_names(cls, models: dict[str, Named]) -> dict[str, Named]:
        for name in models:
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or name in _TAKEN:
                raise ValueError(
                    f"the model name {name!r}; use small letters, digits and hyphens, and none of {', '.join(_TAKEN)}:"
                    " reports call something else so"
                )
        return models

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if isinstance(self.prepare.source, SimulatedSource) != (self.simulate is not None):
            raise ValueError('a table [simulate] and prepare.source.kind = "simulated" go together: add or remove one')
        tables: dict[str, Iterable[str]] = {
            name: getattr(self, name) for name in ("pretrain", "finetune", "rank", "distill")
        }
        for one, other in combinations(tables, 2):
            for twice in sorted(set(tables[one]) & set(tables[other])):
                raise ValueError(f"[{one}] and [{other}] both have a model {twice!r}; rename one")
        for name, towers in self.finetune.items():
            usable = sorted(one for one, of in self.pretrain.items() if isinstance(of.model, ARGUSConfig))
            if towers.start not in usable:
                raise ValueError(f"finetune.{name}.from is {towers.start!r}; the ARGUS models of [pretrain]: {usable}")
            if isinstance(towers, PairwiseConfig) and isinstance(self.prepare.split, LeaveLastOut):
                raise ValueError(
                    f"finetune.{name} learns from pairs, and leave-last-out keeps one event per user for validation: no"
                    ' pair to stop by; set prepare.split.kind = "global_time", or kind = "retrieval"'
                )
        neural: list[str] = []
        for name, ranker in self.rank.items():
            if isinstance(ranker, NeuralRankConfig):
                if ranker.start is not None and ranker.start not in neural:
                    raise ValueError(f"rank.{name}.from is {ranker.start!r}; the neural rankers above it: {neural}")
                neural.append(name)
        if self.publish is not None:
            retrievers = sorted([*self.pretrain, *self.finetune])
            for key in ("retriever", "ranker", "popular"):
                model = getattr(self.publish, key)
                if key != "ranker" and (model in self.rank or model in self.distill):
                    table = "rank" if model in self.rank else "distill"
                    raise ValueError(
                        f"publish.{key} is {model!r}, a model of [{table}]: it retrieves nothing; choose one of"
                        f" {retrievers}"
                    )
                usable = retrievers if key != "ranker" else sorted(self.models)
                if model is not None and model not in usable:
                    raise ValueError(f"publish.{key} is {model!r}; the models are {usable}")
        return self

    @model_validator(mode="after")
    def _scorers_leave_events(self) -> Self:
        """What a model says or finds of events that it was trained on knows the answer: it has to hold some back."""
        if isinstance(self.prepare.split, LeaveLastOut):
            for where, key in self._times_asked_for():
                raise ValueError(
                    f'{where}.{key} needs a split by time: set prepare.split.kind = "global_time", or remove it'
                )
        retrievers = [*self.pretrain, *self.finetune]
        above = list(retrievers)
        for name, ranker in self.rank.items():
            for key, names in (
                ("scores", ranker.scores),
                ("vectors", ranker.vectors),
                ("candidates.retriever", ranker.finders),
            ):
                for scorer in names:
                    if key == "candidates.retriever" and scorer not in retrievers:
                        raise ValueError(f"rank.{name}.{key} is {scorer!r}; the retrievers: {retrievers}")
                    if scorer not in above:
                        raise ValueError(f"rank.{name}.{key} names {scorer!r}; the models above it: {above}")
                    if (lacks := self._holds_nothing_back(scorer)) is not None:
                        raise ValueError(
                            f"rank.{name}.{key} names {scorer!r}, and {lacks} is trained on all of the training part:"
                            " it knows what came of the events that the ranker is to learn from. Give"
                            f' {lacks}.hold_back, such as "2d"'
                        )
            above.append(name)
        return self

    def _holds_nothing_back(self, name: str) -> str | None:
        """The table that lacks a `hold_back`, if the model of a name knows answers of all of the training part."""
        if name in self.rank:
            ranker = self.rank[name]
            if ranker.hold_back is None:
                return f"rank.{name}"
            start = ranker.start if isinstance(ranker, NeuralRankConfig) else None
            return None if start is None else self._holds_nothing_back(start)
        if name in self.finetune:
            towers = self.finetune[name]
            if towers.hold_back is None:
                return f"finetune.{name}"
            return self._holds_nothing_back(towers.start) if towers.pretrained else None
        trained = self.pretrain[name]
        counts_before = isinstance(trained.model, RecentlyPopularConfig)  # what lies before a request, and no more
        return None if counts_before or trained.hold_back is not None else f"pretrain.{name}"

    def _times_asked_for(self) -> list[tuple[str, str]]:
        """The keys that say what time of the training part is left to whom, and who needs it."""
        models = [(f"pretrain.{name}", one) for name, one in self.pretrain.items()]
        found = [(where, "hold_back") for where, one in models if one.hold_back is not None]
        found += [(f"finetune.{name}", "hold_back") for name, one in self.finetune.items() if one.hold_back is not None]
        for name, ranker in self.rank.items():
            found += [(f"rank.{name}", key) for key in ReadsScores.model_fields if getattr(ranker, key)]
        return found

    @model_validator(mode="after")
    def _stages_are_models(self) -> Self:
        for number, pair in enumerate(self.evaluate.stages):
            for key, usable in (("retriever", [*self.pretrain, *self.finetune]), ("ranker", self.models)):
                if (name := getattr(pair, key)) not in usable:
                    raise ValueError(f"evaluate.stages[{number}].{key} is {name!r}; choose one of {sorted(usable)}")
        for number, two in enumerate(self.evaluate.uplift):
            for key in ("of", "over"):
                if (name := getattr(two, key)) not in self.models:
                    raise ValueError(
                        f"evaluate.uplift[{number}].{key} is {name!r}; choose one of {sorted(self.models)}"
                    )
        return self

    @property
    def models(self) -> list[str]:
        """The names of all models of the log."""
        of_files = {name for name, one in self.examples.items() if isinstance(one, LetorSource)}
        students = [name for name, one in self.distill.items() if one.examples not in of_files]
        return [*self.pretrain, *self.finetune, *self.rank, *students]

    @property
    def rankers(self) -> list[str]:
        """The names of models that can teach: rankers, and what foresees feedback besides."""
        return [*self.rank, *(name for name, one in self.pretrain.items() if isinstance(one.model, ARGUSConfig))]

    def encoder_of(self, towers: FinetuneConfig) -> ARGUSConfig:
        """The shape of the model that two towers begin with."""
        encoder = self.pretrain[towers.start].model
        assert isinstance(encoder, ARGUSConfig)  # a project without is refused
        return encoder


def load_project(file: Path, overrides: Sequence[str] = ()) -> Project:
    """Read a project's file, with `key=value` overrides.

    Raises:   BadConfig: what is wrong, where, and what is allowed.
    """
    return parse_config(Project, _read(file, overrides), str(file))


def load_any_project(file: Path, overrides: Sequence[str] = ()) -> DistillProject:
    """The same, or a file with examples and students alone: it has no table [prepare].

    Raises:   BadConfig: what is wrong, where, and what is allowed.
    """
    data = _read(file, overrides)
    is_whole = "prepare" in data or "examples" not in data
    project = parse_config(Project if is_whole else DistillProject, data, str(file))
    if not is_whole:
        of_log = [name for name, one in project.examples.items() if not isinstance(one, LetorSource)]
        if of_log:
            raise BadConfig(f"{file}: examples.{of_log[0]} are of the log, and there is no table [prepare]; add one")
    return project


def _read(file: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The plain data of a file, with the lists of [aggregates] put in where models name them."""
    data = read_toml(file, overrides)
    shared = data.get(_AGGREGATES, {})
    if not isinstance(shared, dict):
        raise BadConfig(f"{file}: [aggregates] holds lists by name, such as counts = [...] (found {shared!r})")
    try:
        return {
            name: table if name == _AGGREGATES else with_lists(table, _AGGREGATES, shared)
            for name, table in data.items()
        }
    except BadConfig as error:
        raise BadConfig(f"{file}: {error}") from None


def workspace_of(target: Path, overrides: Sequence[str] = ()) -> Workspace:
    """The workspace of a project's file, or the one in a folder.

    Raises:   BadConfig: the file is wrong. BadArtifact: there is no such folder.
    """
    return Workspace.existing(load_any_project(target, overrides).workspace if target.suffix == ".toml" else target)
