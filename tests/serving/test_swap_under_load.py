"""The benchmark that swaps releases under load, on a small scale; and servers whose provider fails them."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from tests.serving.asking import ids
from tests.serving.projects import STRANGE_ITEMS, Published, publish_strange
from tests.serving.server import ProviderProcess, ServerProcess
from upnext.base.artifacts import Artifact, Workspace
from upnext.commands.releases import roll_back

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def test_three_swaps_under_load_fail_nothing_and_mix_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "swap.py"), "--folder", str(tmp_path / "runs"), "--seconds", "1"]
    command += ["--rate", "60", "--users", "300", "--items", "300", "--width", "16", "--mean-length", "10"]
    command += ["--results", str(tmp_path / "rows.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {
        row["metric"]: row["value"]
        for row in json.loads((tmp_path / "rows.json").read_text())
        if row["variant"] == "all"
    }
    assert figures.pop("pages") > 100
    assert figures.pop("events acknowledged") > 10
    assert figures == {"swaps": 3} | dict.fromkeys(
        ("requests failed", "pages that mix releases", "events lost", "events doubled"), 0
    )


@pytest.fixture(scope="module")
def two(strange: Published, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Releases of two logs that number their items differently."""
    return [strange.release, publish_strange(tmp_path_factory.mktemp("two"), STRANGE_ITEMS[::-1]).release]


def offer(workspace: Workspace, release: Path, how: str = "") -> tuple[Artifact, str]:
    """Put a release among those of a workspace, damaged if asked, and point to it; also what is then said of it."""
    beside, folder = workspace.root / "beside", workspace.root / "artifacts" / release.name
    shutil.copytree(release, beside)
    why = damage(beside, how) if how else ""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside.rename(folder)  # a server may look at any moment
    artifact = Artifact(folder, {})
    workspace.use("release", artifact)
    return artifact, why


def wait_for(server: ServerProcess, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `/health` says once something is so."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        health: dict[str, Any] = httpx.get(f"{server.address}health", trust_env=False).json()
        if is_so(health):
            return health
        time.sleep(0.02)
    raise AssertionError(health)


def damage(release: Path, how: str) -> str:
    weights = release / "items.arrow"
    if how == "tampered":
        weights.write_bytes(bytes(len(weights.read_bytes())))
        return "items.arrow has another hash"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-8])
        return "items.arrow has"
    if how == "of another version":
        manifest = release / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 99'))
        return "format version 99, this Upnext reads 1"
    weights.unlink()
    return "answers 404"


def test_a_server_goes_on_whatever_its_provider_does(two: list[Path], tmp_path: Path) -> None:
    there, here = Workspace(tmp_path / "there"), tmp_path / "here"
    one, _ = offer(there, two[0])

    def ask(server: ServerProcess) -> dict[str, Any]:
        answer = httpx.get(f"{server.address}v1/recommendations", params={"user_id": "p"}, trust_env=False)
        page: dict[str, Any] = answer.json()
        return {
            "release": page["release"],
            "rows": [[item["item_id"] for item in row["items"]] for row in page["rows"]],
        }

    provider = ProviderProcess(there.root)
    port = int(provider.address.rsplit(":", 1)[1].rstrip("/"))
    settings = {"release": provider.address, "check_every": 50}
    with ServerProcess(here, **settings) as server:
        before = ask(server)
        assert before["release"] == one.name
        posted = {"user_id": "q", "item_id": "é", "event_id": "once"}
        for how in ("tampered", "truncated", "of another version", "gone"):
            bad, why = offer(there, two[1], how)
            health = wait_for(server, lambda health, why=why: why in (health["refused"] or ""))  # type: ignore[misc]
            assert health["release"] == one.name
            assert ask(server) == before
            shutil.rmtree(bad.folder)
        assert httpx.post(f"{server.address}v1/events", json={"events": [posted]}, trust_env=False).status_code == 201
        provider.kill()
        wait_for(server, lambda health: "does not answer" in (health["refused"] or ""))
        assert ask(server) == before
        two_, _ = offer(there, two[1])
        with ProviderProcess(there.root, port=port):
            wait_for(server, lambda health: (health["release"], health["refused"]) == (two_.name, None))
            after = ask(server)
            assert after["rows"] != before["rows"]
            history = httpx.get(f"{server.address}v1/users/q/history", trust_env=False).json()["events"]
            assert ids(history).count("é") == 1
            roll_back(there.root, one.name, Console(quiet=True))
            wait_for(server, lambda health: health["release"] == one.name)
            assert ask(server) == before
    with ServerProcess(here, **settings) as server:  # with what it served last; nobody answers at the address
        assert ask(server) == before
        wait_for(server, lambda health: "does not answer" in (health["refused"] or ""))


def test_a_server_follows_its_workspace_and_need_not(two: list[Path], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (one, _), (other, _) = offer(workspace, two[1]), offer(workspace, two[0])
    with ServerProcess(tmp_path, check_every=50) as server, ServerProcess(tmp_path, follow=False) as still:
        wait_for(server, lambda health: health["release"] == other.name)
        roll_back(tmp_path, one.name, Console(quiet=True))
        wait_for(server, lambda health: health["release"] == one.name)
        wait_for(still, lambda health: health["release"] == other.name)
