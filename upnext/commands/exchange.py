"""`upnext releases serve`, `pull` and `push`: releases over HTTP."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import DownloadColumn, Progress

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.errors import NotFound
from upnext.preparation.rewritten import admitted
from upnext.repository.app import create_app
from upnext.repository.provider import Provider
from upnext.repository.transfer import PulledReleases, push
from upnext.serving.listening import answer, listen, token_of

__all__ = ["pull_release", "push_release", "serve_releases"]


def serve_releases(
    folder: Path, host: str, port: int, token_env: str, console: Console, announce: Callable[[str], None] | None = None
) -> None:
    """Offer a workspace's releases until interrupted; with a token in the environment, take those that are pushed.

    Args:     announce: called with the address once requests are answered; unset, it is printed.
    Raises:   BadConfig: the address cannot be taken, or the token is too short. BadArtifact: users are being forgotten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    token = token_of(token_env)

    def say(address: str) -> None:
        console.print(f"[bold]releases[/bold]  {address}")
        console.print(f"pushing is {'on, for who has the token' if token else f'off: {token_env} is not set'}")
        console.print("[dim]Ctrl-C stops.[/dim]")

    workspace = Workspace(folder)
    with listen(host, port, "--port") as listener, workspace.shared():
        answer(create_app(workspace, token, admitted), listener, announce or say)


def pull_release(folder: Path, address: str, name: str | None, console: Console) -> None:
    """Pull a release, the provider's current one if none is named, and make it current here."""
    folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(folder)
    source = PulledReleases(workspace, Provider(address), admitted)
    wanted = name or source.current()
    if wanted is None:
        raise NotFound(f"{address} offers no release yet; publish one there, or push one")
    with workspace.shared():
        pulled = source.fetch(wanted)
        source.took(pulled)
    console.print(f"current release  {escape(pulled.name)}  [dim]from {escape(address)}[/dim]")


def push_release(
    folder: Path, address: str, name: str | None, make_current: bool, token_env: str, console: Console
) -> None:
    """Push a release, the current one if none is named; what the provider has already is not sent again."""
    workspace = Workspace.existing(folder)
    artifact = _chosen(workspace, name)
    with Progress(*Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("push", total=None)
        pushed = push(
            artifact, Provider(address, token_of(token_env)), make_current, lambda n: progress.advance(task, n)
        )
    state = "current there" if make_current else "there, and not current"
    console.print(f"{escape(pushed.name)} is {state}")
    console.print(f"{pushed.num_sent} files sent, {pushed.num_bytes:,} bytes; {pushed.num_there} were there already")


def _chosen(workspace: Workspace, name: str | None) -> Artifact:
    """A release whose files are as they were written."""
    if name is None:
        return workspace.current("release", "release")
    if name not in {path.name for path in workspace.folders("release")}:
        raise NotFound(f"{workspace.root} holds no release {name!r}; `upnext releases list` says which there are")
    return workspace.named(name)
