"""The division of a written log: which events train, validate and test, and what that lets leak."""

import json

import numpy as np

from upnext.base.artifacts import Draft
from upnext.base.errors import BadConfig
from upnext.base.ids import FIRST
from upnext.events.audit import audit
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, GlobalTime, LeaveLastOut, split_events, unuse_straddling

__all__ = ["divide"]


def divide(
    draft: Draft, split: GlobalTime | LeaveLastOut, num_users: int, num_dense_items: int, notes: list[str]
) -> None:
    """Split the log of a draft, audit the split, and write down what the log holds.

    Raises:   BadConfig: the split leaves nothing to train or to test. BadData: it leaks the future.
    """
    log = EventLog.open(draft.folder / "log")
    view = split.view if isinstance(split, LeaveLastOut) else "all"
    part = split_events(
        split,
        offsets=log.offsets,
        time_ms=log.rows.time_ms,
        has_times=log.schema.has_times,
        targets=np.isin(np.arange(len(log)), log.in_view(view)[0]),
    )
    part = unuse_straddling(part, log.events.request)
    if not (part == TRAIN).any() or not (part == TEST).any():
        raise BadConfig("requests that span the parts of the split leave nothing to train or to test: check `request`")
    np.save(draft.folder / "split.npy", part)
    findings = audit(log, part, by_time=isinstance(split, GlobalTime))
    (draft.folder / "audit.json").write_text(json.dumps([finding.as_row() for finding in findings], indent=1))
    draft.schema = log.schema.digest()
    draft.metrics |= {
        "num_events": len(log),
        "num_users": num_users,
        "num_items": num_dense_items - FIRST,
        "num_dense_items": num_dense_items,
        "num_trained_items": len(np.unique(log.rows.item[part == TRAIN])),
        "schema": log.schema.model_dump(),
        "split": split.model_dump(),
        "notes": notes,
    }
