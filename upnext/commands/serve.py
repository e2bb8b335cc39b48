"""`upnext serve`: a project's release, or that of a workspace alone, which needs no project on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from upnext.base.artifacts import Workspace
from upnext.base.configuration import Config, apply_override, parse_config
from upnext.base.errors import BadArtifact
from upnext.commands.project import load_project
from upnext.commands.run import run_stages
from upnext.pipeline import serve
from upnext.pipeline.serve import ServeConfig

__all__ = ["serve_release"]


class _Alone(Config):
    """What can be set where there is no project."""

    serve: ServeConfig = ServeConfig()


def serve_release(target: Path, release: str | None, overrides: Sequence[str], console: Console) -> None:
    """Serve until interrupted.

    Args:     target: a project's file, or the folder of a workspace; release: as `serve.release`.
    Raises:   BadArtifact: the folder is not there, and nothing is to be pulled into it.
    """
    settings = [*overrides, *([] if release is None else [f'serve.release="{release}"'])]
    if target.suffix == ".toml":
        run_stages(load_project(target, settings), console, only="serve")
        return
    data: dict[str, Any] = {}
    for override in settings:
        apply_override(data, override)
    config = parse_config(_Alone, data, "--set").serve
    if config.release is None and not target.is_dir():
        raise BadArtifact(f"there is no workspace {target}; give one, a project's TOML file, or --release URL")
    target.mkdir(parents=True, exist_ok=True)
    serve.run(config, Workspace(target), lambda address: console.print(f"[bold]page[/bold]  {address}"))
