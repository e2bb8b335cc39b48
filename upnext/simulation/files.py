"""A simulation on disk: three Parquet tables that a recommender may read, and the truth apart."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, POSITION, REQUEST_ID, TIME_MS, TITLE, USER_ID
from upnext.simulation.settings import SimulationConfig
from upnext.simulation.truth import World
from upnext.simulation.world import Simulation, Watches

__all__ = ["Truth", "as_table", "read_truth", "write"]

_FORMAT = 1


@dataclass(frozen=True)
class Truth:
    """All that an oracle needs: the world, every watch, and what titles and users are called."""

    world: World
    watches: Watches
    item_ids: list[str]
    user_ids: list[str]


def write(simulation: Simulation, folder: Path) -> None:
    """Write `events.parquet`, `items.parquet`, `users.parquet` and `truth.npz` into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    simulation.events.write_parquet(folder / "events.parquet")
    simulation.items.write_parquet(folder / "items.parquet")
    simulation.users.write_parquet(folder / "users.parquet")
    header = {"format": _FORMAT, "config": simulation.config.model_dump()}
    watches = simulation.watches
    arrays: dict[str, Any] = {
        "header": np.array(json.dumps(header)),
        "item_ids": np.array(simulation.items[ITEM_ID].to_list()),
        "user_ids": np.array(simulation.users[USER_ID].to_list()),
        "watch_user": watches.user,
        "watch_time_ms": watches.time_ms,
        "watch_item": watches.item,
        **simulation.world.arrays(),
    }
    np.savez(folder / "truth.npz", **arrays)


def as_table(folder: Path) -> dict[str, Any]:
    """Describe the tables that `write` wrote as `[prepare.source]` describes tables: column names by role."""
    items: dict[str, Any] = {name: name for name in (TITLE, GENRES, COLLECTION)}
    items["features"] = {TITLE: "text", GENRES: "multi", COLLECTION: "categorical", "creator": "categorical"}
    items["features"] |= {"release_ms": "numeric", "duration_s": "numeric"}
    users = {"age_group": "categorical", "country": "categorical", "join_ms": "numeric"}
    return {
        "kind": "table",
        "path": str(folder / "events.parquet"),
        "user": USER_ID,
        "item": ITEM_ID,
        "time": TIME_MS,
        "time_unit": "ms",
        "request": REQUEST_ID,
        "position": POSITION,
        "contexts": {"surface": "categorical", "device": "categorical", "hour": "categorical"},
        "feedback": {"click": "binary", "played": "fraction", "like": "binary", "dislike": "binary"},
        "items": {"path": str(folder / "items.parquet"), "item": ITEM_ID, **items},
        "users": {"path": str(folder / "users.parquet"), "user": USER_ID, "features": users},
    }


def read_truth(folder: Path) -> Truth:
    """Read the truth of a simulation written by `write`.

    Raises:   BadArtifact: no truth there, or not one this version can read.
    """
    path = folder / "truth.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise BadArtifact(f"{folder} holds no truth.npz; give the folder of a simulated log") from None
    except (OSError, ValueError) as error:
        raise BadArtifact(f"{path} cannot be read: {error}; simulate again") from None
    header = json.loads(str(arrays.pop("header", np.array("{}"))))
    if header.get("format") != _FORMAT:
        raise BadArtifact(f"{path} has format {header.get('format')}; this version reads {_FORMAT}; simulate again")
    config = parse_config(SimulationConfig, header["config"], str(path))
    return Truth(
        world=World.from_arrays(config, arrays),
        watches=Watches(arrays["watch_user"], arrays["watch_time_ms"], arrays["watch_item"]),
        item_ids=arrays["item_ids"].tolist(),
        user_ids=arrays["user_ids"].tolist(),
    )
