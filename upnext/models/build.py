"""Which models there are, and how their checkpoints are written and read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from upnext.base.batches import ItemTable
from upnext.base.configuration import Config, parse_config
from upnext.base.errors import BadArtifact, BadConfig
from upnext.base.schema import Schema
from upnext.features.vocabulary import Vocabulary
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.boosted import Boosted
from upnext.models.main_model import MainModel, MainModelConfig
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.models.ranker_inputs import RankerInputs
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.models.student import LayersConfig, LinearConfig, Student, StudentInputs, TowersConfig
from upnext.models.two_towers import TwoTowers, TwoTowersConfig
from upnext.models.youtube import YouTubeRanker, YouTubeRankerConfig
from upnext.nn.encoders import Inputs

__all__ = [
    "RANKERS",
    "AnyModel",
    "AnyRanker",
    "ModelConfig",
    "load_any",
    "load_model",
    "read_inputs",
    "save_any",
    "save_model",
]

ModelConfig = Annotated[
    SASRecConfig | ARGUSConfig | TwoTowersConfig | PopularConfig | RecentlyPopularConfig, Field(discriminator="kind")
]

AnyModel = SASRec | ARGUS | TwoTowers | Popular | RecentlyPopular
"""What retrieves."""

AnyRanker = AnyModel | Boosted | MainModel | YouTubeRanker | Student
"""Any model, and those that retrieve nothing."""

RANKERS = ("boosted", "main", "youtube", "linear", "mlp", "towers")
"""The kinds that retrieve nothing."""


class _Checkpoint(Config):
    model: Annotated[
        ModelConfig | MainModelConfig | YouTubeRankerConfig | LinearConfig | LayersConfig | TowersConfig,
        Field(discriminator="kind"),
    ]
    inputs: Inputs | RankerInputs | StudentInputs | None = None
    """What the log offered, for a model that reads more than ids."""


def save_model(model: AnyModel | MainModel | YouTubeRanker | Student, folder: Path) -> None:
    """Write `model.json` (configuration) and `weights.safetensors` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = model.state_dict() if isinstance(model, torch.nn.Module) else model.tensors()
    if isinstance(model, ARGUS) and model.recent is not None:
        tensors = tensors | model.recent.tensors()
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / "weights.safetensors")
    inputs = {}
    if isinstance(model, ARGUS | TwoTowers | MainModel | YouTubeRanker | Student):
        inputs = {"inputs": model.inputs.model_dump(mode="json")}
    (folder / "model.json").write_text(json.dumps({"model": model.config.model_dump()} | inputs, indent=1))


def load_model(folder: Path, items: ItemTable) -> AnyModel:
    """Read a model that retrieves, as `save_model` wrote it; a neural model comes in evaluation mode.

    Args:     items: the catalogue, for models that read more of an item than its id.
    Raises:   BadArtifact: a file is missing or damaged, or it is a ranker.
    """
    model = load_any(folder, items)
    if isinstance(model, Boosted | MainModel | YouTubeRanker | Student):
        raise BadArtifact(f"{folder} holds a ranker, which retrieves nothing; name another model")
    return model


def load_any(folder: Path, items: ItemTable) -> AnyRanker:
    """Read what `save_model` or a ranker's `save` wrote.

    Raises:   BadArtifact: a file is missing or damaged.
    """
    if Boosted.is_in(folder):
        return Boosted.load(folder)
    try:
        data = json.loads((folder / "model.json").read_text())
        tensors = load_file(folder / "weights.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise BadArtifact(f"{folder} holds no whole model ({error}); run pretrain again") from None
    checkpoint = parse_config(_Checkpoint, data, str(folder / "model.json"))
    config, inputs = checkpoint.model, checkpoint.inputs
    try:
        match config:
            case ARGUSConfig() | TwoTowersConfig() if isinstance(inputs, Inputs):
                if isinstance(config, TwoTowersConfig):
                    return TwoTowers.from_tensors(config, inputs, items, tensors)
                return ARGUS.from_tensors(config, inputs, items, tensors)
            case MainModelConfig() if isinstance(inputs, RankerInputs):
                return MainModel.from_tensors(config, inputs, items, tensors)
            case YouTubeRankerConfig() if isinstance(inputs, RankerInputs):
                return YouTubeRanker.from_tensors(config, inputs, items, tensors)
            case LinearConfig() | LayersConfig() | TowersConfig() if isinstance(inputs, StudentInputs):
                return Student.from_tensors(config, inputs, tensors)
            case SASRecConfig():
                return SASRec.from_tensors(config, tensors)
            case PopularConfig():
                return Popular.from_tensors(config, tensors)
            case RecentlyPopularConfig():
                return RecentlyPopular.from_tensors(config, tensors)
            case _:
                raise KeyError("inputs")
    except (KeyError, RuntimeError) as error:
        raise BadArtifact(f"{folder} holds weights of another model ({error}); run pretrain again") from None


def save_any(model: AnyRanker, folder: Path) -> None:
    """Write what `load_any` reads."""
    if isinstance(model, Boosted):
        model.save(folder)
    else:
        save_model(model, folder)


def read_inputs(wanted: Sequence[str] | None, folder: Path, schema: Schema, items: ItemTable) -> Inputs:
    """What a model reads of the log in a folder.

    Args:     wanted: the contexts that it reads; None for all.
    Raises:   BadConfig: it is to read a context that the log does not have.
    """
    for name in wanted or []:
        if name not in schema.contexts:
            raise BadConfig(f"the model is to read a context {name!r}; the log has {sorted(schema.contexts)}")
    contexts = {
        name: len(Vocabulary.load(folder / f"context.{name}.vocabulary.arrow")) if kind == "categorical" else 0
        for name, kind in schema.contexts.items()
        if wanted is None or name in wanted
    }
    return Inputs.of(schema, contexts, items)
