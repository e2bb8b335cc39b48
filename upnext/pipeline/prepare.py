"""Prepare: source files -> event log, vocabularies, catalogue, split and audit, as one artifact `log`.

1. read the source into its canonical form   2. number users, items and categorical contexts
3. sort and write the log                    4. split it                    5. audit the split
"""

import json
from typing import Annotated, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import FlatColumn
from upnext.base.configuration import Config, parse_config
from upnext.base.errors import BadConfig, BadData
from upnext.base.ids import FIRST
from upnext.base.schema import ITEM_ID, POSITION, REQUEST_ID, TIME_MS, USER_ID, Schema, context_column, feedback_column
from upnext.events.audit import audit
from upnext.events.log import EventLog, LogRows, write_log
from upnext.events.sources import AnySource, Frames, RawLog, TableSource, fingerprints, read
from upnext.events.split import TEST, TRAIN, GlobalTime, LeaveLastOut, Split, split_events, unuse_straddling
from upnext.features.catalogue import Catalogue
from upnext.features.vocabulary import Vocabulary
from upnext.simulation.files import as_table

__all__ = ["PrepareConfig", "SimulatedSource", "run"]


class SimulatedSource(Config):
    """The service that `upnext simulate` made in this workspace."""

    kind: Literal["simulated"]


class PrepareConfig(Config):
    """Where the log comes from, what its views are, and how it is split."""

    source: Annotated[AnySource | SimulatedSource, Field(discriminator="kind")]
    """Where events come from."""
    split: Split = GlobalTime()
    """Which events train, validate and test."""
    views: dict[str, str] = {}
    """Named selections of events, added to those the source proposes: `watched = "played >= 0.5"`."""
    request_safe: bool | None = None
    """Hide events of one request or instant from each other. Unset: on where the log has requests or times, but
    off under leave-last-out, which orders ties by file."""


def run(config: PrepareConfig, workspace: Workspace, frames: Frames | None = None) -> Artifact:
    """Prepare the log; an up to date one is found, not made again.

    Args:     frames: the source's tables in memory, by the paths it gives them; unset, files are read.
    """
    parents = [workspace.current("simulation", "simulation")] if isinstance(config.source, SimulatedSource) else []
    source = _files_of(parents[0]) if isinstance(config.source, SimulatedSource) else config.source
    # What comes from outside has no manifest: names, sizes and times of files stand for their content.
    files = {} if parents else fingerprints(source, frames)
    settings = {"config": config.model_dump(mode="json"), "files": files}
    return workspace.ensure("log", "log", settings, parents, lambda draft: _prepare(config, source, frames, draft))


def _prepare(config: PrepareConfig, source: AnySource, frames: Frames | None, draft: Draft) -> None:
    raw = read(source, frames)
    schema = _schema(config, raw)
    ids = raw.events.select(USER_ID, ITEM_ID, *([TIME_MS] if raw.has_times else []))
    ids = ids.sort(TIME_MS, maintain_order=True) if raw.has_times else ids
    users = _number(ids[USER_ID], None)
    items = _number(ids[ITEM_ID], raw.items)
    contexts = {
        name: Vocabulary(raw.events[context_column(name)].drop_nulls().unique().sort().to_list() or [""])
        for name, kind in raw.contexts.items()
        if kind == "categorical"
    }
    catalogue = Catalogue(items, _side_table(items, raw.items))
    rows, notes = _rows(raw, users, items, catalogue.item_hash, contexts), raw.notes
    del raw, ids  # the largest thing in memory: sorting needs its room
    write_log(draft.folder / "log", rows, schema, len(users))
    del rows
    catalogue.save(draft.folder)
    users.save(draft.folder / "users.vocabulary.arrow")
    for name, vocabulary in contexts.items():
        vocabulary.save(draft.folder / f"context.{name}.vocabulary.arrow")

    log = EventLog.open(draft.folder / "log")
    split = config.split
    view = split.view if isinstance(split, LeaveLastOut) else "all"
    part = split_events(
        split,
        offsets=log.offsets,
        time_ms=log.rows.time_ms,
        has_times=schema.has_times,
        targets=np.isin(np.arange(len(log)), log.in_view(view)[0]),
    )
    part = unuse_straddling(part, log.events.request)
    if not (part == TRAIN).any() or not (part == TEST).any():
        raise BadConfig("requests that span the parts of the split leave nothing to train or to test: check `request`")
    np.save(draft.folder / "split.npy", part)
    findings = audit(log, part, by_time=isinstance(split, GlobalTime))
    (draft.folder / "audit.json").write_text(json.dumps([finding.as_row() for finding in findings], indent=1))
    draft.schema = schema.digest()
    draft.metrics |= {
        "num_events": len(log),
        "num_users": len(users) - FIRST,
        "num_items": len(items) - FIRST,
        "num_dense_items": len(items),
        "num_trained_items": len(np.unique(log.rows.item[part == TRAIN])),
        "schema": schema.model_dump(),
        "split": split.model_dump(),
        "notes": notes,
    }


