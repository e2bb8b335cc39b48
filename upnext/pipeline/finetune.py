"""Finetune: a pre-trained ARGUS and impressions -> two towers, whose vectors can be computed ahead of time."""

from collections.abc import Callable

import numpy as np
import torch

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadConfig
from upnext.events.impressions import Impressions
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.fitting.finetuning import FinetuneConfig, Given, PairwiseConfig, RetrievalConfig, check_lag, plan
from upnext.fitting.held_back import TRAINED_UNTIL, hold_back, latest
from upnext.fitting.trained import train_into
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.build import load_model, save_model
from upnext.models.two_towers import TwoTowers
from upnext.training.devices import choose_device
from upnext.training.loop import Start
from upnext.training.memory import check_memory

__all__ = ["FinetuneConfig", "check", "run"]


def run(
    config: PairwiseConfig | RetrievalConfig,
    encoder: ARGUSConfig,
    workspace: Workspace,
    name: str,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Fine-tune what the configuration calls `name`; up to date ones are found, not trained again.

    Args:     encoder: the shape of the model that it begins with; resume, tell: as in pretrain.
    """
    log = workspace.current("log", "log")
    parents = [log]
    if config.pretrained:
        parents.append(workspace.current(f"model-{config.start}", "model", log))
    recipe = config.model_dump(mode="json", by_alias=True, exclude={"training": {"checkpoint_every"}})
    recipe["model"] = config.shape(encoder).model_dump(mode="json")
    start = Start(label=name, resume=resume, tell=tell)

    def write(draft: Draft) -> None:
        save_model(_fit(config, encoder, parents, draft, start), draft.folder)

    return workspace.ensure(f"model-{name}", "model", recipe, parents, write)


def check(config: PairwiseConfig | RetrievalConfig, encoder: ARGUSConfig, log: EventLog) -> None:
    """Check that a log has what fine-tuning asks of it.

    Raises:   BadConfig, BadData: it does not.
    """
    check_lag(config.lag, log)
    config.limits(encoder)
    if isinstance(config, PairwiseConfig):
        Impressions.of(log, np.zeros(0, np.int64), config.utility, config.window)
    elif config.positives.view is not None:
        log.mask(config.positives.view)


def _fit(
    config: PairwiseConfig | RetrievalConfig, encoder: ARGUSConfig, parents: list[Artifact], draft: Draft, start: Start
) -> TwoTowers:
    # 1. impressions of the training part, joined to what was known of their users
    artifact = parents[0]
    log, split = EventLog.open(artifact.folder / "log"), artifact.manifest["metrics"]["split"]
    try:
        part, until = hold_back(log, np.load(artifact.folder / "split.npy"), split, config.hold_back)
    except BadConfig as error:
        raise BadConfig(f"finetune.{start.label}: {error}") from None
    if until is not None:  # what it begins with may have been trained on more
        draft.metrics[TRAINED_UNTIL] = max(until, latest(parents[1:]) or until)
    draft.schema = log.schema.digest()
    by_user = split["kind"] != "global_time"
    given = Given(artifact.folder, log, part, People.load(artifact.folder).features.columns, by_user)
    planned, device = plan(config, encoder, given), choose_device(config.training.device)
    draft.metrics |= planned.counts
    start.tell(planned.said)
    # 2. the model, if there is room for it
    check_memory(planned.need, device, start.label)
    torch.manual_seed(config.training.seed)
    objective = planned.make(device)
    model = objective.model
    if config.pretrained:
        pretrained, trained = (
            load_model(parents[1].folder, Catalogue.load(artifact.folder).items),
            model.trained.clone(),
        )
        assert isinstance(pretrained, ARGUS)
        model.argus.load_state_dict(pretrained.state_dict())
        model.argus.trained |= trained  # impressions count as well
    # 3. training; the validation part says when to stop
    train_into(draft, objective, planned.data, planned.validation(model), config.training, start)
    return model
