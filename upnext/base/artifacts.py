"""Artifacts: immutable folders named by what made them, written beside, flushed, renamed.

    workspace/
      artifacts/log-1f3a…/manifest.json + files
      current/log            the name of the artifact in use: a small file, replaced atomically
      training/model-7c0d…/  what a stage keeps to go on after a kill; gone when the artifact is finished
      history/log            the names that were in use, one per line, the latest last; replaced atomically

A manifest says what the artifact is, from which configuration, parents and code it came, and the hash of each of
its files. The folder's name is the hash of that recipe: an artifact is up to date when its recipe is unchanged.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upnext.base.errors import BadArtifact
from upnext.base.files import file_hash, flush, replace_file
from upnext.base.locks import hold, is_held, is_running, share, try_lock
from upnext.base.manifests import FORMAT_VERSION, MANIFEST, Artifact, Parents, code_version, name_of

__all__ = ["FORMAT_VERSION", "Artifact", "Draft", "Workspace", "code_version"]

_RECIPE = "recipe.json"
_KEPT = 100
"""So many names stay in the history of a pointer."""

_FULL_OR_CLOSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM}


@dataclass
class Draft:
    """An artifact being written: put files into `folder`, figures into `metrics`, the hash of the log's schema."""

    folder: Path
    recipe: dict[str, Any]
    unfinished: Path
    """Where work on this recipe outlives a killed build; not made before `keep`."""
    metrics: dict[str, Any] = field(default_factory=dict)
    schema: str = ""
    stands_for: str = ""
    """The artifact whose content this one rewrites in another form: what was made from that one stays up to date."""
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def keep(self) -> Path:
        """Make the folder `unfinished` and hold it; what a killed build left there is still in it.

        It is this recipe's alone, and is removed when the artifact is finished.

        Raises:   BadArtifact: another run holds it.
        """
        try:
            self._held.enter_context(hold(self.unfinished))
        except BlockingIOError as error:
            raise BadArtifact(
                f"another run (process {error}) is making the same artifact in {self.unfinished}; wait for it or end it"
            ) from None
        for partial in self.unfinished.glob(".*"):  # files that a kill left half-written
            partial.unlink()
        replace_file(self.unfinished / _RECIPE, json.dumps(self.recipe, indent=1).encode())
        return self.unfinished


