"""The choice of a device. Only the CPU is computed on here."""

import pytest
import torch

from upnext.base.errors import BadConfig
from upnext.training.devices import choose_device


@pytest.mark.parametrize(("has_cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_where_there_is_some(monkeypatch: pytest.MonkeyPatch, has_cuda: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert choose_device("auto") == torch.device(expected)
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(BadConfig, match=r"training\.device is 'cuda'.*it has 'cpu', 'mps', or use 'auto'"):
        choose_device("cuda")
    assert choose_device("mps") == torch.device("mps")
