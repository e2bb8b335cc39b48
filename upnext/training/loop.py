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
    patience: Annotated[int, Field(ge=1)] = 3
    """Stop after this many epochs without a better validation metric."""
    tokens_per_batch: Annotated[int, Field(ge=1)] = 6400
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0


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
    generator = np.random.default_rng(config.seed)
    optimizer = adamw(model, config.learning_rate, config.weight_decay)
    batches = shuffled_batches(data.lengths, config.tokens_per_batch, generator)
    total_steps = len(batches) * config.epochs
    warmup_steps = min(config.warmup_steps, total_steps // 10)
    step, best_epoch, best_metric, events, training_s = 0, -1, -np.inf, 0, 0.0
    started = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task(label, total=total_steps, events_per_s="", validation="")
        for epoch in range(config.epochs):
            epoch_start = time.perf_counter()
            model.train()
            sums: dict[str, float] = {}
            for rows in batches if epoch == 0 else shuffled_batches(data.lengths, config.tokens_per_batch, generator):
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * warmup_cosine(step, warmup_steps, total_steps)
                batch = data.batch(rows)
                _step(model, objective(batch, step), optimizer, config.gradient_clip, step, sums)
                step += 1
                events += int(batch.lengths.sum())
                rate = events / (training_s + time.perf_counter() - epoch_start)
                progress.update(task, advance=1, events_per_s=f"{rate:,.0f} events/s")
            training_s += time.perf_counter() - epoch_start
            model.eval()
            with torch.inference_mode():
                metrics = validate()
            name, metric = next(iter(metrics.items()))
            progress.update(task, validation=f"{name} {metric:.4f}")
            is_better = metric > best_metric
            save_checkpoint(folder / "last.safetensors", model, optimizer, step)
            if is_better:
                best_epoch, best_metric = epoch, metric
                save_checkpoint(folder / "best.safetensors", model, optimizer, step)
            _log(folder, {"epoch": epoch, "step": step, **_means(sums), **metrics, "events_per_s": events / training_s})
            if epoch - best_epoch >= config.patience:
                break
        progress.update(task, completed=step, total=step)
    weights, _ = load_checkpoint(folder / "best.safetensors")
    model.load_state_dict(weights)
    for name in ("best.safetensors", "last.safetensors"):
        (folder / name).unlink()
    seconds = time.perf_counter() - started
    return TrainingResult(best_epoch, best_metric, epoch + 1, events / training_s, seconds)


def _step(
    model: nn.Module,
    terms: dict[str, tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    gradient_clip: float,
    step: int,
    sums: dict[str, float],
) -> None:
    loss = torch.stack([total / weight.clamp(min=1) for total, weight in terms.values()]).sum()
    if not torch.isfinite(loss):
        raise UserError(f"the loss is {loss.item()} at step {step}; lower training.learning_rate")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), gradient_clip)
    optimizer.step()
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
