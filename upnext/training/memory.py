"""How much memory a training will need, and how much there is: asked before it starts.

Shape letters: P parameters, T tokens of the largest batch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.errors import UserError

__all__ = ["Need", "available_bytes", "check_memory", "largest_batch"]

_FLOAT = 4


@dataclass(frozen=True)
class Need:
    """What a training holds at once, in bytes.

    On the device: 4 · 4 · P (weights, gradients and AdamW's two moments) + 4 · activations; in the memory of the
    host: the log's events. Training on the CPU needs the sum.

    Args:     parameters: P; activations: float32 numbers that one step of the largest batch holds, which the
              objective knows; log: bytes of events that are still to be read.
    """

    parameters: int
    activations: int
    log: int

    @property
    def on_device(self) -> int:
        """Bytes where the model is."""
        return 4 * _FLOAT * self.parameters + _FLOAT * self.activations

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return self.on_device + self.log


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
            f" {_size(4 * _FLOAT * need.parameters)} for {need.parameters:,} parameters with gradients and moments,"
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
