"""The training loop. It knows no model, objective or data: they arrive as arguments.

One epoch: batches of similar lengths -> objective -> weighted sum of terms -> backward -> clip -> step; then
validation, a checkpoint, and a stop when validation has not improved for `patience` epochs. Every `checkpoint_every`
steps there is a checkpoint as well, from which a killed run goes on bit for bit.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from upnext.base.configuration import Config
from upnext.base.errors import UserError
from upnext.base.files import replace_file
from upnext.base.protocols import Objective, TrainingBatch
from upnext.training.batches import ordered_batches, shuffled_batches
from upnext.training.checkpoint import Checkpoints, RunState
from upnext.training.devices import Device
from upnext.training.optimizers import adamw, clip_gradients
from upnext.training.schedule import warmup_cosine

__all__ = ["HISTORY", "Rehearsal", "Start", "TrainingConfig", "TrainingData", "TrainingResult", "rehearse", "train"]

HISTORY = "history.jsonl"
"""The file of the learning curve: a line per epoch, the same bytes for the same seed on the same machine."""


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
    device: Device = "auto"
    """Where to compute. `auto` is CUDA where there is some, else the CPU."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in linear layers and in the softmax; weights, sums and, on the CPU, attention stay float32."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    """Steps between checkpoints, besides the one after each epoch; it changes no result."""


_Batch = TypeVar("_Batch", bound=TrainingBatch)
_Given = TypeVar("_Given", bound=TrainingBatch, covariant=True)


class TrainingData(Protocol[_Given]):
    """Chunks of histories: how long each is, how many targets they hold, and how to gather some."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,) events per chunk."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> _Given:
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


@dataclass(frozen=True)
class Start:
    """How a run begins."""

    label: str = "training"
    """The name on the progress bar."""
    recipe: str = ""
    """What is trained, from what and how: a checkpoint of another recipe is never used."""
    resume: bool = False
    """Go on from the folder's checkpoint, if it has one; else the first new checkpoint replaces it."""
    tell: Callable[[str], None] = lambda _: None
    """Hears where the run goes on, and where it could."""


def train(
    model: nn.Module,
    objective: Objective[_Batch],
    data: TrainingData[_Batch],
    validate: Callable[[], dict[str, float]],
    config: TrainingConfig,
    folder: Path,
    start: Start | None = None,
    *,
    in_order: bool = False,
) -> TrainingResult:
    """Train a model in place, on the device it is on; it ends with the weights of its best epoch.

    A run that is killed at any moment and resumed, as often as it takes, gives the same bytes as one that was not,
    on the CPU with the same number of threads. Randomness has to come from torch's default generators.

    Args:     validate: called after each epoch in evaluation mode; its first metric decides, larger is better.
              folder: receives checkpoints, and `history.jsonl`, a line per epoch; one run at a time may use it.
              in_order: batches come in the order of the data, as a stream brings them, and are not shuffled.
    Raises:   UserError: nothing to train on, or the loss is no longer a number.
              BadArtifact: the checkpoint to go on from is damaged, or of another recipe or device.
    """
    if not len(data.lengths):
        raise UserError("there is nothing to train on: no user has an event of the model's view in the training part")
    start = start or Start()
    checkpoints, tell = Checkpoints(folder), start.tell
    run = _Run(model, objective, data, config, start.recipe, in_order)
    where = checkpoints.where()
    if start.resume:
        checkpoints.load(run.state, model, run.optimizer)
        tell(f"goes on {where}" if where else "nothing to resume; starts at the beginning")
    elif where:
        tell(f"starts over; an interrupted training stopped {where}: stop now and add --resume to go on with it")
    try:
        _fit(run, checkpoints, validate, start.label)
    except KeyboardInterrupt:
        if where := checkpoints.where():
            tell(f"interrupted; --resume goes on {where}")
        raise
    state = run.state
    checkpoints.load_best(state.best_epoch, model)
    return TrainingResult(state.best_epoch, state.best_metric, state.epoch, run.events_per_s, state.seconds)


def _fit(run: "_Run[_Batch]", checkpoints: Checkpoints, validate: Callable[[], dict[str, float]], label: str) -> None:
    """Go through the epochs that are left."""
    state, config, earlier, started = run.state, run.config, run.state.seconds, time.perf_counter()

    def save() -> None:
        state.seconds = earlier + time.perf_counter() - started
        checkpoints.save(state, run.model, run.optimizer)

    with _progress() as progress:
        task = progress.add_task(label, validation="", **run.shown())

        def after_step() -> None:
            progress.update(task, **run.shown())
            if state.step % config.checkpoint_every == 0:
                save()

        while state.epoch < config.epochs and state.epoch - 1 - state.best_epoch < config.patience:
            losses = run.epoch(after_step)
            run.model.eval()
            with torch.inference_mode():
                metrics = validate()
            name, metric = next(iter(metrics.items()))
            progress.update(task, validation=f"{name} {metric:.4f}")
            if metric > state.best_metric:
                checkpoints.save_best(state.epoch, run.model)
                state.best_epoch, state.best_metric = state.epoch, float(metric)
            run.next_epoch({"epoch": state.epoch, "step": state.step, **losses, **metrics})
            save()
            _write_history(checkpoints.folder, state)
        progress.update(task, completed=state.step, total=state.step)
    _write_history(checkpoints.folder, state)


