"""Checks of the environment: versions, cores and threads, memory, disk, data, a browser, and what makes things slow."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upnext.version import __version__

__all__ = ["Check", "environment", "in_bytes"]

_PACKAGES = ("torch", "numpy", "polars", "pyarrow", "lmdb", "litestar", "uvicorn", "pydantic", "safetensors", "typer")
_DATA_SETS = {
    "ml-100k": "u.data",
    "ml-1m": "ratings.dat ml1m_ratings_ordered.csv ml-1m.txt",
    "movietweetings": "ratings.dat",
    "kuairand-pure": "log_0425_0430.parquet log_standard_4_08_to_4_21_pure.csv",
    "globo-news": "globo_clicks.parquet articles_metadata.csv",
    "amazon": "Beauty.txt",
}
"""Known data sets: a folder below UPNEXT_DATA, and the files of which it has to hold one, plain or as .gz."""
_SLOW_VARIABLES = {
    "CUDA_LAUNCH_BLOCKING": "every GPU call waits for the one before it",
    "PYTHONMALLOC": "memory is handed out by a slower allocator",
    "PYTHONDEVMODE": "Python checks itself while it runs",
    "PYTHONTRACEMALLOC": "Python keeps a trace of every allocation",
    "TORCH_SHOW_DISPATCH_TRACE": "torch prints every operation",
    "MKL_VERBOSE": "every matrix product is printed",
    "ONEDNN_VERBOSE": "every oneDNN call is printed",
}
_GIB = 1 << 30


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, and what to do; a `failed` one makes the exit code 2."""

    name: str
    level: Literal["ok", "note", "warning", "failed"]
    message: str
    advice: str = ""


def environment(variables: Mapping[str, str], folder: Path) -> Iterator[Check]:
    """Look at the machine, with the given environment variables and a folder whose disk matters."""
    yield Check("upnext", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield _versions()
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    yield from _threads(cores, variables)
    yield _instructions()
    yield _memory()
    yield _disk(folder)
    yield _data(variables)
    chromium = shutil.which("chromium")
    if chromium is not None:
        yield Check("chromium", "ok", chromium)
    else:
        yield Check("chromium", "note", "none on the path", "only tests of the page need it; they are skipped")
    slow = {name: why for name, why in _SLOW_VARIABLES.items() if variables.get(name, "0") not in ("", "0")}
    for name, why in slow.items():
        yield Check("slow", "warning", f"{name}={variables[name]}: {why}", f"unset {name} unless you look for a bug")
    if not slow:
        yield Check("slow", "ok", "no variable that slows torch or Python down is set")


def in_bytes(size: float) -> str:
    """A size in words: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _versions() -> Check:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "failed", f"missing: {', '.join(missing)}", "install Upnext again: pip install -e .")
    return Check("packages", "ok", ", ".join(found))


def _threads(cores: int, variables: Mapping[str, str]) -> Iterator[Check]:
    import torch

    threads = torch.get_num_threads()
    said = f"{cores} core{'s' if cores > 1 else ''}, torch takes {threads} thread{'s' if threads > 1 else ''}"
    if threads > cores:
        yield Check("threads", "warning", f"{said}: they wait for each other", f"set OMP_NUM_THREADS={cores} or less")
    elif threads < cores:
        yield Check("threads", "note", f"{said}", f"for one job alone: --threads {cores}, or OMP_NUM_THREADS={cores}")
    else:
        yield Check("threads", "ok", said)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        value = variables.get(name)
        if value is None:
            continue
        if not value.isdigit() or int(value) < 1:
            yield Check(name, "warning", f"{name}={value} is no number of threads", f"set it to 1 … {cores}, or unset")
        elif int(value) > cores:
            yield Check(name, "warning", f"{name}={value}, but there are {cores} cores", f"set it to {cores} or less")
        else:
            yield Check(name, "ok", f"{name}={value}")
    if sys.platform == "linux" and (load := os.getloadavg()[0]) > cores:
        yield Check("load", "warning", f"{load:.1f} processes want {cores} cores", "measure when the machine is idle")


def _instructions() -> Check:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    flags = next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set[str]())
    fast = sorted(flags & {"amx_bf16", "amx_tile", "avx512_bf16"})
    said = f"torch uses {capability}; for bfloat16 the processor has {', '.join(fast) or 'nothing'}"
    if capability == "DEFAULT":
        return Check("instructions", "warning", f"{said}: no vector instructions", "unset ATEN_CPU_CAPABILITY")
    if not fast:
        return Check("instructions", "note", said, "bfloat16 on this processor is slower than float32; keep float32")
    return Check("instructions", "ok", said)


def _memory() -> Check:
    path = Path("/proc/meminfo")
    if not path.is_file():
        return Check("memory", "note", "unknown on this system", "look with the system's own tools")
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in path.read_text().splitlines()}
    free, total = sizes["MemAvailable"], sizes["MemTotal"]
    said = f"{in_bytes(free)} of {in_bytes(total)} available"
    if free < _GIB:
        return Check("memory", "warning", said, "close something: loading torch and a model takes about 1 GiB")
    return Check("memory", "ok", said)


def _disk(folder: Path) -> Check:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    usage = shutil.disk_usage(there)
    said = f"{in_bytes(usage.free)} of {in_bytes(usage.total)} free at {there}"
    if usage.free < _GIB:
        return Check("disk", "warning", said, "make room: an artifact is written beside the old one")
    return Check("disk", "ok", said)


def _data(variables: Mapping[str, str]) -> Check:
    value = variables.get("UPNEXT_DATA")
    folder = Path(value or "data")
    said = f"UPNEXT_DATA={value}" if value else "UPNEXT_DATA is not set, so data/ counts"
    if not folder.is_dir():
        level: Literal["note", "warning"] = "warning" if value else "note"
        return Check("data", level, f"{said}: there is no such folder", "set it to where published data sets lie")
    found = [name for name, files in _DATA_SETS.items() if _has_one(folder / name, files.split())]
    lacking = [name for name in _DATA_SETS if name not in found]
    message = f"{said}: found {', '.join(found) or 'no known data set'}"
    if lacking:
        return Check("data", "note", f"{message}; not {', '.join(lacking)}", "examples that read them need them")
    return Check("data", "ok", message)


def _has_one(folder: Path, files: list[str]) -> bool:
    return any((folder / f"{name}{suffix}").is_file() for name in files for suffix in ("", ".gz"))
