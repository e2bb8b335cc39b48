"""Ablations of fine-tuning: what pre-training is worth, and the length of fine-tuning."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from upnext.base.artifacts import Artifact, Workspace
from upnext.commands.project import Project
from upnext.evaluation.utility import UTILITY
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting.finetuning import PairwiseConfig
from upnext.models.argus import ARGUSConfig
from upnext.models.build import load_model
from upnext.models.two_towers import TwoTowers
from upnext.pipeline import finetune, pretrain
from upnext.pipeline.subjects import Shown
from upnext.pipeline.told import Scorers

__all__ = ["fine_tuning_rows"]

Tell = Callable[[str, str], None]


def fine_tuning_rows(
    project: Project, model: str, workspace: Workspace, tell: Tell, *, resume: bool = False
) -> list[dict[str, Any]]:
    """Fine-tune each pairwise table that begins with a model in every variant, and measure how it orders.

    Args:     model: a name in [pretrain]; tell: hears a label and what is worth saying.
    Returns:  tidy rows: towers, variant, minutes, metric, value, low, high; none where no table begins with the model.
    """
    encoder = project.pretrain[model].model
    tables = {name: one for name, one in project.finetune.items() if one.start == model}
    pairwise = {name: one for name, one in tables.items() if isinstance(one, PairwiseConfig)}
    if not pairwise or not isinstance(encoder, ARGUSConfig):
        return []
    pretrain.run(project.pretrain[model], workspace, model, resume=resume, tell=partial(tell, model))
    rows = []
    for name, config in pairwise.items():
        made = {}
        for variant, changed in _variants(config).items():
            label = name if changed == config else f"{name}-{variant.replace(' ', '-')}"
            heard = partial(tell, label)
            made[variant] = finetune.run(changed, encoder, workspace, label, resume=resume, tell=heard)
        rows += _measured(project, workspace.current("log", "log"), name, config, made)
    return rows


def _variants(config: PairwiseConfig) -> dict[str, PairwiseConfig]:
    """As it is, with new weights, and with half the epochs, where these differ."""
    half = config.training.model_copy(update={"epochs": max(1, config.training.epochs // 2)})
    found = {
        "as configured": config,
        "no pretraining": config.model_copy(update={"pretrained": False}),
        "half the epochs": config.model_copy(update={"training": half}),
    }
    return {name: one for name, one in found.items() if name == "as configured" or one != config}


def _measured(
    project: Project, parent: Artifact, towers: str, config: PairwiseConfig, made: dict[str, Artifact]
) -> list[dict[str, Any]]:
    """Pair accuracy and NDCG of utility over the test part, by variant."""
    log, part = EventLog.open(parent.folder / "log"), np.load(parent.folder / "split.npy")
    items, people = Catalogue.load(parent.folder).items, People.load(parent.folder).features.columns
    models = {variant: load_model(artifact.folder, items) for variant, artifact in made.items()}
    assert all(isinstance(one, TwoTowers) for one in models.values())
    shown = Shown(parent, log, part, items, people, [], Scorers({}, {}, log, items))
    found = shown.figures(models, config.utility, config.window, project.evaluate.bootstrap_samples)
    minutes = {variant: artifact.manifest["metrics"]["seconds"] / 60 for variant, artifact in made.items()}
    return [
        {"towers": towers, "variant": row["model"], "minutes": minutes[row["model"]]}
        | {key: row[key] for key in ("metric", "value", "low", "high")}
        for row in found.feedback
        if row["feedback"] == UTILITY and row["model"] in made
    ]
