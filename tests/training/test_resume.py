"""A run that is stopped at any moment and resumed gives the bytes of one that was not.

Stops are exceptions here, thrown where a kill would hurt; `tests/end_to_end/test_resume.py` kills processes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_loop import planted
from upnext.base.errors import BadArtifact
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.softmax import FullSoftmaxConfig, LossConfig, SampledSoftmaxConfig, make_softmax
from upnext.training import checkpoint, loop
from upnext.training.checkpoint import Checkpoints
from upnext.training.chunks import Chunks
from upnext.training.loop import HISTORY, Start, TrainingConfig, TrainingResult, train

CONFIG = TrainingConfig(epochs=6, patience=2, tokens_per_batch=64, warmup_steps=3, checkpoint_every=4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Bits depend on the number of threads; steps this small are fastest with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killed(BaseException):
    """Nothing in the package catches this; as after a kill, only the files are left."""


def attempt(
    folder: Path,
    resume: bool,
    said: list[str] | None = None,
    config: TrainingConfig = CONFIG,
    loss: LossConfig | None = None,
) -> tuple[NextItemPrediction, TrainingResult]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    events, offsets = planted(80, seed=0)
    model_config = SASRecConfig(width=8, layers=1, max_length=8, dropout=0.3)
    model = SASRec(model_config, torch.arange(23) >= 2, sparse_gradients=loss is not None)
    counts = torch.from_numpy(np.bincount(events.item, minlength=23)[2:])
    objective = NextItemPrediction(model, make_softmax(loss or FullSoftmaxConfig(), counts))

    def validate() -> dict[str, float]:
        torch.rand(3)  # a validation that draws changes nothing
        return {"metric": -abs(model.item_embedding.weight.norm().item() - 0.29)}

    chunks = Chunks.cut(events, offsets, model.max_length)
    tell = (lambda _: None) if said is None else said.append
    start = Start(recipe="r", resume=resume, tell=tell)
    return objective, train(objective, objective, chunks, validate, config, folder, start)


def outcome(folder: Path, trained: tuple[NextItemPrediction, TrainingResult]) -> tuple[object, ...]:
    model, result = trained
    weights = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
    return weights, (folder / HISTORY).read_bytes(), (result.best_epoch, result.best_metric, result.epochs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("undisturbed")
    trained = attempt(folder, resume=False)
    assert 0 < trained[1].best_epoch < trained[1].epochs - 1  # so that patience and the best weights are at stake
    return outcome(folder, trained)


def after_calls(count: int, real: Callable[..., object], *, before: bool = True) -> Callable[..., object]:
    """`real`, but its call number `count` kills the run, before or after it does its work."""
    calls = iter(range(1, 10**6))

    def killing(*arguments: object, **named: object) -> object:
        is_last = next(calls) == count
        if is_last and before:
            raise Killed
        result = real(*arguments, **named)
        if is_last:
            raise Killed
        return result

    return killing


PLACES = {
    "step": (loop._Run, "_update"),
    "checkpoint": (Checkpoints, "save"),
    "file": (checkpoint, "save_tensors"),
    "writing": (checkpoint, "save_file"),
    "best": (Checkpoints, "save_best"),
    "history": (loop, "_write_history"),
    "end": (Checkpoints, "load_best"),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("place", "count"),
    [
        *(("step", count) for count in (1, 5, 29)),
        *(("checkpoint", count) for count in (1, 4, 9)),
        *(("file", count) for count in (4, 5)),
        *(("writing", count) for count in (5,)),
        *(("best", count) for count in (1, 2)),
        *(("history", count) for count in (1, 4)),
        ("end", 1),
    ],
)
def test_a_stop_anywhere_changes_nothing(
    tmp_path: Path, undisturbed: tuple[object, ...], place: str, count: int, before: bool
) -> None:
    owner, name = PLACES[place]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, after_calls(count, getattr(owner, name), before=before))
        with pytest.raises(Killed):
            attempt(tmp_path, resume=False)
    assert outcome(tmp_path, attempt(tmp_path, resume=True)) == undisturbed
    assert not list(tmp_path.glob("best-0*"))


def test_a_stop_changes_nothing_in_bfloat16(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"precision": "bfloat16", "epochs": 2})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    undisturbed = outcome(whole, attempt(whole, resume=False, config=config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_update", after_calls(7, loop._Run._update))
        with pytest.raises(Killed):
            attempt(parts, resume=False, config=config)
    assert outcome(parts, attempt(parts, resume=True, config=config)) == undisturbed


@pytest.mark.parametrize("seed", range(3))
def test_many_stops_change_nothing(tmp_path: Path, undisturbed: tuple[object, ...], seed: int) -> None:
    generator = np.random.default_rng(seed)
    stops = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            kill = after_calls(int(generator.integers(5, 14)), loop._Run._update, before=bool(generator.integers(2)))
            patch.setattr(loop._Run, "_update", kill)
            try:
                trained = attempt(tmp_path, resume=stops > 0)
            except Killed:
                stops += 1
                continue
        break
    assert stops >= 3
    assert outcome(tmp_path, trained) == undisturbed


@pytest.mark.parametrize("negatives", ["uniform", "in_batch", "popularity", "mixed"])
def test_stops_change_nothing_where_negatives_are_drawn(tmp_path: Path, negatives: str) -> None:
    counts = {"uniform": {"num_drawn": 5}, "in_batch": {"num_in_batch": 9}, "popularity": {"num_drawn": 5}}
    keys = {"kind": "sampled", "negatives": negatives, "temperature": "learned", **counts.get(negatives, {})}
    loss = SampledSoftmaxConfig.model_validate(keys)
    expected = outcome(tmp_path / "whole", attempt(tmp_path / "whole", resume=False, loss=loss))
    for count in (3, 7, 10):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop._Run, "_update", after_calls(count, loop._Run._update))
            with pytest.raises(Killed):
                attempt(tmp_path / "stopped", resume=count > 3, loss=loss)
    trained = attempt(tmp_path / "stopped", resume=True, loss=loss)
    assert outcome(tmp_path / "stopped", trained) == expected
    assert trained[0].softmax.temperature.value != 1.0


def test_without_resume_a_run_starts_over_and_says_so(tmp_path: Path, undisturbed: tuple[object, ...]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_update", after_calls(31, loop._Run._update))
        with pytest.raises(Killed):
            attempt(tmp_path, resume=False)
    said: list[str] = []
    assert outcome(tmp_path, attempt(tmp_path, resume=False, said=said)) == undisturbed
    assert len(said) == 1
    assert said[0].startswith("starts over; an interrupted training stopped at step 28, in epoch ")
    assert "--resume" in said[0]


def test_resuming_says_where_it_goes_on_or_that_there_is_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Checkpoints, "save_best", interrupt)
        with pytest.raises(KeyboardInterrupt):
            attempt(tmp_path, resume=True, said=said)
        attempts = [*said]
    attempt(tmp_path, resume=True, said=said)
    assert attempts[0] == "nothing to resume; starts at the beginning"
    assert attempts[1].startswith("interrupted; --resume goes on at step ")
    assert said[2] == attempts[1].removeprefix("interrupted; --resume ")


def test_a_damaged_checkpoint_is_refused_and_starting_over_replaces_it(
    tmp_path: Path, undisturbed: tuple[object, ...]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_update", after_calls(10, loop._Run._update))
        with pytest.raises(Killed):
            attempt(tmp_path, resume=False)
    path = Checkpoints(tmp_path).path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadArtifact, match=r"damaged .* run without --resume"):
        attempt(tmp_path, resume=True)
    assert path.read_bytes() == content
    assert outcome(tmp_path, attempt(tmp_path, resume=False)) == undisturbed


def test_the_cost_of_a_run_adds_up_over_its_parts(tmp_path: Path) -> None:
    _, whole = attempt(tmp_path, resume=False)
    _, again = attempt(tmp_path, resume=True)  # it was finished: nothing is left to do
    assert again.events_per_s == whole.events_per_s
    assert again.seconds >= whole.seconds > 0
    assert again.epochs == whole.epochs
