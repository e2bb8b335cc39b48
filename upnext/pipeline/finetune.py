"""Finetune: a pre-trained ARGUS and impressions -> two towers, whose vectors can be computed ahead of time."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.configuration import Config, Duration
from upnext.base.errors import BadConfig, UserError
from upnext.evaluation.utility import compared, pair_validation
from upnext.events.impressions import Impressions
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, VALIDATION
from upnext.features.catalogue import Catalogue
from upnext.fitting.impressions import ChunkLimits, ImpressionData
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.build import load_model, read_inputs, save_model
from upnext.models.two_towers import TwoTowers, TwoTowersConfig
from upnext.objectives.pairwise import PairwiseRanking
from upnext.training.devices import choose_device
from upnext.training.loop import HISTORY, Start, TrainingConfig, train
from upnext.training.memory import check_memory, largest_batch, need_of

__all__ = ["FinetuneConfig", "check", "run"]


class FinetuneConfig(Config):
    """Two towers, fine-tuned to order what was shown together by the utility of what came of it."""

    kind: Literal["pairwise"]
    """What is learnt: the order of impressions."""
    start: Annotated[str, Field(alias="from")]
    """The ARGUS that it begins with, by its name in [pretrain]."""
    pretrained: bool = True
    """Begin with its weights. False: only its shape, with new weights."""
    width: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Width of the vectors that are stored."""
    lag: Annotated[Duration, Field(ge=0)] = 86_400_000
    """How old user vectors are when they are used: they know events strictly before the request's time - lag. A day
    for vectors that are computed daily, 0 for an encoder that runs for each request."""
    utility: Annotated[dict[str, float], Field(min_length=1)]
    """What a unit of each feedback is worth: `{ like = 1.0, played = 0.5, dislike = -1.0 }`."""
    window: Annotated[Duration, Field(gt=0)] | None = None
    """Compare the impressions of a user within windows of time: `"1d"`. Unset: those of one request."""
    longest_history: Annotated[int, Field(ge=2)] | None = None
    """Events of a chunk, at most. Unset: `max_length` of the model."""
    shortest_history: Annotated[int, Field(ge=1)] = 1
    """Impressions of which fewer events of the user are known are left out."""
    most_impressions: Annotated[int, Field(ge=2)] = 512
    """Impressions of a chunk, unless one request alone has more."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout in fine-tuning. Unset: that of the model."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained."""
    validation_cases: Annotated[int, Field(ge=1)] = 2000
    """On how many requests (or windows) of the validation part the early stopping computes pair accuracy, drawn
    once."""

    @model_validator(mode="after")
    def _histories_have_a_length(self) -> "FinetuneConfig":
        if self.longest_history is not None and self.longest_history <= self.shortest_history:
            raise ValueError(
                f"longest_history {self.longest_history} is not above shortest_history {self.shortest_history}"
            )
        return self

    def limits(self, encoder: ARGUSConfig) -> ChunkLimits:
        """The limits of a chunk.

        Raises:   BadConfig: the model reads shorter histories than were asked for.
        """
        longest = min(self.longest_history or encoder.max_length, encoder.max_length)
        if longest != (self.longest_history or longest) or longest <= self.shortest_history:
            asked = f"longest_history {self.longest_history}, shortest_history {self.shortest_history}"
            raise BadConfig(
                f"{asked}: {self.start!r} reads {encoder.max_length} events (max_length); it has to be at least"
                " longest_history and above shortest_history"
            )
        return ChunkLimits(longest, self.shortest_history, self.most_impressions)