def _schema(config: PrepareConfig, raw: RawLog) -> Schema:
    has_siblings = raw.has_requests or raw.has_times
    by_default = has_siblings and isinstance(config.split, GlobalTime)
    return parse_config(
        Schema,
        {
            "has_times": raw.has_times,
            "has_requests": raw.has_requests,
            "request_safe": by_default if config.request_safe is None else config.request_safe,
            "contexts": raw.contexts,
            "feedback": raw.feedback,
            "views": raw.views | config.views,
        },
        "[prepare]",
    )


def _number(ids: pl.Series, side: pl.DataFrame | None) -> Vocabulary:
    """Number ids by their first event in time; what only the side table knows comes last."""
    if side is not None:
        ids = pl.concat([ids.unique(maintain_order=True), side[ids.name]])
    ids = ids.unique(maintain_order=True)
    if ids.is_empty():
        raise BadData("the source holds no event; give a file with at least one row")
    return Vocabulary(ids.to_arrow().cast(pa.int64() if ids.dtype == pl.Int64 else pa.string()))


def _side_table(items: Vocabulary, side: pl.DataFrame | None) -> pa.Table:
    """The item side table in the order of the vocabulary, without the id column."""
    ids = pl.DataFrame({ITEM_ID: items.ids})
    if side is None:
        return pa.table({"row": pa.array(range(len(ids)), pa.int64())})
    joined = ids.join(
        side.unique(ITEM_ID, keep="first", maintain_order=True), on=ITEM_ID, how="left", maintain_order="left"
    )
    table: pa.Table = joined.drop(ITEM_ID).to_arrow()
    return table


def _rows(
    raw: RawLog,
    users: Vocabulary,
    items: Vocabulary,
    hashes: NDArray[np.int64],
    contexts: dict[str, Vocabulary],
) -> LogRows:
    events = raw.events
    item = items.encode(events[ITEM_ID].to_arrow())
    zeros = np.zeros(len(events), np.int64)
    codes = events[REQUEST_ID].rank("dense").fill_null(0).cast(pl.Int64).to_numpy() if raw.has_requests else zeros
    has_position = POSITION in events.columns
    return LogRows(
        user=users.encode(events[USER_ID].to_arrow()),
        item=item,
        item_hash=hashes[item],
        time_ms=events[TIME_MS].to_numpy() if raw.has_times else zeros,
        order=np.arange(len(events)),
        request=codes - 1,
        position=events[POSITION].fill_null(-1).cast(pl.Int64).to_numpy() if has_position else zeros - 1,
        columns={
            context_column(name): _context(events[context_column(name)], contexts.get(name)) for name in raw.contexts
        }
        | {feedback_column(name): _numeric(events[feedback_column(name)]) for name in raw.feedback},
    )


def _context(values: pl.Series, vocabulary: Vocabulary | None) -> FlatColumn:
    if vocabulary is None:
        return _numeric(values)
    observed = values.is_not_null().to_numpy()
    return FlatColumn(np.where(observed, vocabulary.encode(values.to_arrow()), 0), observed)


def _numeric(values: pl.Series) -> FlatColumn:
    return FlatColumn(values.fill_null(0.0).cast(pl.Float32).to_numpy(), values.is_not_null().to_numpy())


def _files_of(simulation: Artifact) -> TableSource:
    return parse_config(TableSource, as_table(simulation.folder), str(simulation.folder))
