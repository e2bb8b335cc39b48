"""A log written again from itself: the same events in one segment."""

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.files import link_or_copy
from upnext.events.log import EventLog, write_log

__all__ = ["compacted"]


def compacted(workspace: Workspace, log: Artifact) -> Artifact:
    """Write a log's segments as one, which is memory-mapped; what was made from the log stays up to date."""
    manifest = log.manifest
    recipe = manifest["config"] | {"compacted": log.name}
    parents = [*manifest["parents"], log.name]
    with workspace.build("log", recipe, parents) as draft:
        for name in manifest["files"]:
            if not name.startswith("log/"):
                link_or_copy(log.folder / name, draft.folder / name)
        events = EventLog.open(log.folder / "log")
        write_log(draft.folder / "log", events.rows, events.schema, len(events.offsets) - 1)
        draft.schema, draft.stands_for = manifest["schema"], log.identity
        draft.metrics |= manifest["metrics"]
    made = workspace.find("log", recipe, parents)
    assert made is not None
    workspace.use("log", made)
    return made