def run(
    config: FinetuneConfig,
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
    dropout = encoder.dropout if config.dropout is None else config.dropout
    shape = TwoTowersConfig(encoder=encoder.model_copy(update={"dropout": dropout}), width=config.width, lag=config.lag)
    recipe = config.model_dump(mode="json", by_alias=True, exclude={"training": {"checkpoint_every"}})
    recipe["model"] = shape.model_dump(mode="json")

    def write(draft: Draft) -> None:
        start = Start(label=name, resume=resume, tell=tell)
        save_model(_fit(config, shape, parents, draft, start), draft.folder)

    return workspace.ensure(f"model-{name}", "model", recipe, parents, write)


def check(config: FinetuneConfig, log: EventLog) -> None:
    """Check that a log has what fine-tuning asks of it.

    Raises:   BadConfig: it does not.
    """
    if config.lag and not log.schema.has_times:
        raise BadConfig('a lag needs times, and this log has only an order; set lag = "0s"')
    Impressions.of(log, np.zeros(0, np.int64), config.utility, config.window)


def _fit(
    config: FinetuneConfig, shape: TwoTowersConfig, parents: list[Artifact], draft: Draft, start: Start
) -> TwoTowers:
    # 1. impressions of the training part, joined to what was known of their users
    folder = parents[0].folder
    log, part = EventLog.open(folder / "log"), np.load(folder / "split.npy")
    draft.schema = log.schema.digest()
    check(config, log)
    data = _data(config, shape.encoder, log, part, draft, start)
    # 2. the model, if there is room for it
    device = choose_device(config.training.device)
    items = Catalogue.load(folder).items
    inputs = read_inputs(shape.encoder, folder, log.schema, items)
    trained = torch.from_numpy(np.bincount(log.rows.item[part == TRAIN], minlength=len(items)) > 0)
    with torch.device("meta"):
        shapes = PairwiseRanking(TwoTowers(shape, inputs, items, trained))
    per_batch = config.training.tokens_per_batch
    activations = shapes.num_activations(largest_batch(data.lengths, per_batch), data.most_impressions(per_batch))
    check_memory(need_of(shapes, activations, 2 * len(log)), device, start.label)
    torch.manual_seed(config.training.seed)
    model = TwoTowers(shape, inputs, items.to(device), trained)
    if config.pretrained:
        pretrained = load_model(parents[1].folder, items)
        assert isinstance(pretrained, ARGUS)
        model.argus.load_state_dict(pretrained.state_dict())
        model.argus.trained |= trained  # impressions count as well
    objective = PairwiseRanking(model.to(device))
    # 3. training, with the pair accuracy of the validation part after each epoch
    held_out = compared(log, np.flatnonzero(part == VALIDATION), config.utility, config.window)
    validate = pair_validation(model, log, held_out, config.validation_cases, device)
    kept = draft.keep()
    start = Start(start.label, kept.name, start.resume, start.tell)
    result = train(objective, objective, data, validate, config.training, kept, start)
    shutil.copyfile(kept / HISTORY, draft.folder / HISTORY)
    draft.metrics |= asdict(result) | {"parameters": sum(p.numel() for p in model.parameters())}
    return model


def _data(
    config: FinetuneConfig, encoder: ARGUSConfig, log: EventLog, part: NDArray[np.int8], draft: Draft, start: Start
) -> ImpressionData:
    trained = part == TRAIN
    shown = Impressions.of(log, np.flatnonzero(trained), config.utility, config.window)
    paired = shown.with_partner()
    read = np.flatnonzero(trained & log.mask(encoder.view))
    data = ImpressionData.join(log, read, paired, config.lag, config.limits(encoder))
    counts = {
        "num_impressions": len(data.chunks.impression),
        "num_chunks": len(data.chunks),
        "num_impressions_without_pair": len(shown) - len(paired),
        "num_impressions_without_state": data.num_unknown,
    }
    draft.metrics |= counts
    start.tell(
        f"{counts['num_impressions']:,} impressions in {counts['num_chunks']:,} chunks; left out:"
        f" {counts['num_impressions_without_pair']:,} with nothing to compare them with,"
        f" {counts['num_impressions_without_state']:,} of users of whom too little was known before the lag"
    )
    if not len(data.chunks):
        raise UserError(
            f"nothing to fine-tune on: of {len(shown):,} impressions of the training part {len(paired):,} were shown"
            " with others of another utility, and of none of these enough was known before the lag; weigh other"
            " feedback, set a (longer) window, or shorten the lag"
        )
    return data
