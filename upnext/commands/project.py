"""A project: one TOML file that configures every stage and command."""

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from upnext.base.artifacts import Workspace
from upnext.base.configuration import Config, parse_config, read_toml
from upnext.events.split import LeaveLastOut
from upnext.fitting.finetuning import PairwiseConfig
from upnext.fitting.ranking import NeuralRankConfig
from upnext.models.argus import ARGUSConfig
from upnext.pipeline.evaluate import EvaluateConfig
from upnext.pipeline.finetune import FinetuneConfig
from upnext.pipeline.prepare import PrepareConfig, SimulatedSource
from upnext.pipeline.pretrain import PretrainConfig
from upnext.pipeline.publish import ReleaseSettings
from upnext.pipeline.rank import RankConfig
from upnext.pipeline.serve import ServeConfig
from upnext.simulation.settings import SimulationConfig

__all__ = ["Project", "load_project", "workspace_of"]

_TAKEN = ("frequency", "mean", "oracle")
"""What reports call their baselines and the simulation's truth."""

Named = TypeVar("Named", PretrainConfig, FinetuneConfig, RankConfig)


class Project(Config):
    """The whole configuration; each table belongs to the stage of its name."""

    workspace: Path
    """The folder for everything that is made; relative to the current directory."""
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

    @field_validator("pretrain", "finetune", "rank")
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
        tables: dict[str, Iterable[str]] = {"pretrain": self.pretrain, "finetune": self.finetune, "rank": self.rank}
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
        earlier: list[str] = []
        for name, ranker in self.rank.items():
            if isinstance(ranker, NeuralRankConfig):
                if ranker.start is not None and ranker.start not in earlier:
                    raise ValueError(f"rank.{name}.from is {ranker.start!r}; the neural rankers above it: {earlier}")
                earlier.append(name)
        if self.publish is not None:
            retrievers = sorted([*self.pretrain, *self.finetune])
            for key in ("retriever", "ranker", "popular"):
                model = getattr(self.publish, key)
                if key != "ranker" and model in self.rank:
                    raise ValueError(
                        f"publish.{key} is {model!r}, a model of [rank]: it retrieves nothing; choose one of"
                        f" {retrievers}"
                    )
                usable = retrievers if key != "ranker" else sorted(self.models)
                if model is not None and model not in usable:
                    raise ValueError(f"publish.{key} is {model!r}; the models are {usable}")
        return self

    @model_validator(mode="after")
    def _stages_are_models(self) -> Self:
        for number, pair in enumerate(self.evaluate.stages):
            for key, usable in (("retriever", [*self.pretrain, *self.finetune]), ("ranker", self.models)):
                if (name := getattr(pair, key)) not in usable:
                    raise ValueError(f"evaluate.stages[{number}].{key} is {name!r}; choose one of {sorted(usable)}")
        return self

    @property
    def models(self) -> list[str]:
        """The names of all models."""
        return [*self.pretrain, *self.finetune, *self.rank]

    def encoder_of(self, towers: FinetuneConfig) -> ARGUSConfig:
        """The shape of the model that two towers begin with."""
        encoder = self.pretrain[towers.start].model
        assert isinstance(encoder, ARGUSConfig)  # a project without is refused
        return encoder

    def opened(self) -> Workspace:
        """The workspace on disk."""
        return Workspace(self.workspace)


def load_project(file: Path, overrides: Sequence[str] = ()) -> Project:
    """Read a project's file, with `key=value` overrides.

    Raises:   BadConfig: what is wrong, where, and what is allowed.
    """
    return parse_config(Project, read_toml(file, overrides), str(file))


def workspace_of(target: Path, overrides: Sequence[str] = ()) -> Workspace:
    """The workspace of a project's file, or the one in a folder.

    Raises:   BadConfig: the file is wrong. BadArtifact: there is no such folder.
    """
    return Workspace.existing(load_project(target, overrides).workspace if target.suffix == ".toml" else target)
