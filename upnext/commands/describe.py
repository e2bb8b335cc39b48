"""`upnext describe`: what every model of a project is and costs, before anything is trained."""

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from upnext.base.artifacts import Artifact
from upnext.base.errors import UserError
from upnext.base.views import ALL
from upnext.commands.project import Project
from upnext.evaluation.validation import validation_metric
from upnext.events.log import EventLog
from upnext.features.people import People
from upnext.fitting.pretraining import AnyObjective, Plan, PretrainConfig, plan
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.sasrec import SASRecConfig
from upnext.models.two_towers import TwoTowersConfig
from upnext.objectives.cost import Flops, StepShape, flops_of, parameters_of
from upnext.training.chunks import Chunks
from upnext.training.devices import choose_device
from upnext.training.loop import rehearse
from upnext.training.memory import available_bytes, check_memory

__all__ = ["describe", "describe_model", "epoch_flops"]

_STEPS = 9
"""Batches that are timed, spread evenly over the epoch's, from cheap to dear."""
_VALIDATION_CASES = 200


def describe(project: Project, console: Console, *, as_json: bool, limit_s: float = 20.0) -> None:
    """Print parameters, FLOPs, memory and expected time of every model, from the prepared log.

    The expected time comes from real training steps on real batches of the log, on this machine as it is now: a few
    batches, spread from the cheapest to the dearest, take so many seconds for so many FLOPs, and the epoch has so many.

    Args:     limit_s: seconds of timed steps per model.
    Raises:   BadArtifact: there is no log yet.
    """
    workspace = project.opened()
    parent = workspace.current("log", "log")
    log, part = EventLog.open(parent.folder / "log"), np.load(parent.folder / "split.npy")
    found = {
        name: describe_model(settings, parent, log, part, name, limit_s) for name, settings in project.pretrain.items()
    }
    if as_json:
        console.print_json(json.dumps(found), indent=None)
        return
    for name, facts in found.items():
        console.print(f"[bold]{name}[/bold]  {facts['kind']}")
        if facts["parameters"] is None:
            is_counted = not isinstance(project.pretrain[name].model, TwoTowersConfig)
            counted = "counted, not trained: no parameters, and seconds at most"
            console.print(f"  {counted if is_counted else 'two towers are not described'}")
        else:
            console.print(_table(facts))


def describe_model(
    config: PretrainConfig, parent: Artifact, log: EventLog, part: NDArray[np.int8], name: str, limit_s: float
) -> dict[str, Any]:
    """What one model costs to train; times are None where it does not fit into memory."""
    if not isinstance(config.model, SASRecConfig | ARGUSConfig):
        return {"kind": config.model.kind, "parameters": None}
    planned = plan(config, parent, log, part)
    lengths, events = planned.chunks.lengths, int(planned.chunks.lengths.sum())
    if not events:
        raise UserError(f"{name}: no event of the view {config.model.view!r} is in the training part")
    device = choose_device(config.training.device)
    facts: dict[str, Any] = {
        "kind": config.model.kind,
        "parameters": parameters_of(planned.shapes),
        "memory": {
            "kept_bytes": planned.need.kept,
            "batch_bytes": planned.need.on_device - planned.need.kept,
            "log_bytes": planned.need.log,
            "free_bytes": available_bytes(device),
        },
        "epoch": {"events": events, "chunks": len(lengths)},
        "epochs": config.training.epochs,
    }
    try:
        check_memory(planned.need, device, name)
    except UserError as error:
        return facts | {"does_not_fit": str(error), "seconds": None}
    torch.manual_seed(config.training.seed)
    objective = planned.make(device)
    return facts | _timed(config, objective, planned, _validation_of(config, objective, parent, log, part), limit_s)


