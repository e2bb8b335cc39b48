"""`upnext doctor`: what is missing, damaged, stale or slow, and what to do about it."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from upnext.base.artifacts import Artifact, Workspace, code_version
from upnext.base.errors import BadArtifact
from upnext.base.origins import origins
from upnext.commands.checks import Check, environment, in_bytes
from upnext.repository.incoming import partly_here

__all__ = ["examine", "look_into"]

_COLOURS = {"ok": "green", "note": "yellow", "warning": "red", "failed": "bold red"}


def examine(folder: Path | None, as_json: bool, console: Console) -> bool:
    """Run every check and print what it says.

    Returns:  whether none has failed.
    """
    checks = list(environment(os.environ, folder or Path()))
    if folder is not None:
        checks += look_into(folder)
    is_well = all(check.level != "failed" for check in checks)
    if as_json:
        said = {"is_well": is_well, "checks": [asdict(check) for check in checks]}
        console.print_json(json.dumps(said), indent=None)
        return is_well
    for check in checks:
        console.print(f"[{_COLOURS[check.level]}]{check.level:8}[/] [bold]{check.name}[/bold]  {escape(check.message)}")
        if check.advice:
            console.print(f"         {escape(check.advice)}")
    return is_well


def look_into(folder: Path) -> Iterator[Check]:
    """Look into a workspace: what it holds, what is damaged, stale or left over. Every file is read."""
    if not folder.is_dir():
        yield Check("workspace", "failed", f"there is no folder {folder}", "run `upnext run FILE.toml`, or correct it")
        return
    if not os.access(folder, os.W_OK):
        yield Check("workspace", "warning", f"{folder} cannot be written", "stages need to; reading commands do not")
    workspace = Workspace(folder)
    pointers = workspace.in_use()
    opened: dict[str, Artifact] = {}
    damaged: dict[str, str] = {}
    for path in workspace.folders():
        if path.name.startswith("."):
            size = in_bytes(_size(path))
            yield Check(
                "left over", "note", f"{path.name}, {size}: a run was stopped", f"if none is running: rm -r {path}"
            )
            continue
        try:
            opened[path.name] = Artifact.open(path, verify=True)
        except BadArtifact as error:
            damaged[path.name] = str(error)
    yield from _holdings(workspace, opened, damaged)
    for name, problem in damaged.items():
        used = [pointer for pointer, target in pointers.items() if target == name]
        if used:
            advice = "run the stage that makes it again" + (
                "; or upnext releases rollback" if "release" in used else ""
            )
            yield Check("damaged", "failed", f"{name} is in use as {', '.join(used)}: {problem}", advice)
        else:
            yield Check("damaged", "warning", f"{name}: {problem}", "nothing points to it: delete it")
    for pointer, target in pointers.items():
        if target not in opened and target not in damaged:
            yield Check("pointer", "failed", f"current/{pointer} names {target}, which is gone", "run its stage again")
    yield from _from_elsewhere(workspace, pointers)
    yield from _stale(opened, pointers)
    live = folder / "live"
    if live.is_dir():
        yield Check("live", "ok", f"posted events take {in_bytes(_size(live))}")


def _holdings(workspace: Workspace, opened: dict[str, Artifact], damaged: dict[str, str]) -> Iterator[Check]:
    sizes: dict[str, list[int]] = {}
    for name in [*opened, *damaged]:
        sizes.setdefault(name.rpartition("-")[0], []).append(_size(workspace.root / "artifacts" / name))
    said = ", ".join(f"{len(some)} {kind} ({in_bytes(sum(some))})" for kind, some in sorted(sizes.items()))
    if sizes:
        yield Check("artifacts", "ok", said)
    else:
        yield Check("artifacts", "note", f"{workspace.root} holds no artifacts", "run `upnext run FILE.toml`")
    if sizes and "release" not in workspace.in_use():
        yield Check("release", "note", "no release is in use", "run `upnext run FILE.toml --until publish`")


def _from_elsewhere(workspace: Workspace, pointers: dict[str, str]) -> Iterator[Check]:
    """Releases that were pulled or pushed here, and those that did not come in whole."""
    known = origins(workspace.root)
    came = [folder.name for folder in workspace.folders("release") if folder.name in known]
    if came:
        addresses = ", ".join(sorted({known[name].address for name in came}))
        used = pointers.get("release")
        state = f"; {used}, in use, from {known[used].address}" if used in known else ""
        yield Check("origin", "ok", f"{len(came)} releases came from {addresses}{state}")
    for folder in partly_here(workspace):
        message = f"{in_bytes(_size(folder))} of {folder.name} came; the rest of a pull or a push is missing"
        yield Check("incoming", "note", message, f"pull or push it again to go on, or: rm -r {folder}")


def _stale(opened: dict[str, Artifact], pointers: dict[str, str]) -> Iterator[Check]:
    """What is in use and would be made again, and what nothing in use was made from."""
    for pointer, target in pointers.items():
        if target in opened and (made_by := opened[target].manifest["code_version"]) != code_version():
            message = f"{pointer}: {target} was made by the code {made_by}; this is {code_version()}"
            yield Check("stale", "note", message, "it works; `upnext run FILE.toml` makes it again")
    needed, open_ends = set(pointers.values()), list(pointers.values())
    while open_ends:
        artifact = opened.get(open_ends.pop())
        for parent in artifact.manifest["parents"] if artifact is not None else []:
            if parent not in needed:
                needed.add(parent)
                open_ends.append(parent)
    unused = [artifact for name, artifact in opened.items() if name not in needed]
    if unused:
        size = in_bytes(sum(_size(artifact.folder) for artifact in unused))
        message = f"{len(unused)} artifacts ({size}) that nothing in use was made from"
        advice = "keep them to go back; delete any to make room: " + ", ".join(artifact.name for artifact in unused)
        yield Check("unused", "note", message, advice)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
