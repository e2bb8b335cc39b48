"""Prepare: source files -> event log, vocabularies, catalogue, split and audit, as one artifact `log`.

1. read the source into its canonical form   2. number users, items and categorical contexts
3. sort and write the log                    4. split it                    5. audit the split
"""

from functools import partial
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import FlatColumn
from upnext.base.configuration import Config, parse_config
from upnext.base.ids import hash_texts
from upnext.base.schema import ITEM_ID, POSITION, REQUEST_ID, TIME_MS, USER_ID, Schema, context_column, feedback_column
from upnext.events.log import LogRows, write_log
from upnext.events.sources import AnySource, Frames, RawLog, SASRecSource, TableSource, fingerprints, in_order, read
from upnext.events.split import GlobalTime, Split
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.preparation.division import divide
from upnext.preparation.earlier import Earlier, event_files, followable, up_to_date
from upnext.preparation.forgotten import Forgotten
from upnext.preparation.numbering import number_ids, number_rows, number_values
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
        "config": config.model_dump(mode="json"),
        "files": files,
        "event_files": events,
        "forgotten": list(forgotten.hashes),
        "posted": posted.digest,
    }
    log = up_to_date(workspace, settings, parents)
    if log is not None:
        return log
    earlier = followable(workspace, settings, parents, source, frames, posted)
    load = partial(read, source, frames) if earlier is None else earlier.new_rows
    parents += [] if earlier is None else [earlier.artifact]

    def write(draft: Draft) -> None:
        raw = posted.added_to(forgotten.kept(load()), earlier.posted if earlier else Posted.none(), draft.folder)
        _prepare(config, source, raw, earlier, draft)

    return workspace.ensure("log", "log", settings, parents, write)


def _prepare(config: PrepareConfig, source: AnySource, raw: RawLog, earlier: Earlier | None, draft: Draft) -> None:
    schema = _schema(config, raw)
    ids = raw.events.select(USER_ID, ITEM_ID, *([TIME_MS] if raw.has_times else []))
    ids = ids.sort(TIME_MS, maintain_order=True) if raw.has_times else ids
    users = number_ids(ids[USER_ID], None, earlier.users if earlier else None)
    items = number_ids(ids[ITEM_ID], raw.items, earlier.items if earlier else None)
    contexts = {
        name: number_values(raw.events[context_column(name)], earlier.context(name) if earlier else None)
        for name, kind in raw.contexts.items()
        if kind == "categorical"
    }
    catalogue = Catalogue(items, in_order(pl.Series(ITEM_ID, items.places), raw.items))
    people = People(users, in_order(pl.Series(USER_ID, users.places), raw.users))
    first = earlier.next_order if earlier else 0
    rows, notes = _rows(raw, users, items, catalogue.item_hash, contexts, first), raw.notes
    del raw, ids  # the largest thing in memory: sorting needs its room
    write_log(draft.folder / "log", rows, schema, len(users), earlier.folder if earlier else None)
    del rows
    for name, vocabulary in contexts.items():
        vocabulary.save(draft.folder / f"context.{name}.vocabulary.arrow")

    notes = notes + write_sequences(source, users, draft.folder / "log")
    # What a source of ours declares was chosen with care: the audit warns of it, and refuses what others declare.
    is_own = isinstance(config.source, TableSource | SASRecSource)
    declared = {"item": schema.item_features, "user": schema.user_features} if is_own else {}
    divide(draft, config.split, catalogue, people, notes, declared, config.allow_leaks)


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
            "views": raw.views | config.views,
        },
        "[prepare]",
    )


def _rows(
    raw: RawLog,
    users: Vocabulary,
    items: Vocabulary,
    hashes: NDArray[np.int64],
    contexts: dict[str, Vocabulary],
    first: int,
) -> LogRows:
    events = raw.events
    item = items.encode(events[ITEM_ID].to_arrow())
    zeros = np.zeros(len(events), np.int64)
    has_position = POSITION in events.columns
    return LogRows(
        user=users.encode(events[USER_ID].to_arrow()),
        item=item,
        item_hash=hashes[item],
        time_ms=events[TIME_MS].to_numpy() if raw.has_times else zeros,
        order=number_rows(raw, first),
        # A request keeps its number when later files go on with it.
        request=hash_texts(events[REQUEST_ID].to_arrow()) if raw.has_requests else zeros - 1,
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
