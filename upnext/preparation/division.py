"""The division of a written log: which events train, validate and test, and what that lets leak."""

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from upnext.base.artifacts import Draft
from upnext.base.errors import BadConfig
from upnext.base.ids import FIRST
from upnext.events.audit import audit
from upnext.events.leaks import audit_side_tables
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, GlobalTime, LeaveLastOut, split_events, unuse_straddling
from upnext.features.catalogue import Catalogue
from upnext.features.people import People

__all__ = ["divide"]


def divide(
    draft: Draft,
    split: GlobalTime | LeaveLastOut,
    catalogue: Catalogue,
    people: People,
    notes: list[str],
    declared: Mapping[str, Collection[str]] | None = None,
    allowed: Sequence[str] = (),
) -> None:
    """Split the log of a draft, fit features on the training part, audit it all, and write down what the log holds.

    Args:     catalogue, people: what is known of items and users; they are saved with their features. declared,
              allowed: as for `audit_side_tables`.
    Raises:   BadConfig: the split leaves nothing to train or to test, or a feature looks like an aggregate of the
              future. BadData: the split leaks the future.
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
    items, users = log.rows.item[part == TRAIN], log.rows.user[part == TRAIN]
    catalogue.fitted(log.schema.item_features, np.bincount(items, minlength=len(catalogue)) > 0).save(draft.folder)
    people.fitted(log.schema.user_features, np.bincount(users, minlength=len(people)) > 0).save(draft.folder)
    findings = audit(log, part, by_time=isinstance(split, GlobalTime))
    findings += audit_side_tables(log, part, {"item": catalogue.table, "user": people.table}, declared or {}, allowed)
    (draft.folder / "audit.json").write_text(json.dumps([finding.as_row() for finding in findings], indent=1))
    draft.schema = log.schema.digest()
    draft.metrics |= {
        "num_events": len(log),
        "num_users": len(people.vocabulary.ids),
        "num_items": len(catalogue) - FIRST,
        "num_dense_items": len(catalogue),
        "num_trained_items": len(np.unique(log.rows.item[part == TRAIN])),
        "schema": log.schema.model_dump(),
        "split": split.model_dump(),
        "notes": notes,
    }