class _Run(Generic[_Batch]):
    """One run's optimiser, random order of the data, and counts."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[_Batch],
        data: TrainingData[_Batch],
        config: TrainingConfig,
        recipe: str,
        in_order: bool = False,
    ) -> None:
        self.in_order = in_order
        self.model, self.objective, self.data, self.config = model, objective, data, config
        self.device = next(model.parameters()).device
        self.optimizer = adamw(model, config.learning_rate, config.weight_decay)
        self._generator = np.random.default_rng(config.seed)
        self.state = RunState(recipe, self.device.type, batches=self._generator.bit_generator.state)
        self._total_steps = len(self.batches()) * config.epochs
        self._warmup_steps = min(config.warmup_steps, self._total_steps // 10)

    def batches(self) -> list[NDArray[np.int64]]:
        """The running epoch's batches: those of the generator as the epoch began, or in the order of the data."""
        if self.in_order:
            return ordered_batches(self.data.lengths, self.config.tokens_per_batch)
        self._generator.bit_generator.state = self.state.batches
        return shuffled_batches(self.data.lengths, self.config.tokens_per_batch, self._generator)

    @property
    def events_per_s(self) -> float:
        """Events read per second of training, validation apart."""
        return self.state.events / max(self.state.training_seconds, 1e-9)

    def shown(self) -> dict[str, Any]:
        """What the progress bar shows after a step."""
        speed = f"{self.events_per_s:,.0f} events/s"
        return {"completed": self.state.step, "total": self._total_steps, "events_per_s": speed}

    def epoch(self, after_step: Callable[[], None]) -> dict[str, float]:
        """Go through the rest of the epoch's batches; returns the mean of each loss term over the epoch."""
        self.model.train()
        state = self.state
        for rows in self.batches()[state.position :]:
            start = time.perf_counter()
            state.events += self.learn(rows)
            state.position += 1
            state.training_seconds += time.perf_counter() - start
            after_step()
        return _means(state.sums)

    def learn(self, rows: NDArray[np.int64]) -> int:
        """One step on one batch; returns how many events it holds."""
        state = self.state
        for group in self.optimizer.param_groups:
            factor = warmup_cosine(state.step, self._warmup_steps, self._total_steps)
            group["lr"] = self.config.learning_rate * factor
        batch = self.data.batch(rows)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            terms = self.objective(batch.to(self.device), state.step)
        self._update(terms, state.sums)
        state.step += 1
        return int(batch.lengths.sum())

    def next_epoch(self, row: dict[str, Any]) -> None:
        """Close the epoch with its row of the history, and stand at the beginning of the next."""
        state = self.state
        state.history.append(row)
        state.epoch, state.position, state.sums = state.epoch + 1, 0, {}
        state.batches = self._generator.bit_generator.state

    def _update(self, terms: dict[str, tuple[Tensor, Tensor]], sums: dict[str, float]) -> None:
        loss = torch.stack([total / torch.where(weight > 0, weight, 1) for total, weight in terms.values()]).sum()
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {loss.item()} at step {self.state.step}; lower training.learning_rate")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        for name, (total, weight) in terms.items():
            sums[name] = sums.get(name, 0.0) + total.item()
            sums[f"{name}.weight"] = sums.get(f"{name}.weight", 0.0) + weight.item()


@dataclass(frozen=True)
class Rehearsal:
    """An epoch's batches, and the seconds that real training steps took on some of them, by number."""

    batches: list[NDArray[np.int64]]
    seconds: dict[int, float]


def rehearse(
    model: nn.Module,
    objective: Objective[_Batch],
    data: TrainingData[_Batch],
    config: TrainingConfig,
    choose: Callable[[list[NDArray[np.int64]]], Sequence[int]],
    limit_s: float,
) -> Rehearsal:
    """Time real training steps on some of the first epoch's batches. The model is changed by them.

    Args:     choose: which batches of the epoch to take, by number, in this order; the first is learnt once before, to
              warm up. limit_s: no further step begins after so many seconds; the first is timed in any case.
    """
    run = _Run(model, objective, data, config, recipe="")
    batches, started = run.batches(), time.perf_counter()
    model.train()
    seconds: dict[int, float] = {}
    for number in choose(batches):
        if not seconds:
            run.learn(batches[number])
        elif time.perf_counter() - started > limit_s:
            break
        start = time.perf_counter()
        run.learn(batches[number])
        seconds[number] = time.perf_counter() - start
    return Rehearsal(batches, seconds)


def _means(sums: dict[str, float]) -> dict[str, float]:
    return {f"{name}_loss": sums[name] / (sums[f"{name}.weight"] or 1.0) for name in sums if f"{name}.weight" in sums}


def _write_history(folder: Path, state: RunState) -> None:
    replace_file(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in state.history).encode())


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
