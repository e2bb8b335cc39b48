"""How much memory a training will need, and how much there is: asked before it starts.

Shape letters: P parameters, S of them with a sparse gradient, T tokens of the largest batch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from upnext.base.errors import UserError

__all__ = ["Need", "available_bytes", "check_memory", "largest_batch", "need_of"]

_FLOAT = 4


@dataclass(frozen=True)
class Need:
    """What a training holds at once, in bytes.

    On the device: 4 · (4 · P - S) (weights, gradients and AdamW's two moments) + 4 · activations; in the memory of
    the host: the log's events. Training on the CPU needs the sum.

    Args:     parameters: P; activations: float32 numbers that one step of the largest batch holds, which the
              objective knows; log: bytes of events that are still to be read; sparse: S, parameters whose gradient
              holds only the rows that occur, and counts with the activations.
    """

    parameters: int
    activations: int
    log: int
    sparse: int = 0

    @property
    def kept(self) -> int:
        """Bytes that stay from step to step: weights, dense gradients, moments."""
        return _FLOAT * (4 * self.parameters - self.sparse)

    @property
    def on_device(self) -> int:
        """Bytes where the model is."""
        return self.kept + _FLOAT * self.activations

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return self.on_device + self.log


def need_of(model: nn.Module, activations: int, num_events: int) -> Need:
    """What training a model takes; the model may be only its shapes, on the device `meta`.

    Args:     num_events: events of the log that are held in memory besides: five columns and their rows.
    """
    kinds = nn.Embedding | nn.EmbeddingBag
    tables = [module.weight for module in model.modules() if isinstance(module, kinds) and module.sparse]
    return Need(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        activations=activations,
        log=6 * 8 * num_events,
        sparse=sum(table.numel() for table in tables),
    )


def largest_batch(lengths: NDArray[np.int64], tokens_per_batch: int) -> int:
    """The most tokens that a batch of these rows can have, a start token per row and padding included.

    A batch whose longest row has l events has at most tokens_per_batch / l rows, at least one, and no more than
    there are rows of up to l events; each costs l + 1 tokens.

    Args:     lengths: (R,) events per row.
    Returns:  0 for no rows.
    """
    length, count = np.unique(np.maximum(lengths, 1), return_counts=True)
    rows = np.minimum(np.maximum(tokens_per_batch // length, 1), np.cumsum(count))
    return int(((length + 1) * rows).max(initial=0))


def check_memory(need: Need, device: torch.device, label: str) -> None:
    """Refuse a training that cannot fit, before it starts.

    Raises:   UserError: it needs more than there is; with what takes the room, and what to change.
    """
    wanted = need.total if device.type == "cpu" else need.on_device
    free = available_bytes(device)
    if free is not None and wanted > free:
        raise UserError(
            f"training {label} needs about {_size(wanted)} of memory, and {_size(free)} are free on {device.type}:"
            f" {_size(need.kept)} for {need.parameters:,} parameters with gradients and moments,"
            f" {_size(_FLOAT * need.activations)} for a batch, {_size(need.log)} for the log;"
            " lower model.width, model.layers or training.tokens_per_batch, or free memory"
        )


def available_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Memory that a new allocation could take; None where the system does not say.

    On the CPU, the least of `MemAvailable` and of what is left under the limit of each control group (v2 or v1)
    that the process is in; file pages that the kernel could drop count as free.

    Args:     root: where `proc` and `sys` are; tests have their own.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    known = [*_meminfo(root), *_control_groups(root)]
    return min(known) if known else None


def _meminfo(root: Path) -> list[int]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _control_groups(root: Path) -> list[int]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage, droppable = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            droppable = "total_inactive_file"
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):  # a parent's limit binds too; in a container, paths are the host's
            left.extend(_left(root / top / folder, limit, usage, droppable))
    return left


def _left(folder: Path, limit: str, usage: str, droppable: str) -> list[int]:
    try:
        allowed, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    return [] if allowed == "max" else [max(0, int(allowed) - used + int(statistics.get(droppable, 0)))]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
