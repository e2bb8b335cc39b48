"""Checkpoints: what was saved comes back, and a save that fails changes nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from upnext.training import checkpoint
from upnext.training.checkpoint import load_checkpoint, save_checkpoint
from upnext.training.optimizers import adamw


class Small(nn.Module):
    """Odd shapes, a buffer of ids above 2^53, and names that begin like the checkpoint's own."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 5)
        self.optimizer = nn.Embedding(7, 3)
        self.ids = nn.Buffer(torch.tensor([2**53 + 1, 2**63 - 1]))
        self.register_buffer("trained", torch.tensor([True, False, True]))
        self.register_buffer("transposed", torch.arange(6.0).view(2, 3).T)


def trained(steps: int) -> tuple[Small, torch.optim.Optimizer]:
    torch.manual_seed(steps)
    model = Small()
    optimizer = adamw(model, 0.1, 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model.model(model.optimizer(torch.tensor([1, 2]))).square().sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("steps", [0, 3])
def test_weights_and_step_come_back(tmp_path: Path, steps: int) -> None:
    model, optimizer = trained(steps)
    save_checkpoint(tmp_path / "last.safetensors", model, optimizer, steps)
    weights, step = load_checkpoint(tmp_path / "last.safetensors")
    assert step == steps
    expected = model.state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert weights[name].dtype == tensor.dtype
        assert torch.equal(weights[name], tensor), name
    other, _ = trained(1)
    other.load_state_dict(weights)
    assert torch.equal(other.model.weight, model.model.weight)
    assert other.ids.tolist() == [2**53 + 1, 2**63 - 1]


def test_the_optimisers_moments_are_in_the_file(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    save_checkpoint(tmp_path / "last.safetensors", model, optimizer, 3)
    tensors = load_file(tmp_path / "last.safetensors")
    state = optimizer.state_dict()["state"]
    assert len(state) == 3
    for number, moments in state.items():
        assert moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in moments.items():
            assert torch.equal(tensors[f"optimizer.{number}.{name}"], value)


def test_a_later_save_replaces_the_earlier_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *trained(1), 1)
    with path.open("rb") as reader:
        before = path.read_bytes()
        model, optimizer = trained(2)
        save_checkpoint(path, model, optimizer, 2)
        assert reader.read() == before  # the old file was never written into
    weights, step = load_checkpoint(path)
    assert step == 2
    assert torch.equal(weights["model.weight"], model.model.weight)
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_fails_in_the_middle_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *trained(1), 1)
    before = path.read_bytes()

    def full_disk(tensors: object, target: Path) -> None:
        target.write_bytes(before[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, *trained(2), 2)
    assert path.read_bytes() == before
    assert load_checkpoint(path)[1] == 1
