"""The training loop. It knows no model, objective or data: they arrive as arguments.

One epoch: batches of similar lengths -> objective -> weighted sum of terms -> backward -> clip -> step; then
validation, a checkpoint, and a stop when validation has not improved for `patience` epochs.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from upnext.base.batches import SequenceBatch
from upnext.base.configuration import Config
from upnext.base.errors import UserError
from upnext.base.protocols import Objective
from upnext.training.batches import shuffled_batches
from upnext.training.checkpoint import load_checkpoint, save_checkpoint
from upnext.training.optimizers import adamw
from upnext.training.schedule import warmup_cosine

__all__ = ["TrainingConfig", "TrainingData", "TrainingResult", "train"]


class TrainingConfig(Config):
    """How long, how fast, and when to stop."""

    epochs: Annotated[int, Field(ge=1)] = 20
    """The most passes over the training part."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Stop after this many epochs without a better validation metric."""
    tokens_per_batch: Annotated[int, Field(ge=1)] = 6400
    """Events in a batch, padding included."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The peak of the schedule: linear warm-up, then a cosine down to a tenth."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's, on matrices; biases, norms and embeddings have none."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps of warm-up, at most a tenth of all steps."""
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    """The largest norm of a gradient."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of initialisation, dropout and the order of batches."""


class TrainingData(Protocol):
    """Chunks of histories: how long each is, how many targets they hold, and how to gather some."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,) events per chunk."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> SequenceBatch:
        """Gather chunks by number."""
        ...


@dataclass(frozen=True)
class TrainingResult:
    """What a run found: the best epoch's validation metric, and its cost."""

    best_epoch: int
    best_metric: float
    epochs: int
    events_per_s: float
    seconds: float


def train(
    model: nn.Module,
    objective: Objective,
    data: TrainingData,
    validate: Callable[[], dict[str, float]],
    config: TrainingConfig,
    folder: Path,
    *,
    label: str = "training",
) -> TrainingResult:
    """Train a model in place; it ends with the weights of its best epoch.

    Args:     validate: called after each epoch in evaluation mode; its first metric decides, larger is better.
              folder: receives `history.jsonl` (a line per epoch) and checkpoints while training runs.
    Raises:   UserError: nothing to train on, or the loss is no longer a number.
    """
    if not len(data.lengths):
        raise UserError("there is nothing to train on: no user has an event of the model's view in the training part")
    run = _Run(model, objective, data, config)
    best_epoch, best_metric = -1, -np.inf
    started = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task(label, total=None, events_per_s="", validation="")
        for epoch in range(config.epochs):
            losses = run.epoch(lambda: progress.update(task, **run.shown()))
            model.eval()
            with torch.inference_mode():
                metrics = validate()
            name, metric = next(iter(metrics.items()))
            progress.update(task, validation=f"{name} {metric:.4f}")
            save_checkpoint(folder / "last.safetensors", model, run.optimizer, run.step)
            if metric > best_metric:
                best_epoch, best_metric = epoch, metric
                save_checkpoint(folder / "best.safetensors", model, run.optimizer, run.step)
            _log(folder, {"epoch": epoch, "step": run.step, **losses, **metrics, "events_per_s": run.events_per_s})
            if epoch - best_epoch >= config.patience:
                break
        progress.update(task, completed=run.step, total=run.step)
    weights, _ = load_checkpoint(folder / "best.safetensors")
    model.load_state_dict(weights)
    for name in ("best.safetensors", "last.safetensors"):
        (folder / name).unlink()
    return TrainingResult(best_epoch, best_metric, epoch + 1, run.events_per_s, time.perf_counter() - started)


class _Run:
    """One run's optimiser, random order of the data, and counts."""

    def __init__(self, model: nn.Module, objective: Objective, data: TrainingData, config: TrainingConfig) -> None:
        self.model, self.objective, self.data, self.config = model, objective, data, config
        self.optimizer = adamw(model, config.learning_rate, config.weight_decay)
        self._generator = np.random.default_rng(config.seed)
        self._batches = self._shuffle()
        self._total_steps = len(self._batches) * config.epochs
        self._warmup_steps = min(config.warmup_steps, self._total_steps // 10)
        self.step = self._events = 0
        self._seconds = 0.0

    def _shuffle(self) -> list[NDArray[np.int64]]:
        return shuffled_batches(self.data.lengths, self.config.tokens_per_batch, self._generator)

    @property
    def events_per_s(self) -> float:
        """Events read per second of training, validation apart."""
        return self._events / max(self._seconds, 1e-9)

    def shown(self) -> dict[str, Any]:
        """What the progress bar shows after a step."""
        speed = f"{self.events_per_s:,.0f} events/s"
        return {"completed": self.step, "total": self._total_steps, "events_per_s": speed}

    def epoch(self, after_step: Callable[[], None]) -> dict[str, float]:
        """Go through the data once; returns the mean of each loss term."""
        self.model.train()
        sums: dict[str, float] = {}
        for rows in self._batches if self.step == 0 else self._shuffle():
            start = time.perf_counter()
            for group in self.optimizer.param_groups:
                factor = warmup_cosine(self.step, self._warmup_steps, self._total_steps)
                group["lr"] = self.config.learning_rate * factor
            batch = self.data.batch(rows)
            self._update(self.objective(batch, self.step), sums)
            self.step += 1
            self._events += int(batch.lengths.sum())
            self._seconds += time.perf_counter() - start
            after_step()
        return _means(sums)

    def _update(self, terms: dict[str, tuple[Tensor, Tensor]], sums: dict[str, float]) -> None:
        loss = torch.stack([total / weight.clamp(min=1) for total, weight in terms.values()]).sum()
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {loss.item()} at step {self.step}; lower training.learning_rate")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        for name, (total, weight) in terms.items():
            sums[name] = sums.get(name, 0.0) + total.item()
            sums[f"{name}.weight"] = sums.get(f"{name}.weight", 0.0) + weight.item()


def _means(sums: dict[str, float]) -> dict[str, float]:
    return {f"{name}_loss": sums[name] / max(1.0, sums[f"{name}.weight"]) for name in sums if f"{name}.weight" in sums}


def _log(folder: Path, row: dict[str, Any]) -> None:
    with (folder / "history.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[events_per_s]}"),
        TextColumn("{task.fields[validation]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