def _timed(
    config: PretrainConfig, objective: AnyObjective, planned: Plan, validation_s: float, limit_s: float
) -> dict[str, Any]:
    """FLOPs of an epoch, and the seconds that it will take."""
    found: list[Flops] = []

    def choose(batches: Sequence[NDArray[np.int64]]) -> list[int]:
        found.extend(epoch_flops(config, objective, planned.chunks, batches))
        by_cost = np.argsort([flops.training for flops in found], kind="stable")
        places = (np.arange(min(_STEPS, len(batches))) + 0.5) * len(batches) / min(_STEPS, len(batches))
        chosen = by_cost[places.astype(np.int64)]
        # From the middle outwards: whenever time is up, what was timed is about average.
        return [int(chosen[at]) for at in np.argsort(np.abs(np.arange(len(chosen)) - (len(chosen) - 1) / 2))]

    chunks, training = planned.chunks, config.training
    rehearsal = rehearse(objective, objective, chunks, training, choose, limit_s)
    seconds = sum(rehearsal.seconds.values())
    total = sum(found, Flops())
    rate = sum(found[number].training for number in rehearsal.seconds) / seconds
    epoch_s, events = total.training / rate, int(chunks.lengths.sum())
    return {
        "flops_per_event": {"forward": total.forward / events, "training": total.training / events},
        "flops_parts": {part: value / events for part, value in vars(total).items()},
        "steps_per_epoch": len(rehearsal.batches),
        "seconds": {
            "epoch": epoch_s,
            "validation": validation_s,
            "total": (epoch_s + validation_s) * training.epochs,
            "events_per_s": events / epoch_s,
            "gflops_per_s": rate / 1e9,
            "timed_steps": len(rehearsal.seconds),
        },
    }


def epoch_flops(
    config: PretrainConfig, objective: AnyObjective, chunks: Chunks, batches: Sequence[NDArray[np.int64]]
) -> list[Flops]:
    """FLOPs of each batch, padding included.

    Every event counts as a target; a batch counts as many distinct items as it has events, or the catalogue has.
    """
    asked = 1.0
    view = config.tasks.next_item_view if isinstance(config.model, ARGUSConfig) else None
    if isinstance(config.model, ARGUSConfig) and config.tasks.next_item == 0:
        asked = 0.0
    elif view not in (None, ALL):
        asked = float(chunks.events.views[str(view)].mean())
    lengths, model = chunks.lengths, objective.model
    num_items = len(model.items) if isinstance(model, ARGUS) else len(model.trained)
    shapes = (
        StepShape(len(rows), int(lengths[rows].max()), events, round(asked * events), min(events, num_items))
        for rows in batches
        for events in (int(lengths[rows].sum()),)
    )
    return [flops_of(objective, shape) for shape in shapes]


def _validation_of(
    config: PretrainConfig, objective: AnyObjective, parent: Artifact, log: EventLog, part: NDArray[np.int8]
) -> float:
    """Seconds of a validation, from one on some of its cases."""
    people, by_user = People.load(parent.folder), parent.manifest["metrics"]["split"]["kind"] != "global_time"
    few = min(_VALIDATION_CASES, config.validation_cases)
    validate = validation_metric(objective.model, log, part, few, people.features.columns, by_user)
    objective.model.eval()
    with torch.inference_mode():
        validate()  # to warm up
        start = time.perf_counter()
        validate()
    return (time.perf_counter() - start) * config.validation_cases / few


def _table(facts: dict[str, Any]) -> Table:
    parameters, memory, epoch = facts["parameters"], facts["memory"], facts["epoch"]
    table = Table.grid(padding=(0, 2))
    parts = ", ".join(f"{name} {count:,}" for name, count in parameters.items())
    table.add_row("  parameters", f"{sum(parameters.values()):,}: {parts}")
    rows = (("weights, gradients, moments", "kept"), ("the largest batch", "batch"), ("the log", "log"))
    needs = ", ".join(f"{memory[f'{key}_bytes'] / 1e9:.2f} GB for {what}" for what, key in rows)
    free = "" if memory["free_bytes"] is None else f"; {memory['free_bytes'] / 1e9:.1f} GB are free"
    table.add_row("  memory", needs + free)
    if facts["seconds"] is None:
        table.add_row("  time", facts["does_not_fit"])
        return table
    per_event, seconds = facts["flops_per_event"], facts["seconds"]
    shares = ", ".join(
        f"{name} {value / per_event['forward']:.0%}" for name, value in facts["flops_parts"].items() if value
    )
    table.add_row(
        "  FLOPs per event",
        f"{_count(per_event['forward'])} forward ({shares}), {_count(per_event['training'])} trained",
    )
    table.add_row("  an epoch", f"{epoch['events']:,} events in {facts['steps_per_epoch']:,} steps")
    table.add_row(
        "  time, about",
        f"{_duration(seconds['epoch'])} an epoch at {seconds['events_per_s']:,.0f} events/s"
        f" ({seconds['gflops_per_s']:.0f} GFLOP/s), {_duration(seconds['validation'])} a validation;"
        f" at most {_duration(seconds['total'])} for {facts['epochs']} epochs",
    )
    return table


def _count(flops: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if flops >= size:
            return f"{flops / size:.1f} {unit}"
    return f"{flops / 1e3:.1f} k"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
