"""Checkpoints: safetensors files, each replaced atomically, with the facts of the run as JSON in the header.

A run keeps two: `checkpoint.safetensors`, where it is, and `best-E.safetensors`, the weights of its best epoch E so
far. The second is written before the first names it, and older ones are removed after, so that whenever the process
is killed, the checkpoint on disk and the file it names are whole and of one run.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from upnext.base.errors import BadArtifact

__all__ = ["Checkpoints", "RunState", "load_tensors", "save_tensors"]


@dataclass
class RunState:
    """Where a run is, apart from its tensors: what a checkpoint says in JSON."""

    recipe: str
    """What is trained, from what and how: a checkpoint of another recipe is never used."""
    device: str
    epoch: int = 0
    """The running epoch."""
    position: int = 0
    """Batches of the running epoch that are done."""
    step: int = 0
    batches: Mapping[str, Any] = field(default_factory=dict)
    """The state of the generator that shuffles, as the running epoch began."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of loss terms and of their weights over the running epoch."""
    best_epoch: int = -1
    best_metric: float = -torch.inf
    history: list[dict[str, Any]] = field(default_factory=list)
    """A row per finished epoch: what `history.jsonl` holds."""
    events: int = 0
    training_seconds: float = 0.0
    """Of the steps alone; `seconds` counts validation and checkpoints too."""
    seconds: float = 0.0


class Checkpoints:
    """The checkpoints of one run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "checkpoint.safetensors"

    def save(self, state: RunState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write where the run is: readers see the last checkpoint or this one.

        Raises:   BadArtifact: the folder cannot be written.
        """
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        tensors |= {f"random.{name}": state for name, state in _random_states(state.device).items()}
        save_tensors(self.path, tensors, asdict(state))
        for path in self.folder.glob("best-*.safetensors"):
            if path != self._best(state.best_epoch):
                path.unlink()

    def load(self, state: RunState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put a run where the last checkpoint left it; an empty folder leaves it at its beginning.

        Raises:   BadArtifact: a file is damaged, or of another recipe or device.
        """
        if not self.path.exists():
            return
        tensors, facts = load_tensors(self.path)
        for name, wanted in (("recipe", state.recipe), ("device", state.device)):
            if facts[name] != wanted:
                raise BadArtifact(
                    f"{self.path} is of the {name} {facts[name]!r}, this run is of {wanted!r}; run without --resume"
                )
        self._check_best(facts["best_epoch"])
        model.load_state_dict(_within(tensors, "model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _within(tensors, "optimizer.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        _set_random_states(state.device, _within(tensors, "random."))
        for one in fields(state):
            setattr(state, one.name, facts[one.name])

    def where(self) -> str | None:
        """Where the last checkpoint is, in words; None if there is none."""
        try:
            with safe_open(self.path, "pt") as file:
                facts = json.loads(file.metadata()["facts"])
                return f"at step {facts['step']:,}, in epoch {facts['epoch'] + 1}"
        except (OSError, ValueError, LookupError, TypeError, SafetensorError):
            return "at a checkpoint that is damaged" if self.path.exists() else None

    def save_best(self, epoch: int, model: nn.Module) -> None:
        """Write the weights of an epoch that is the best so far."""
        save_tensors(self._best(epoch), model.state_dict(), {"epoch": epoch})

    def load_best(self, epoch: int, model: nn.Module) -> None:
        """Give a model the weights of the best epoch."""
        model.load_state_dict(load_tensors(self._best(epoch))[0])

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch}.safetensors"

    def _check_best(self, epoch: int) -> None:
        if epoch >= 0:
            load_tensors(self._best(epoch))


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON-like facts as one file; readers see the old file or the new one.

    Raises:   BadArtifact: the folder cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, partial, {"facts": text, "digest": _digest(tensors, text)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise BadArtifact(f"cannot write {path}: {error}; make room, then go on with --resume") from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, compared with its digest.

    Raises:   BadArtifact: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Copies: views of the mapped file would change with it, and are not aligned as fresh tensors are.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if metadata.get("digest") != _digest(tensors, metadata.get("facts", "")):
            raise ValueError("its content does not match its digest")
        facts: dict[str, Any] = json.loads(metadata["facts"])
    except (OSError, ValueError, SafetensorError) as error:
        raise BadArtifact(f"the checkpoint {path} is missing or damaged ({error}); run without --resume") from None
    return tensors, facts


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _random_states(device: str) -> dict[str, Tensor]:
    """The states of the generators that dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    elif device == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_random_states(device: str, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device == "cuda":
        torch.cuda.set_rng_state(states["cuda"])
    elif device == "mps":
        torch.mps.set_rng_state(states["mps"])
