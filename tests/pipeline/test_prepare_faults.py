"""Preparing a log that meets a full disk, a kill or another limit of memory: a whole log, or none."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from upnext.base.artifacts import Workspace
from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact, BadConfig
from upnext.events.memory import LEAST_MEMORY, rows_at_once
from upnext.pipeline import prepare

ROWS = 60_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    log = {
        "user": generator.integers(0, 5000, ROWS),
        "item": generator.integers(0, 300, ROWS),
        "time": 1_700_000_000 + generator.integers(0, 30 * 86_400, ROWS),
        "request": np.arange(ROWS) // 3,
        "device": generator.choice(["tv", "phone"], ROWS),
        "played": generator.random(ROWS).astype(np.float32),
    }
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet", row_group_size=5000)
    return tmp_path


def config(folder: Path, limit: str = "1 GB") -> prepare.PrepareConfig:
    source = {
        "kind": "table",
        "path": str(folder / "log.parquet"),
        "user": "user",
        "item": "item",
        "time": "time",
        "time_unit": "s",
        "request": "request",
        "contexts": ["device"],
        "feedback": {"played": "fraction"},
    }
    return parse_config(prepare.PrepareConfig, {"source": source, "memory_limit": limit}, "test")


def made(folder: Path) -> list[str]:
    """What a workspace holds, and of what is unfinished too."""
    return sorted(os.listdir(folder / "artifacts"))


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond a size, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("bytes_per_row", [10, 50], ids=["while reading", "while sorting"])
def test_a_full_disk_is_told_and_leaves_nothing(folder: Path, bytes_per_row: int) -> None:
    """Rows take 36 bytes as they are read, and over 80 in the log."""
    work = Workspace(folder / "work")
    with largest_file(bytes_per_row * ROWS), pytest.raises(BadArtifact, match=r"File too large; make room, or choose"):
        prepare.run(config(folder), work)
    assert made(work.root) == []
    artifact = prepare.run(config(folder), work)
    assert made(work.root) == [artifact.name]


@pytest.mark.parametrize("seen", [".log-*/*/rows", ".log-*/log/segment-000000.arrow"])
def test_a_kill_leaves_nothing_that_the_next_run_does_not_mend(folder: Path, seen: str) -> None:
    work = Workspace(folder / "work")
    script = "import sys; from pathlib import Path; from tests.pipeline.test_prepare_faults import *;"
    script += " prepare.run(config(Path(sys.argv[1])), Workspace(Path(sys.argv[1]) / 'work'))"
    with subprocess.Popen([sys.executable, "-c", script, str(folder)]) as process:
        while not list(work.root.glob(f"artifacts/{seen}")):
            assert process.poll() is None
            time.sleep(0.001)  # between two looks at the folder
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert [name[:5] for name in made(work.root)] == [".log-"]
    assert work.in_use() == {}
    mended = prepare.run(config(folder), work)
    assert made(work.root) == [mended.name]
    assert mended.manifest == prepare.run(config(folder), Workspace(folder / "another")).manifest


def test_the_limit_of_memory_changes_nothing_of_the_log(folder: Path) -> None:
    artifact = prepare.run(config(folder, "1 GB"), Workspace(folder / "work"))
    assert prepare.run(config(folder, "0.5 TB"), Workspace(folder / "another")).manifest == artifact.manifest


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("1 GiB", "'1 GiB' is no amount of memory; write a number and a unit of MB, GB, TB"),
        ("500 MB", "memory_limit.*1000000000"),
        ("-1 GB", "'-1 GB' is no amount"),
    ],
)
def test_a_limit_that_is_none_is_told(folder: Path, limit: str, told: str) -> None:
    with pytest.raises(BadConfig, match=told):
        config(folder, limit)


def test_rows_at_once_follow_the_limit() -> None:
    assert rows_at_once(LEAST_MEMORY) == 500_000
    assert rows_at_once(LEAST_MEMORY + 800 * 1000) == 501_000
    assert rows_at_once(10**12) == 2_000_000
    assert 500_000 <= rows_at_once(None) <= 2_000_000
