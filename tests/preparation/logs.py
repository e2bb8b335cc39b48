"""A small project whose events come in files, and what its log means whatever the numbers are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from upnext.base.artifacts import Artifact, Workspace
from upnext.base.configuration import parse_config
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.vocabulary import Vocabulary
from upnext.pipeline import prepare
from upnext.pipeline.prepare import PrepareConfig

HEADER = "user,item,time,request,position,surface,age,played,like"
DAY = 86_400
START = 1_700_000_000

Row = tuple[Any, ...]


def config_of(folder: Path, path: Any = None, **changes: Any) -> PrepareConfig:
    """The project's [prepare]; `path` names the event files, else all of the folder `events`."""
    source = {
        "kind": "table",
        "path": path or f"{folder}/events/*.csv",
        "user": "user",
        "item": "item",
        "time": "time",
        "time_unit": "s",
        "request": "request",
        "position": "position",
        "contexts": {"surface": "categorical", "age": "numeric"},
        "feedback": {"played": "fraction", "like": "binary"},
    }
    if (folder / "items.csv").is_file():
        source["items"] = {"path": f"{folder}/items.csv", "item": "item", "title": "title"}
    rest = {"views": {"watched": "played >= 0.5"}, "split": {"kind": "global_time", "validation": "1d", "test": "1d"}}
    return parse_config(PrepareConfig, {"source": source | changes.pop("source", {})} | rest | changes, "test")


def write_events(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Write a file of events: user, item, seconds since START, request, then position, surface, age, played, like."""
    (folder / "events").mkdir(parents=True, exist_ok=True)
    lines = [HEADER]
    for user, item, seconds, *rest in rows:
        cells = [user, item, START + seconds, *rest]
        lines.append(",".join("" if cell is None else str(cell) for cell in cells + [None] * (9 - len(cells))))
    (folder / "events" / name).write_text("\n".join(lines) + "\n")


def prepared(config: PrepareConfig, workspace: Path) -> Artifact:
    return prepare.run(config, Workspace(workspace))


def meaning(artifact: Artifact) -> dict[str, Any]:
    """All that a log says, free of dense numbers: equal for two logs of the same events."""
    log = EventLog.open(artifact.folder / "log")
    rows = log.rows
    users = Vocabulary.load(artifact.folder / "users.vocabulary.arrow")
    catalogue = Catalogue.load(artifact.folder)
    items = catalogue.vocabulary
    split = np.load(artifact.folder / "split.npy").tolist()
    groups = log.events.request.tolist()
    columns = {}
    for name, column in rows.columns.items():
        values: list[Any] = column.values.tolist()
        path = artifact.folder / f"{name}.vocabulary.arrow"
        if path.is_file():
            vocabulary = Vocabulary.load(path)
            values = [vocabulary.external(v) if seen else 0 for v, seen in zip(values, column.observed, strict=True)]
        columns[name] = list(zip(values, column.observed.tolist(), strict=True))
    events: dict[Any, list[Any]] = {}
    requests = rows.request.tolist()
    for user in range(len(log.offsets) - 1):
        begin, end = log.offsets[user : user + 2].tolist()
        assert (rows.user[begin:end] == user).all()
        if begin == end:
            continue
        here = range(begin, end)
        events[users.external(user)] = [
            (
                items.external(int(rows.item[n])),
                int(rows.item_hash[n]) == int(catalogue.item_hash[rows.item[n]]),
                int(rows.time_ms[n]),
                int(rows.position[n]),
                requests[n] >= 0 and [k - begin for k in here if requests[k] == requests[n]],
                [k - begin for k in here if groups[k] == groups[n]],
                split[n],
                [column[n] for column in columns.values()],
                [bool(view[n]) for view in log.views.values()],
            )
            for n in here
        ]
    described = [json.dumps(catalogue.describe(dense), sort_keys=True) for dense in range(2, len(items))]
    facts = {name: artifact.manifest["metrics"][name] for name in ("num_events", "num_items", "num_trained_items")}
    return {
        "events": events,
        "items": sorted(described),
        "schema": artifact.manifest["schema"],
        "facts": facts,
        "audit": json.loads((artifact.folder / "audit.json").read_text()),
    }


def numbers(artifact: Artifact, name: str = "items") -> dict[Any, int]:
    """External id -> dense id."""
    vocabulary = Vocabulary.load(artifact.folder / f"{name}.vocabulary.arrow")
    return {external: vocabulary.dense(external) for external in vocabulary.ids}


def segments(artifact: Artifact) -> list[str]:
    names: list[str] = json.loads((artifact.folder / "log" / "segments.json").read_text())["segments"]
    return names
