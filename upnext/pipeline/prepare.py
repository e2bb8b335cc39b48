"""Prepare: source files -> event log, vocabularies, catalogue, split and audit, as one artifact `log`.

1. read the source part by part, number users, items and categorical contexts, put compact rows on disk
2. sort them, some users at a time, and write the log      3. split it      4. audit the split
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import pyarrow as pa
from pydantic import Field

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.configuration import ByteSize, Config, parse_config
from upnext.base.schema import ITEM_ID, USER_ID, Schema, context_column
from upnext.events.encoding import encode
from upnext.events.log import write_log
from upnext.events.memory import LEAST_MEMORY, rows_at_once
from upnext.events.sources import AnySource, Frames, RawLog, SASRecSource, TableSource, fingerprints, in_order, read
from upnext.events.split import GlobalTime, Split
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.preparation.division import divide
from upnext.preparation.earlier import Earlier, event_files, followable, up_to_date
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.posted import Posted
from upnext.preparation.sequences import write_sequences
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
    live: bool = False
    """Whether the events that were posted to the service belong to the log."""
    allow_leaks: list[str] = []
    """Features that may be read although the audit takes them for aggregates of the future."""
    leave_out: list[str] = []
    """Features of items and users that the source declares and that nobody is to read: what the audit warns of, say."""
    memory_limit: Annotated[ByteSize, Field(ge=LEAST_MEMORY)] | None = None
    """What `prepare` may take of memory beside its table of ids: "4 GB"; from 1 GB. Unset: half of the machine's. The
    log is the same whatever it is."""


def run(config: PrepareConfig, workspace: Workspace, frames: Frames | None = None) -> Artifact:
    """Prepare the log; an up to date one is found, not made again.

    Args:     frames: the source's tables in memory, by the paths it gives them; unset, files are read.
    """
    parents = [workspace.current("simulation", "simulation")] if isinstance(config.source, SimulatedSource) else []
    source = _files_of(parents[0]) if isinstance(config.source, SimulatedSource) else config.source
    # What comes from outside has no manifest: names, sizes and times of files stand for their content.
    files = {} if parents else fingerprints(source, frames)
    forgotten = Forgotten.load(workspace.root)
    posted = Posted.read(workspace.root / "live", forgotten) if config.live else Posted.none()
    events = [] if parents or frames is not None else event_files(source)
    settings = {
        # How much memory there is changes nothing of the log.
        "config": config.model_dump(mode="json", exclude={"memory_limit"}),
        "files": files,
        "event_files": events,
        "forgotten": list(forgotten.hashes),
        "posted": posted.digest,
    }
    log = up_to_date(workspace, settings, parents)
    if log is not None:
        return log
    at_once = rows_at_once(config.memory_limit)
    earlier = followable(workspace, settings, parents, source, frames, posted, at_once)
    load = partial(read, source, frames, at_once) if earlier is None else earlier.new_rows
    parents += [] if earlier is None else [earlier.artifact]

    def write(draft: Draft) -> None:
        raw = posted.with_interactions(forgotten.kept(load().without(config.leave_out)))
        raw = posted.added_to(raw, earlier.posted if earlier else Posted.none(), draft.folder)
        _prepare(config, source, raw, earlier, draft, at_once)

    return workspace.ensure("log", "log", settings, parents, write)


def _prepare(
    config: PrepareConfig, source: AnySource, raw: RawLog, earlier: Earlier | None, draft: Draft, at_once: int
) -> None:
    schema = _schema(config, raw)
    names = {USER_ID: "users", ITEM_ID: "items"}
    names |= {context_column(name): f"context.{name}" for name, kind in raw.contexts.items() if kind == "categorical"}
    known = {column: earlier.vocabulary(name) for column, name in names.items()} if earlier else {}
    with tempfile.TemporaryDirectory(dir=draft.folder) as spill:
        kept = {column: pl.Series(vocabulary.array) for column, vocabulary in known.items()}
        encoded = encode(raw, Path(spill) / "rows", kept, earlier.next_order if earlier else 0)
        numbered = {column: _vocabulary(encoded.new[column], known.get(column)) for column in names}
        users, items = numbered.pop(USER_ID), numbered.pop(ITEM_ID)
        catalogue = Catalogue(items, in_order(pl.Series(ITEM_ID, items.array), raw.items))
        people = People(users, in_order(pl.Series(USER_ID, users.array), raw.users))
        rows = encoded.sorted_blocks(catalogue.item_hash, at_once)
        write_log(draft.folder / "log", rows, schema, encoded.offsets, earlier.folder if earlier else None)
    for column, vocabulary in numbered.items():
        vocabulary.save(draft.folder / f"{names[column]}.vocabulary.arrow")

    notes = raw.notes + write_sequences(source, users, draft.folder / "log")
    # What a source of ours declares was chosen with care: the audit warns of it, and refuses what others declare.
    is_own = isinstance(config.source, TableSource | SASRecSource)
    declared = {"item": schema.item_features, "user": schema.user_features} if is_own else {}
    divide(draft, config.split, catalogue, people, notes, at_once, declared, config.allow_leaks)


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
            "item_features": raw.item_features,
            "user_features": raw.user_features,
            "merge": raw.merge if raw.has_interactions else None,
            "views": raw.views | config.views,
        },
        "[prepare]",
    )


def _vocabulary(new: pl.Series, known: Vocabulary | None) -> Vocabulary:
    if known is not None:
        return known.extended(new.to_list())
    if new.is_empty():  # a context that was never observed
        return Vocabulary([""])
    return Vocabulary(new.to_arrow().cast(pa.int64() if new.dtype == pl.Int64 else pa.string()))


def _files_of(simulation: Artifact) -> TableSource:
    return parse_config(TableSource, as_table(simulation.folder), str(simulation.folder))
