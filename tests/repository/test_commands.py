"""The commands that exchange releases, as people type them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.test_tiny_project import fail, succeed
from tests.serving.projects import Published

TOKEN = "a token of 32 characters or more"
FREE = ("--set", "serve.port=0")


@contextmanager
def running(*arguments: object) -> Iterator[str]:
    """The address that a command says it answers at; it is interrupted at the end."""
    command = [sys.executable, "-c", "from upnext.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"PYTHONWARNINGS": "error", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            found = next((found for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+/", line))), None)
            assert found is not None
            yield found[0]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()


def test_from_a_push_to_a_server_without_a_project(
    tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tiny.release.name
    monkeypatch.setenv("UPNEXT_RELEASES_TOKEN", TOKEN)
    with running("releases", "serve", tmp_path / "there", "--port", 0) as address:
        assert "offers no release yet" in fail(tmp_path / "x", "serve", tmp_path / "new", "--release", address, *FREE)
        said = succeed("releases", "push", tiny.workspace, address)
        assert f"{name} is current there" in said
        assert "0 were there already" in said
        assert "0 files sent, 0 bytes" in succeed("releases", "push", tiny.workspace, address, name, "--no-current")
        assert f"current release  {name}" in succeed("releases", "pull", tmp_path / "pulled", address)
        assert address.rstrip("/") in succeed("releases", "list", tmp_path / "pulled")
        with running("serve", tmp_path / "served", "--release", address, *FREE) as page:
            health = httpx.get(f"{page}health", trust_env=False).json()
            assert (health["release"], health["refused"]) == (name, None)
    with running("serve", tmp_path / "served", *FREE) as page:  # a workspace like any other
        assert httpx.get(f"{page}health", trust_env=False).json()["release"] == name


def test_what_is_wrong_is_said(tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://127.0.0.1:9"  # where nobody listens
    assert "there is no workspace" in fail(tmp_path / "x", "serve", tmp_path / "nowhere")
    assert "no address of releases" in fail(tmp_path / "x", "serve", tmp_path, "--release", "models:8100", *FREE)
    assert "unknown key 'serve.prot'" in fail(tmp_path / "x", "serve", tmp_path, "--set", "serve.prot=1")
    assert "does not answer" in fail(tmp_path / "x", "releases", "pull", tmp_path, address)
    assert "holds no release 'release-1'" in fail(
        tmp_path / "x", "releases", "push", tiny.workspace, address, "release-1"
    )
    monkeypatch.setenv("UPNEXT_RELEASES_TOKEN", "short")
    assert "has 5 characters" in fail(tmp_path / "x", "releases", "serve", tmp_path)
