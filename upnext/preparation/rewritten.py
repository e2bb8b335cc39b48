"""Artifacts written again from themselves: a log in one segment, a log or a release without some users."""

import os

import numpy as np

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.files import link_or_copy
from upnext.base.origins import carry_origin
from upnext.events.log import EventLog, copy_late, write_log
from upnext.events.memory import rows_at_once
from upnext.events.split import GlobalTime, LeaveLastOut
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.preparation.division import divide
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.posted import Posted
from upnext.preparation.sequences import copy_sequences
from upnext.serving.histories import history_key
from upnext.serving.release import POSTED
from upnext.serving.states import state_key
from upnext.store.embedded import LmdbStore

__all__ = ["admitted", "compacted", "log_without", "release_without"]

_USERS = "users.vocabulary.arrow"
_PEOPLE = (_USERS, "users.arrow", "user_features.safetensors")
_USERS_PER_WRITE = 2000


def compacted(workspace: Workspace, log: Artifact) -> Artifact:
    """Write a log's segments as one, which is memory-mapped; what was made from the log stays up to date."""
    manifest = log.manifest
    recipe = manifest["config"] | {"compacted": log.name}
    parents = [*manifest["parents"], log.name]
    with workspace.build("log", recipe, parents) as draft:
        _take(log, draft, [name for name in manifest["files"] if not name.startswith("log/")])
        events = EventLog.open(log.folder / "log", "not")
        blocks = (block.rows for _, block in events.blocks(rows_at_once(None)))
        write_log(draft.folder / "log", blocks, events.schema, events.offsets)
        copy_late(log.folder / "log", draft.folder / "log")
        copy_sequences(log.folder / "log", draft.folder / "log", set(range(len(events.offsets))))
        draft.schema, draft.stands_for = manifest["schema"], log.identity
        draft.metrics |= manifest["metrics"]
    made = workspace.find("log", recipe, parents)
    assert made is not None
    workspace.use("log", made)
    return made


def log_without(workspace: Workspace, log: Artifact, forgotten: Forgotten) -> Artifact:
    """Write a log without the rows and the ids of forgotten users, split and audited anew; nobody's number changes.

    Raises:   BadConfig: what is left cannot be split.
    """
    manifest = log.manifest
    users = Vocabulary.load(log.folder / _USERS)
    gone = forgotten.among(users.ids)
    posted = Posted.of(log).without(gone)
    recipe = manifest["config"] | {"forgotten": list(forgotten.hashes), "posted": posted.digest}
    parents = [*manifest["parents"], log.identity]

    def write(draft: Draft) -> None:
        kept = [name for name in manifest["files"] if name.startswith("context.")]
        _take(log, draft, kept)  # the rest is made anew
        posted.save(draft.folder)
        events = EventLog.open(log.folder / "log", "not")
        dense = [users.dense(user) for user in gone]
        at_once = rows_at_once(None)
        rows = (block.rows.without_users(dense) for _, block in events.blocks(at_once))
        counts = np.diff(events.offsets)
        counts[dense] = 0
        write_log(draft.folder / "log", rows, events.schema, np.append(0, np.cumsum(counts)))
        catalogue, people = Catalogue.load(log.folder), People.load(log.folder).without(gone)
        copy_sequences(log.folder / "log", draft.folder / "log", set(people.vocabulary.dense_ids.tolist()))
        facts = manifest["metrics"]
        kinds: dict[str, type[GlobalTime | LeaveLastOut]] = {"global_time": GlobalTime, "leave_last_out": LeaveLastOut}
        split = kinds[facts["split"]["kind"]](**facts["split"])
        allowed = manifest["config"]["config"]["allow_leaks"]
        divide(draft, split, catalogue, people, facts["notes"], at_once, allowed=allowed)

    return workspace.ensure("log", "log", recipe, parents, write)


def release_without(workspace: Workspace, release: Artifact, forgotten: Forgotten) -> Artifact:
    """Write a release without the histories and the ids of forgotten users; its models stay what they are."""
    manifest = release.manifest
    recipe = manifest["config"] | {"forgotten": list(forgotten.hashes)}
    if workspace.find("release", recipe, manifest["parents"]) is None:
        with workspace.build("release", recipe, manifest["parents"]) as draft:
            made_anew = {*_PEOPLE, POSTED}
            others = [name for name in manifest["files"] if name not in made_anew and not name.startswith("histories/")]
            _take(release, draft, others)
            people = People.load(release.folder)
            gone = forgotten.among(people.vocabulary.ids)
            left = people.without(gone)
            left.save(draft.folder)
            Posted.of(release).without(gone).save(draft.folder)
            count = _copy_histories(release, draft, left.vocabulary)
            draft.schema = manifest["schema"]
            draft.metrics |= manifest["metrics"] | {"num_histories": count, "forgotten": list(forgotten.hashes)}
    made = workspace.find("release", recipe, manifest["parents"])
    assert made is not None
    carry_origin(workspace.root, release.name, made.name)
    before = (release.folder / "manifest.json").stat()  # a rewritten release is as old as what it rewrites
    os.utime(made.folder / "manifest.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    return made


def admitted(workspace: Workspace, release: Artifact) -> Artifact:
    """A release from elsewhere without the users who were forgotten here, in the place of one that may hold them."""
    forgotten = Forgotten.load(workspace.root)
    if forgotten.cover(release.manifest["metrics"].get("forgotten", [])):
        return release
    made = release_without(workspace, release, forgotten)
    workspace.erase(release.folder)
    return made


def _copy_histories(release: Artifact, draft: Draft, users: Vocabulary) -> int:
    source = LmdbStore(release.folder / "histories", is_read_only=True)
    target = LmdbStore(draft.folder / "histories")
    count = 0
    for begin in range(0, len(users.ids), _USERS_PER_WRITE):
        block = users.ids[begin : begin + _USERS_PER_WRITE]
        for key_of in (history_key, state_key):
            keys = [key_of(user) for user in block]
            found = {key: value for key, value in zip(keys, source.get(keys), strict=True) if value is not None}
            target.put(found)
            count += len(found) if key_of is history_key else 0
    source.close()
    target.close()
    (draft.folder / "histories" / "lock.mdb").unlink(missing_ok=True)
    return count


def _take(artifact: Artifact, draft: Draft, names: list[str]) -> None:
    for name in names:
        link_or_copy(artifact.folder / name, draft.folder / name)
