"""`upnext releases`: which there are, and the way back to one."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.errors import BadArtifact, NotFound
from upnext.base.origins import origin_of

__all__ = ["describe_releases", "print_releases", "roll_back"]

_KIND = "release"


def print_releases(folder: Path, as_json: bool, console: Console) -> None:
    """Print the releases of a workspace, the newest first."""
    workspace = Workspace.existing(folder)
    releases = describe_releases(workspace)
    if as_json:
        console.print_json(json.dumps({"workspace": str(folder), "releases": releases}), indent=None)
        return
    if not releases:
        console.print(f"no releases in {escape(str(folder))}; run `upnext run FILE.toml --until publish`")
        return
    table = Table()
    for column in ("release", "made (UTC)", "from", "models", "state"):
        table.add_column(column, no_wrap=column == "release")
    for release in releases:
        models = [_in_words(model) for model in release["models"]]
        origin = "here" if release["origin"] is None else release["origin"]["address"]
        made = "–" if release["made"] is None else release["made"][:16].replace("T", " ")
        said = (release["name"], made, origin, "\n".join(models), _state(release))
        table.add_row(*map(escape, said))
    console.print(table)


def roll_back(folder: Path, name: str | None, console: Console) -> None:
    """Point to an earlier release: the named one, or the one that was current before.

    Raises:   NotFound: no such release, or nothing before; BadArtifact: it is damaged. Then nothing changes.
    """
    workspace = Workspace.existing(folder)
    current = workspace.in_use().get(_KIND)
    known = [path.name for path in workspace.folders(_KIND)]
    chosen = name if name is not None else before_current(workspace)
    if chosen is None:
        raise NotFound(
            f"{folder} remembers no release before {current}; name one: upnext releases rollback {folder} NAME."
            f" There are {known}"
        )
    if chosen not in known:
        raise NotFound(f"{folder} holds no release {chosen!r}; there are {known}")
    try:
        artifact = Artifact.open(workspace.folders(_KIND)[known.index(chosen)], verify=True)
    except BadArtifact as error:
        raise BadArtifact(f"{chosen} is damaged, so {current} stays current: {error}") from None
    workspace.go_back(_KIND, artifact)
    console.print(f"current release  {escape(chosen)}  [dim]before: {escape(str(current))}[/dim]")
    console.print("A running server swaps it in within seconds, unless serve.follow is off.")


def before_current(workspace: Workspace) -> str | None:
    """The release that was current before, of those that are still there."""
    names = workspace.history(_KIND)
    there = {path.name for path in workspace.folders(_KIND)}
    return next((name for name in reversed(names[:-1]) if name != names[-1] and name in there), None)


def describe_releases(workspace: Workspace) -> list[dict[str, Any]]:
    """Each release: name, when it was made, models with metrics, where it came from, what it is now; newest first."""
    current, before = workspace.in_use().get(_KIND), before_current(workspace)
    described = []
    for folder in workspace.folders(_KIND):
        made_s, problem = None, None
        settings: dict[str, Any] = {}
        models: list[dict[str, Any]] = []
        try:
            artifact = Artifact.open(folder)
            made_s = (folder / "manifest.json").stat().st_mtime
            settings = artifact.manifest["config"]
            models = _models(workspace, artifact)
        except BadArtifact as error:
            problem = str(error)
        described.append(
            {
                "name": folder.name,
                "made": None if made_s is None else datetime.fromtimestamp(made_s, UTC).isoformat(timespec="seconds"),
                "retriever": settings.get("retriever"),
                "popular": settings.get("popular"),
                "models": models,
                "is_current": folder.name == current,
                "is_rollback": folder.name == before,
                "origin": None if (origin := origin_of(workspace.root, folder.name)) is None else asdict(origin),
                "problem": problem,
            }
        )
    return sorted(described, key=lambda one: one["made"] or "", reverse=True)


def _models(workspace: Workspace, release: Artifact) -> list[dict[str, Any]]:
    """The models of a release, the retriever first, with what their own artifacts say of them, if these are kept."""
    settings = release.manifest["config"]
    names = dict.fromkeys(settings[role] for role in ("retriever", "popular", "ranker") if settings.get(role))
    models = []
    # A release's parents are the log, then its models in this order.
    for name, parent in zip(names, release.manifest["parents"][1:], strict=False):
        try:
            metrics = Artifact.open(workspace.root / "artifacts" / parent).manifest["metrics"]
        except BadArtifact:
            metrics = {}
        models.append({"name": name, "artifact": parent, "metrics": metrics})
    return models


def _in_words(model: dict[str, Any]) -> str:
    best = model["metrics"].get("best_metric")
    return str(model["name"]) if best is None else f"{model['name']}: {best:.4f} in validation"


def _state(release: dict[str, Any]) -> str:
    if release["problem"] is not None:
        return "damaged"
    return "current" if release["is_current"] else "rollback goes here" if release["is_rollback"] else ""
