"""Pull and push: a release goes from one workspace to another, file by file, and only what is not there yet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.errors import BadArtifact
from upnext.base.locks import hold
from upnext.base.manifests import MANIFEST
from upnext.base.origins import Origin, drop_origin, origins, write_origin
from upnext.repository.incoming import Incoming
from upnext.repository.listed import Listed
from upnext.repository.provider import Provider

__all__ = ["Admit", "PulledReleases", "Pushed", "already_here", "pull", "push"]

Admit = Callable[[Workspace, Artifact], Artifact]
"""What a workspace does with a release that came in, before it is used: it may put another one in its place."""


def pull(workspace: Workspace, provider: Provider, name: str, admit: Admit) -> Artifact:
    """Fetch a release, unless it is here already; nothing points to it yet.

    Every file is compared with its hash. A kill, or a provider that ends in the middle, leaves what came for next time.

    Raises:   Unreachable, NotFound: the provider does not answer, or has no such release. BadArtifact: what it sends is
              not what it lists, or is none of what a release holds; there is no room for it; another process pulls it.
    """
    here = already_here(workspace, name)
    if here is None:
        listed = provider.listed(name)
        incoming = Incoming(workspace, listed)
        try:
            with hold(incoming.outer):
                here = _fetch(workspace, provider, listed, incoming)
        except BlockingIOError as error:
            raise BadArtifact(f"process {error} is pulling {name} already; wait for it, or end it") from None
    return admit(workspace, here)


def already_here(workspace: Workspace, name: str) -> Artifact | None:
    """What is whole in a workspace of a release with this name elsewhere, under whatever name it is here."""
    names = [name, *(here for here, origin in origins(workspace.root).items() if origin.name == name != here)]
    folders = {folder.name for folder in workspace.folders("release")}
    for here in reversed(names):
        if here in folders:
            try:
                return workspace.named(here)
            except BadArtifact:
                continue
    return None


def _fetch(workspace: Workspace, provider: Provider, listed: Listed, incoming: Incoming) -> Artifact:
    for name in incoming.begin():
        part = incoming.part(name)
        provider.download(listed, name, part)
        incoming.take(name, part)
    write_origin(workspace.root, listed.name, Origin(provider.address, listed.name))
    return incoming.finish()


class PulledReleases:
    """What a provider points to, pulled into a workspace, whose pointer follows once a release is served.

    Args:     keep: how many of those that were pulled from this provider stay here, the latest; None for all. What was
              made or pushed here is left alone.
    """

    def __init__(self, workspace: Workspace, provider: Provider, admit: Admit, keep: int | None = None) -> None:
        self._workspace, self._provider, self._admit, self._keep = workspace, provider, admit, keep

    def current(self) -> str | None:
        """The name of the provider's current release."""
        return self._provider.current()

    def fetch(self, name: str) -> Path:
        """Its folder here, pulled if need be."""
        return pull(self._workspace, self._provider, name, self._admit).folder

    def took(self, folder: Path) -> None:
        """Point to it: a restart begins with it, whether or not the provider answers then."""
        self._workspace.use("release", self._workspace.named(folder.name, verify=False))
        if self._keep is not None:
            self._remove_others(folder.name, self._keep)

    def _remove_others(self, served: str, keep: int) -> None:
        """Remove all but the one that is served and those that were served, or else came, last before it."""
        workspace = self._workspace
        pulled = {name for name, origin in origins(workspace.root).items() if origin.address == self._provider.address}
        folders = [folder for folder in workspace.folders("release") if folder.name in pulled - {served}]
        served_at = {name: place for place, name in enumerate(workspace.history("release"))}

        def last_used(folder: Path) -> tuple[int, int]:
            return served_at.get(folder.name, -1), folder.stat().st_mtime_ns

        for folder in sorted(folders, key=last_used, reverse=True)[keep - 1 :]:
            workspace.erase(folder)
            drop_origin(workspace.root, folder.name)


@dataclass(frozen=True)
class Pushed:
    """What was sent: the name that the release has there now, files and bytes, and how many were there already."""

    name: str
    num_sent: int
    num_bytes: int
    num_there: int


def push(artifact: Artifact, provider: Provider, make_current: bool, tell: Callable[[int], None]) -> Pushed:
    """Send a release to a provider; interrupted or repeated, it sends what is not there yet.

    Args:     tell: called with the bytes of each file that was sent.
    Raises:   BadArtifact: the release was made before manifests said how large files are. Unauthorized, Forbidden: the
              provider does not take it. Unreachable: it does not answer.
    """
    listed = Listed.parse(artifact.name, (artifact.folder / MANIFEST).read_bytes())
    missing = provider.begin(listed)
    for name in missing:
        provider.upload(listed, name, artifact.folder / name)
        tell(listed.files[name].size)
    size = sum(listed.files[name].size for name in missing)
    return Pushed(provider.finish(listed, make_current), len(missing), size, len(listed.files) - len(missing))
