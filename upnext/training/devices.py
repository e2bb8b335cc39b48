"""Where training computes."""

from typing import Literal

import torch

from upnext.base.errors import BadConfig

__all__ = ["Device", "choose_device"]

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: Device) -> torch.device:
    """The device of a name; `auto` is CUDA where there is some, else the CPU.

    Raises:   BadConfig: the machine has no such device.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if has["cuda"] else "cpu")
    if not has[name]:
        usable = ", ".join(repr(known) for known, is_there in has.items() if is_there)
        raise BadConfig(
            f"training.device is {name!r}, which this machine does not have; it has {usable}, or use 'auto'"
        )
    return torch.device(name)
