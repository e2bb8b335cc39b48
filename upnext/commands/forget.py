"""`upnext log forget`: users leave the log, the releases and the posted events, and do not come back.

The steps are in an order that a kill at any moment does no harm to: the tombstones first, so that a second run knows
what the first one wanted; what replaces something before it is erased; each step does nothing where it is done.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.errors import BadArtifact, BadConfig, NotFound
from upnext.base.ids import ExternalId
from upnext.base.locks import hold
from upnext.base.origins import PUSHED, drop_origins, origins
from upnext.features.vocabulary import Vocabulary
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.posted import erase_posted, read_posted
from upnext.preparation.rewritten import log_without, release_without
from upnext.repository.incoming import partly_here

__all__ = ["forget"]


def forget(workspace: Workspace, names: Sequence[str], console: Console) -> None:
    """Forget users for good.

    Raises:   NotFound: nothing here knows one of them. BadArtifact: a server or a run is at work in the workspace.
    """
    live = workspace.root / "live"
    try:
        with hold(live):
            if at_work := workspace.at_work():
                raise BadArtifact(f"another run is making {at_work[0]} in {workspace.root}; wait for it or end it")
            forgotten = Forgotten.load(workspace.root)
            forgotten = forgotten.with_users(_known(workspace, live, names, forgotten))
            forgotten.save(workspace.root)
            num_posted = erase_posted(live, forgotten)
            for line in _rewrite(workspace, forgotten):
                console.print(line)
            for line in _erase(workspace, forgotten):
                console.print(line)
    except BlockingIOError as error:
        raise BadArtifact(
            f"a server (process {error}) runs on {workspace.root} and holds what it loaded: stop it with Ctrl-C or"
            f" `kill {error}`, run this again, then start it"
        ) from None
    console.print(f"forgotten: {escape(', '.join(names))}; {num_posted:,} posted events erased")
    console.print(_LEFT, highlight=False)
    for address in sorted({origin.address for origin in origins(workspace.root).values()} - {PUSHED}):
        console.print(_PROVIDER.format(address=escape(address)), highlight=False)


_LEFT = """What is left:
* The source files still hold their rows; prepare leaves them out from now on. Delete them there, and in backups, too.
* Models that were trained with their events keep what they learnt, and releases what was counted, without their ids.
  `upnext run` trains, evaluates and publishes anew, from the log without them; then delete the older models."""


_PROVIDER = """* {address}, where releases were pulled from, still has them: forget them there, too. What is pulled
  from now on is rewritten without them before it is used. Where releases were pushed to is not known here."""


def _known(workspace: Workspace, live: Path, names: Sequence[str], forgotten: Forgotten) -> list[ExternalId]:
    """The users by the ids that the log has, where some artifact, posted event or tombstone knows them.

    Raises:   NotFound: nothing does.
    """
    texts = {str(event.user_id) for event in read_posted(live)}
    for folder in (*workspace.folders("log"), *workspace.folders("release")):
        try:
            texts.update(map(str, Vocabulary.load(folder / "users.vocabulary.arrow").ids))
        except BadArtifact:
            continue  # damaged: it is erased below
    for name in names:
        if name not in texts and not forgotten.holds(name):
            raise NotFound(f"no log, release or posted event of {workspace.root} knows the user {name!r}; check the id")
    return list(names)


def _rewrite(workspace: Workspace, forgotten: Forgotten) -> Iterator[str]:
    """Put a log and releases without the users in the place of those that may hold them."""
    log = _opened(workspace, workspace.in_use().get("log"))
    if log is not None and not forgotten.cover(_tombstones(log)):
        try:
            made = log_without(workspace, log, forgotten)
            yield f"[bold]log[/bold]      {escape(str(made.folder))} in the place of {escape(log.name)}"
        except BadConfig as error:
            yield f"[bold]log[/bold]      erased without another in its place: {escape(str(error))}"
    names = {}
    for folder in workspace.folders("release"):
        release = _opened(workspace, folder.name)
        if release is not None and not forgotten.cover(_tombstones(release)):
            names[release.name] = release_without(workspace, release, forgotten).name
            yield f"[bold]release[/bold]  {names[release.name]} in the place of {escape(release.name)}"
    workspace.substitute("release", names)


def _opened(workspace: Workspace, name: str | None) -> Artifact | None:
    """An artifact whose files are all there; what is damaged is only erased."""
    if name is None:
        return None
    try:
        return workspace.named(name)
    except BadArtifact:
        return None


def _erase(workspace: Workspace, forgotten: Forgotten) -> Iterator[str]:
    """Erase every log and release that was made before, the reports on such logs, and what kills left."""
    for draft in workspace.drafts():
        workspace.erase(draft)
    for part in partly_here(workspace):
        shutil.rmtree(part)
    logs: set[str] = set()
    for kind in ("log", "release", "report"):
        for folder in workspace.folders(kind):
            try:
                artifact = Artifact.open(folder)
                is_safe = forgotten.cover(_tombstones(artifact)) or not logs.isdisjoint(
                    artifact.manifest["parents"][:1]
                )
            except BadArtifact:
                is_safe = False
            if not is_safe:
                workspace.erase(folder)
                yield f"[bold]erased[/bold]   {escape(folder.name)}"
            elif kind == "log":
                logs.add(artifact.identity)
    workspace.drop_dangling()
    drop_origins(workspace.root, {folder.name for folder in workspace.folders("release")})


def _tombstones(artifact: Artifact) -> list[str]:
    """The tombstones that an artifact was made with."""
    part = artifact.manifest["config" if artifact.kind == "log" else "metrics"]
    hashes: list[str] = part.get("forgotten", [])
    return hashes
