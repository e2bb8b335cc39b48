"""The doctor: what is wrong is found, named and given advice, and only what is broken fails."""

import io
import json
from pathlib import Path

from rich.console import Console

from tests.commands.test_releases import publish
from upnext.base.artifacts import Workspace
from upnext.commands.checks import Check, environment, in_bytes
from upnext.commands.doctor import examine, look_into


def found(folder: Path) -> dict[str, list[Check]]:
    checks: dict[str, list[Check]] = {}
    for check in look_into(folder):
        checks.setdefault(check.name, []).append(check)
    return checks


def of_machine(folder: Path, **variables: str) -> dict[str, Check]:
    return {check.name: check for check in environment(variables, folder)}


def test_a_whole_workspace_is_well(tmp_path: Path) -> None:
    publish(Workspace(tmp_path), "a")
    screen = io.StringIO()
    assert examine(tmp_path, True, Console(file=screen, width=20))
    said = json.loads(screen.getvalue())
    assert said["is_well"]
    assert {"packages", "threads", "memory", "disk", "data", "artifacts"} <= {check["name"] for check in said["checks"]}
    assert all(check["advice"] for check in said["checks"] if check["level"] != "ok")


def test_damage_in_use_fails_and_damage_elsewhere_warns(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    one, two = publish(workspace, "a"), publish(workspace, "b")
    (tmp_path / "artifacts" / one / "f").write_text("changed")
    assert [check.level for check in found(tmp_path)["damaged"]] == ["warning"]
    (tmp_path / "artifacts" / two / "f").unlink()
    damaged = {check.level: check for check in found(tmp_path)["damaged"]}
    assert two in damaged["failed"].message
    assert "rollback" in damaged["failed"].advice
    assert not examine(tmp_path, False, Console(file=io.StringIO()))


def test_left_overs_stale_unused_and_lost_ones(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    one, two = publish(workspace, "a"), publish(workspace, "b")
    (tmp_path / "artifacts" / ".release-0.17").mkdir()
    (tmp_path / "live").mkdir()
    manifest = tmp_path / "artifacts" / two / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"code_version": "0.0.1+old"}))
    (tmp_path / "current" / "log").write_text("log-gone")
    checks = found(tmp_path)
    assert ".release-0.17" in checks["left over"][0].message
    assert "0.0.1+old" in checks["stale"][0].message
    assert one in checks["unused"][0].advice
    assert checks["pointer"][0].level == "failed"
    assert checks["live"][0].level == "ok"


def test_no_folder_fails_and_an_empty_one_does_not(tmp_path: Path) -> None:
    assert found(tmp_path / "no")["workspace"][0].level == "failed"
    assert {check.level for checks in found(tmp_path).values() for check in checks} == {"note"}


def test_what_is_slow_is_said(tmp_path: Path) -> None:
    checks = of_machine(tmp_path, OMP_NUM_THREADS="4096", MKL_NUM_THREADS="many", CUDA_LAUNCH_BLOCKING="1")
    assert checks["OMP_NUM_THREADS"].level == checks["MKL_NUM_THREADS"].level == checks["slow"].level == "warning"
    assert "CUDA_LAUNCH_BLOCKING=1" in checks["slow"].message
    assert of_machine(tmp_path, OMP_NUM_THREADS="1")["slow"].level == "ok"


def test_known_data_sets_are_found(tmp_path: Path) -> None:
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "u.data.gz").touch()
    check = of_machine(tmp_path, UPNEXT_DATA=str(tmp_path))["data"]
    assert "found ml-100k; not ml-1m, movietweetings, kuairand-pure, globo-news, amazon" in check.message
    assert of_machine(tmp_path, UPNEXT_DATA=str(tmp_path / "no"))["data"].level == "warning"


def test_sizes_in_words() -> None:
    assert [in_bytes(size) for size in (0, 1023, 1536, 1 << 30, 1 << 42)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.0 GiB",
        "4.0 TiB",
    ]