@dataclass(frozen=True)
class Workspace:
    """The folder that holds a project's artifacts and points to those in use."""

    root: Path
    pointers: Path | None = None
    """Where the pointers are; unset, in `current/` of the root."""

    @property
    def _artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def _current(self) -> Path:
        return self.pointers or self.root / "current"

    @property
    def _history(self) -> Path:
        return self._current.parent / "history"

    def view(self, pointers: Path) -> "Workspace":
        """The same artifacts under pointers of its own, in a new folder: at first they point where these do."""
        shutil.copytree(self._current, pointers)
        return Workspace(self.root, pointers)

    @property
    def _training(self) -> Path:
        return self.root / "training"

    @classmethod
    def existing(cls, folder: Path) -> "Workspace":
        """A workspace to read from.

        Raises:   BadArtifact: there is no such folder.
        """
        if not folder.is_dir():
            raise BadArtifact(f"there is no workspace {folder}; run `upnext run FILE.toml --until publish` first")
        return cls(folder)

    def find(self, kind: str, config: Any, parents: Parents = ()) -> Artifact | None:
        """Find the artifact with this recipe, if it was made already; a damaged one has to be made again."""
        return self._whole(self._artifacts / name_of(self._recipe(kind, config, parents)))

    @staticmethod
    def _whole(folder: Path) -> Artifact | None:
        try:
            return Artifact.open(folder, verify=True)
        except BadArtifact:
            return None

    @contextlib.contextmanager
    def build(self, kind: str, config: Any, parents: Parents = ()) -> Iterator[Draft]:
        """Write an artifact: all of it appears under its name at the end of the block, or nothing does.

        Args:     config: the stage's resolved configuration, as JSON-like data; parents: what it was made from.
        Raises:   BadArtifact: the folder cannot be written.
        """
        recipe = self._recipe(kind, config, parents)
        final = self._artifacts / name_of(recipe)
        partial = self._artifacts / f".{final.name}.{os.getpid()}"
        self._remove_rubbish()
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        except OSError as error:
            raise BadArtifact(
                f"cannot write into {self._artifacts}: {error.strerror}; choose another workspace"
            ) from None
        draft = Draft(partial, recipe, self._training / final.name)
        lock = try_lock(partial)
        try:
            yield draft
            self._finish(partial, recipe, draft)
            self._place(partial, final)
            shutil.rmtree(draft.unfinished, ignore_errors=True)
        except OSError as error:
            if error.errno not in _FULL_OR_CLOSED and "No space left" not in str(error):
                raise
            raise BadArtifact(f"cannot write {final}: {error}; make room, or choose another workspace") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            draft._held.close()
            if lock is not None:
                os.close(lock)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Keep out whoever forgets users: what changes posted events and releases under the feet of those who use them.

        Raises:   BadArtifact: somebody is at it.
        """
        try:
            with share(self.root / "live"):
                yield
        except BlockingIOError as error:
            raise BadArtifact(f"process {error} is changing {self.root}; wait for it, then start again") from None

    def erase(self, folder: Path) -> None:
        """Remove an artifact's folder: it is gone under its name at once, and no crash leaves a part of it there."""
        hidden = folder if folder.name.startswith(".") else folder.with_name(f".{folder.name}.{os.getpid()}")
        if hidden != folder:
            folder.rename(hidden)
            flush(self._artifacts)
        shutil.rmtree(hidden)

    def drop_dangling(self) -> None:
        """Let nothing be in use whose folder is gone."""
        for name, target in self.in_use().items():
            if not (self._artifacts / target).is_dir():
                (self._current / name).unlink()
                (self._history / name).unlink(missing_ok=True)

    def at_work(self) -> list[str]:
        """What other processes are making here: drafts and trainings that are held."""
        held = [folder.name for folder in self._training.glob("*") if is_held(folder)]
        return held + [draft.name for draft in self.drafts() if not _is_free(draft)]

    def drafts(self) -> list[Path]:
        """The folders of artifacts that are being written, or that a kill left."""
        return sorted(self._artifacts.glob(".*-*.*"))

    def _remove_rubbish(self) -> None:
        """Remove drafts of processes that are gone, and kept work that no build can go on with."""
        for draft in self.drafts():
            process = draft.name.rpartition(".")[2]
            if process.isdigit() and not is_running(int(process)):
                _remove_if_free(draft)
        for folder in self._training.glob("*"):
            is_finished = self._whole(self._artifacts / folder.name) is not None
            if (is_finished or _code_of(folder) not in (None, code_version())) and not is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _finish(partial: Path, recipe: dict[str, Any], draft: Draft) -> None:
        """Write the manifest and flush everything to disk."""
        files = {str(p.relative_to(partial)): p for p in sorted(partial.rglob("*")) if p.is_file()}
        manifest = recipe | {
            "files": {name: file_hash(path) for name, path in files.items()},
            "sizes": {name: path.stat().st_size for name, path in files.items()},
            "schema": draft.schema,
            "metrics": draft.metrics,
        }
        if draft.stands_for:
            manifest["stands_for"] = draft.stands_for
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (*files.values(), partial / MANIFEST, *(p for p in partial.rglob("*") if p.is_dir()), partial):
            flush(path)

    def _place(self, partial: Path, final: Path) -> None:
        """Give a finished folder its name. A whole artifact that another run put there meanwhile stays."""
        if final.is_dir() and self._whole(final) is None:
            shutil.rmtree(final)
        try:
            partial.rename(final)
        except OSError:
            if self._whole(final) is None:
                raise
        flush(self._artifacts)

    def adopt(self, folder: Path, name: str) -> Artifact:
        """Give a flushed folder on the same disk its place among the artifacts; a whole one that has it stays."""
        self._artifacts.mkdir(parents=True, exist_ok=True)
        self._place(folder, self._artifacts / name)
        return self.named(name, verify=False)

    def ensure(self, name: str, kind: str, config: Any, parents: Parents, write: Callable[[Draft], None]) -> Artifact:
        """Find the artifact with this recipe, or make it with `write`; either way point `current/name` to it."""
        artifact = self.find(kind, config, parents)
        if artifact is None:
            with self.build(kind, config, parents) as draft:
                write(draft)
            artifact = self.find(kind, config, parents)
            assert artifact is not None
        self.use(name, artifact)
        return artifact

    def use(self, name: str, artifact: Artifact) -> None:
        """Point `current/name` to an artifact, atomically, and remember what it pointed to."""
        before = self.history(name)
        self._point(name, before if before[-1:] == [artifact.name] else [*before, artifact.name])

    def substitute(self, name: str, names: Mapping[str, str]) -> None:
        """Let `current/name` and its history name other artifacts in the place of some."""
        if before := self.history(name):
            self._point(name, [names.get(former, former) for former in before])

    def go_back(self, name: str, artifact: Artifact) -> None:
        """Point `current/name` to an artifact that was in use before, and forget what came after it.

        One that never was in use is used as a new one.
        """
        before = self.history(name)
        if artifact.name in before:
            last = len(before) - 1 - before[::-1].index(artifact.name)
            self._point(name, before[: last + 1])
        else:
            self.use(name, artifact)

    def history(self, name: str) -> list[str]:
        """The names of what was in use, oldest first; the last one is in use now. Empty if nothing is."""
        current = self._pointer(name)
        try:
            before = (self._history / name).read_text().split()
        except (OSError, UnicodeDecodeError):
            before = []
        # The pointer is the truth: a crash may have come between the two files.
        return before if current is None or before[-1:] == [current] else [*before, current]

    def _point(self, name: str, history: list[str]) -> None:
        replace_file(self._current / name, history[-1].encode())
        replace_file(self._history / name, "\n".join(history[-_KEPT:]).encode())

    def _pointer(self, name: str) -> str | None:
        try:
            return (self._current / name).read_text().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def used(self, name: str) -> Iterator[Artifact]:
        """Open what `current/name` points to and what it pointed to before, the latest first; what is gone is skipped.

        Files are not compared with their hashes: ask `is_whole`.
        """
        for former in dict.fromkeys(reversed(self.history(name))):
            with contextlib.suppress(BadArtifact):
                yield self.named(former, verify=False)

    def is_whole(self, artifact: Artifact) -> bool:
        """Whether every file of an artifact is there and as it was written."""
        return self._whole(artifact.folder) is not None

    def in_use(self) -> dict[str, str]:
        """The names of the artifacts in use, by what they are used as."""
        paths = sorted(self._current.iterdir()) if self._current.is_dir() else []
        names = [path.name for path in paths if not path.name.startswith(".")]
        return {name: self._pointer(name) or "" for name in names}

    def folders(self, kind: str = "") -> list[Path]:
        """The folders of artifacts of a kind, or of all kinds, by name; finished or not is not looked at."""
        found = sorted(self._artifacts.iterdir()) if self._artifacts.is_dir() else []
        return [path for path in found if path.is_dir() and path.name.startswith(f"{kind}-" if kind else "")]

    def current(self, name: str, kind: str, parent: Artifact | None = None, verify: bool = True) -> Artifact:
        """Open the artifact in use under a name.

        Args:     kind: what it must be; parent: what it must have been made from; verify: as in `Artifact.open`.
        Raises:   BadArtifact: there is none yet, it is damaged, of another kind, or made from something else.
        """
        pointer = self._current / name
        target = self._pointer(name)
        if target is None:
            raise BadArtifact(f"{self.root} holds no {name!r} yet; first run {_how_to_make(name)}")
        artifact = self.named(target, verify)
        if artifact.kind != kind:
            raise BadArtifact(f"{pointer} names a {artifact.kind}, not a {kind}; run the stage that makes it again")
        if parent is not None and parent.identity not in artifact.manifest["parents"]:
            raise BadArtifact(
                f"{name!r} was made from {', '.join(artifact.manifest['parents'])}, and the {parent.kind} in use is"
                f" {parent.name}; run the stage that makes it again"
            )
        return artifact

    def named(self, name: str, verify: bool = True) -> Artifact:
        """Open an artifact by the name of its folder."""
        return Artifact.open(self._artifacts / name, verify)

    @staticmethod
    def _recipe(kind: str, config: Any, parents: Parents) -> dict[str, Any]:
        return {
            "kind": kind,
            "format_version": FORMAT_VERSION,
            "code_version": code_version(),
            "config": config,
            "parents": [parent.identity if isinstance(parent, Artifact) else parent for parent in parents],
        }


def _how_to_make(name: str) -> str:
    """The command that makes what a pointer of this name points to."""
    kind, _, own = name.partition("-")
    stages = {
        "simulation": "simulate",
        "log": "prepare",
        "release": "publish",
        "report": "evaluate",
        "examples": "distill",
        "said": "distill",
    }
    if kind == "model":
        return (
            f"`upnext run FILE.toml`, or the stage whose table has {own!r} alone, such as `upnext pretrain FILE.toml`"
        )
    return f"`upnext run FILE.toml --until {stages.get(kind, kind)}`"


def _remove_if_free(draft: Path) -> None:
    """Remove a draft unless somebody holds it: a process of another container has a number unknown here."""
    with contextlib.suppress(FileNotFoundError):
        lock = try_lock(draft)
        if lock is not None:
            shutil.rmtree(draft, ignore_errors=True)
            os.close(lock)


def _is_free(draft: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        lock = try_lock(draft)
        if lock is None:
            return False
        os.close(lock)
    return True


def _code_of(folder: Path) -> str | None:
    """The version of the code that kept work in a folder; None if the folder does not say."""
    try:
        return str(json.loads((folder / _RECIPE).read_text())["code_version"])
    except (OSError, ValueError, KeyError):
        return None
