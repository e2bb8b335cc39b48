"""Compiled: the network of a student as machine code, held against the network before it answers.

Weights and configuration are the truth; what is compiled is a cache of them, for one release and one kind of machine.
It is made in a process of its own, which takes seconds and a C++ compiler. Whatever goes wrong, the network answers.

    python -m upnext.serving.compiled MODEL FILE
"""

import hashlib
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from upnext.base.batches import NO_ITEMS
from upnext.base.files import link_or_copy, replacing
from upnext.models.build import load_any
from upnext.models.student import Student

__all__ = ["compile_network"]

_LOG = logging.getLogger(__name__)

_LONGEST_S = 600
_WHAT_TO_DO = "install a C++ compiler such as g++ if there is none, or leave serve.compile out"
_KEPT = 3
"""Files of the cache, the latest."""
_TOLERANCE = 1e-5
_SHAPES = ((1, 1), (1, 500), (3, 7), (4, 1))
"""Requests and candidates of the questions by which the two are compared."""


def compile_network(student: Student, model: Path, cache: Path) -> None:
    """Let a student answer by compiled code, made if it is not in the cache; where that fails, it stays as it is.

    Args:     model: the folder of its files.
    """
    file = cache / f"{_digest(model)}.pt2"
    try:
        if not file.is_file():
            _made(model, file)
        student.network = _checked(torch._inductor.aoti_load_package(str(file)), student)
    except Exception as error:  # of compilers, linkers and loaders, which raise what they like
        _LOG.warning("the student answers uncompiled: %s; %s", error, _WHAT_TO_DO)
        file.unlink(missing_ok=True)
        student.network = None


def _digest(model: Path) -> str:
    """What the code is made of: the model, and what makes and runs it."""
    files = [path.read_bytes() for path in sorted(model.iterdir())]
    about = f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()} {sys.platform}"
    return hashlib.sha256(b"\0".join([about.encode(), *files])).hexdigest()[:16]


def _made(model: Path, file: Path) -> None:
    """Compile in another process: this one answers meanwhile."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(model), str(file)]  # torch warns of its own past
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    for old in sorted(file.parent.glob("*.pt2"), key=lambda one: one.stat().st_mtime_ns)[:-_KEPT]:
        old.unlink()


def _checked(network: Callable[[Tensor, Tensor], Tensor], student: Student) -> Callable[[Tensor, Tensor], Tensor]:
    """What was compiled, if it answers drawn questions as the student does.

    Raises:   ValueError: it does not.
    """

    def answer(ranks: Tensor, codes: Tensor) -> Tensor:
        return network(ranks.contiguous(), codes.contiguous())  # as it was compiled: it reads memory and asks nothing

    with torch.inference_mode():
        for shape in _SHAPES:
            asked = _questions(student, shape)
            expected, found = student(*asked), answer(*asked)
            off = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
            if not off <= _TOLERANCE:
                raise ValueError(f"compiled, it is off by {off:g}, more than {_TOLERANCE:g}")
    return answer


def _questions(student: Student, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Ranks, some of them missing, and codes of candidates, laid out as `Student.digest` gives them."""
    generator = torch.Generator().manual_seed(0)
    numbers, sizes = len(student.inputs.numbers), list(student.inputs.categories.values())
    ranks = torch.rand(numbers, *shape, generator=generator)
    ranks = torch.where(torch.rand(ranks.shape, generator=generator) < 0.2, -1.0, ranks).movedim(0, -1)
    codes = [torch.randint(0, size + 1, shape, generator=generator) for size in sizes]
    nothing = torch.zeros(0, *shape, dtype=torch.int64)
    return ranks, torch.cat([nothing, *(of[None] for of in codes)]).movedim(0, -1)


def _compile(model: Path, file: Path) -> None:
    """Write the compiled network of a student, for any number of requests and candidates."""
    student = load_any(model, NO_ITEMS)
    assert isinstance(student, Student)
    asked = tuple(part.contiguous() for part in _questions(student, (3, 7)))
    sizes = {number: torch.export.Dim(name, min=1, max=1 << 20) for number, name in enumerate("BN")}
    file.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        program = torch.export.export(student, asked, dynamic_shapes=(sizes, sizes))
        package = torch._inductor.aoti_compile_and_package(program, package_path=f"{folder}/student.pt2")
        with replacing(file) as partial:
            link_or_copy(Path(package), partial)


if __name__ == "__main__":
    _compile(Path(sys.argv[1]), Path(sys.argv[2]))
