"""Checkpoints: what was saved comes back bit for bit, damage is noticed, and a save that fails changes nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from upnext.base.errors import BadArtifact
from upnext.training import checkpoint
from upnext.training.checkpoint import Checkpoints, RunState, load_tensors, save_tensors
from upnext.training.optimizers import adamw

FACTS = {"third": 1 / 3, "large": 2**127 + 1, "text": "é"}


class Small(nn.Module):
    """Odd shapes, a buffer of ids above 2^53, and names that begin like the checkpoint's own."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 5)
        self.optimizer = nn.Embedding(7, 3)
        self.ids = nn.Buffer(torch.tensor([2**53 + 1, 2**63 - 1]))
        self.register_buffer("trained", torch.tensor([True, False, True]))
        self.register_buffer("transposed", torch.arange(6.0).view(2, 3).T)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        self.model(nn.functional.dropout(self.optimizer(torch.tensor([1, 2])))).square().sum().backward()
        optimizer.step()


def trained(steps: int) -> tuple[Small, torch.optim.Optimizer]:
    torch.manual_seed(steps)
    model = Small()
    optimizer = adamw(model, 0.1, 0.01)
    for _ in range(steps):
        model.step(optimizer)
    return model, optimizer


def bits(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, bytes]:
    moments = optimizer.state_dict()["state"]
    tensors: dict[str, torch.Tensor] = dict(model.state_dict())
    tensors |= {f"{number} {name}": value for number, of in moments.items() for name, value in of.items()}
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("steps", [0, 3])
def test_a_loaded_run_goes_on_as_the_saved_one(tmp_path: Path, steps: int) -> None:
    model, optimizer = trained(steps)
    state = RunState("r", "cpu", epoch=2, step=steps, batches=FACTS, sums={"a": 0.1 + 0.2}, history=[{"x": 1e-300}])
    Checkpoints(tmp_path).save(state, model, optimizer)
    saved = bits(model, optimizer)
    model.step(optimizer)

    other, its_optimizer = trained(5)
    its_state = RunState("r", "cpu")
    Checkpoints(tmp_path).load(its_state, other, its_optimizer)
    assert its_state == state
    assert bits(other, its_optimizer) == saved
    other.step(its_optimizer)  # the same dropout mask, the same moments
    assert bits(other, its_optimizer) == bits(model, optimizer)


def test_an_empty_folder_leaves_a_run_at_its_beginning(tmp_path: Path) -> None:
    model, optimizer = trained(1)
    before, state = bits(model, optimizer), RunState("r", "cpu")
    Checkpoints(tmp_path).load(state, model, optimizer)
    assert (bits(model, optimizer), state) == (before, RunState("r", "cpu"))
    assert Checkpoints(tmp_path).where() is None


@pytest.mark.parametrize(("name", "recipe", "device"), [("recipe", "other", "cpu"), ("device", "mine", "cuda")])
def test_a_checkpoint_of_another_recipe_or_device_is_refused(
    tmp_path: Path, name: str, recipe: str, device: str
) -> None:
    Checkpoints(tmp_path).save(RunState("mine", "cpu"), *trained(1))
    with pytest.raises(BadArtifact, match=rf"is of the {name} '.*', this run is of '.*'; run without --resume"):
        Checkpoints(tmp_path).load(RunState(recipe, device), *trained(1))


def test_the_best_weights_come_back_and_only_those_that_the_checkpoint_names_stay(tmp_path: Path) -> None:
    checkpoints, (model, optimizer) = Checkpoints(tmp_path), trained(2)
    checkpoints.save_best(0, model)
    checkpoints.save(RunState("r", "cpu", best_epoch=0), model, optimizer)
    best = bits(model, optimizer)["model.weight"]
    model.step(optimizer)
    checkpoints.save_best(1, model)
    assert (tmp_path / "best-0.safetensors").exists()  # a kill here goes on from epoch 0's
    checkpoints.load_best(0, model)
    assert bits(model, optimizer)["model.weight"] == best
    checkpoints.save(RunState("r", "cpu", best_epoch=1), model, optimizer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1.safetensors", "checkpoint.safetensors"]


def damaged(path: Path) -> list[bytes]:
    """A file cut short, emptied, with a bit of a tensor turned, and with a digit of its facts changed."""
    whole = path.read_bytes()
    turned = bytearray(whole)
    turned[-2] ^= 1
    assert b"third" in whole
    return [whole[:-3], b"", bytes(turned), whole.replace(b"0.333333", b"0.333334", 1)]


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(5.0), "b": torch.tensor(True), "none": torch.empty(0)}
    save_tensors(path, tensors, FACTS)
    loaded, facts = load_tensors(path)
    assert facts == FACTS
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())
    for content in damaged(path):
        path.write_bytes(content)
        with pytest.raises(BadArtifact, match=r"x\.safetensors is missing or damaged .*; run without --resume"):
            load_tensors(path)


def test_a_run_does_not_go_on_without_the_best_weights_it_names(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(RunState("r", "cpu", best_epoch=4), *trained(1))
    with pytest.raises(BadArtifact, match=r"best-4\.safetensors is missing"):
        checkpoints.load(RunState("r", "cpu"), *trained(1))


def test_where_a_checkpoint_is(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(RunState("r", "cpu", epoch=2, step=1234), *trained(1))
    assert checkpoints.where() == "at step 1,234, in epoch 3"
    checkpoints.path.write_bytes(b"no")
    assert checkpoints.where() == "at a checkpoint that is damaged"


def test_a_later_save_replaces_the_earlier_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(3)}, {})
    with path.open("rb") as reader:
        before = path.read_bytes()
        save_tensors(path, {"a": torch.ones(3)}, {})
        assert reader.read() == before  # the old file was never written into
    assert load_tensors(path)[0]["a"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_checkpoint_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(3)}, FACTS)
    before = path.read_bytes()

    def full_disk(tensors: Any, target: Path, metadata: Any) -> None:
        target.write_bytes(before[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(BadArtifact, match="No space left on device; make room, then go on with --resume"):
        save_tensors(path, {"a": torch.ones(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
