"""The division of a written log: which events train, validate and test, and what that lets leak."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Draft
from upnext.base.errors import BadData
from upnext.base.ids import FIRST
from upnext.events.audit import Finding, audit
from upnext.events.late import audit_amendments, late_rows, other_items
from upnext.events.leaks import audit_side_tables
from upnext.events.log import EventLog, write_late
from upnext.events.segments import write_array
from upnext.events.split import TRAIN, GlobalTime, LeaveLastOut, split_log
from upnext.features.catalogue import Catalogue
from upnext.features.people import People

__all__ = ["divide"]


def divide(
    draft: Draft,
    split: GlobalTime | LeaveLastOut,
    catalogue: Catalogue,
    people: People,
    notes: list[str],
    at_once: int,
    declared: Mapping[str, Collection[str]] | None = None,
    allowed: Sequence[str] = (),
) -> None:
    """Split the log of a draft, fit features on the training part, audit it all, and write down what the log holds.

    Args:     catalogue, people: what is known of items and users; they are saved with their features. at_once: how
              many events to look at together. declared, allowed: as for `audit_side_tables`.
    Raises:   BadConfig: the split leaves nothing to train or to test, or a feature looks like an aggregate of the
              future. BadData: the split leaks the future, or an interaction has two items.
    """
    log = EventLog.open(draft.folder / "log", "fully")
    write_array(draft.folder / "split.npy", split_log(split, log, at_once), len(log), np.dtype(np.int8))
    part = np.load(draft.folder / "split.npy", mmap_mode="r")
    amendments = []
    if log.schema.merge is not None:
        amendments = [_amend(draft.folder / "log", split, log, part, catalogue, people)]
        log = EventLog.open(draft.folder / "log")
    has_item, has_user = np.zeros(len(catalogue), bool), np.zeros(len(people), bool)  # an event that is trained
    for rows, block in log.blocks(at_once):
        is_trained = part[rows] == TRAIN
        has_item[block.rows.item[is_trained]] = True
        has_user[block.rows.user[is_trained]] = True
    catalogue.fitted(log.schema.item_features, has_item).save(draft.folder)
    people.fitted(log.schema.user_features, has_user).save(draft.folder)
    findings = audit(log, part, isinstance(split, GlobalTime), at_once) + amendments
    findings += audit_side_tables(log, part, {"item": catalogue.table, "user": people.table}, declared or {}, allowed)
    (draft.folder / "audit.json").write_text(json.dumps([finding.as_row() for finding in findings], indent=1))
    draft.schema = log.schema.digest()
    draft.metrics |= {
        "num_events": len(log),
        "num_users": len(people.vocabulary.dense_ids),
        "num_items": len(catalogue) - FIRST,
        "num_dense_items": len(catalogue),
        "num_trained_items": int(has_item.sum()),
        "schema": log.schema.model_dump(),
        "split": split.model_dump(),
        "notes": notes,
    }


def _amend(
    folder: Path,
    split: GlobalTime | LeaveLastOut,
    log: EventLog,
    part: NDArray[np.int8],
    catalogue: Catalogue,
    people: People,
) -> Finding:
    """Write down which amendments come too late for their event, given the parts of the events, amended by all."""
    logged = EventLog.open(folder, "not")
    wrong = other_items(logged)
    if len(wrong):
        user, item = (int(column[wrong[0]]) for column in (logged.rows.user, logged.rows.item))
        raise BadData(
            f"{len(wrong):,} rows have the interaction of an earlier row of their user, and another item: first a row"
            f" of user {people.vocabulary.external(user)!r} and item {catalogue.vocabulary.external(item)!r} at"
            f" {int(logged.rows.time_ms[wrong[0]])} ms; an interaction is one item, met once: check the column that"
            " `interaction` names"
        )
    late = late_rows(split, logged, log, part)
    write_late(folder, late)
    return audit_amendments(logged, log, late)
