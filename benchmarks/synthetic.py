"""A synthetic release of any size: a SASRec with random weights, a catalogue, histories that favour popular items."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.batches import Events, FlatColumn
from upnext.base.ids import FIRST
from upnext.base.schema import COLLECTION, GENRES, TITLE, Schema, feedback_column
from upnext.features.catalogue import Catalogue
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.models.build import save_model
from upnext.models.popularity import RecentlyPopular, RecentlyPopularConfig
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.serving.histories import pack_history
from upnext.serving.release import ReleaseSettings
from upnext.store.embedded import LmdbStore

__all__ = ["LAST_MS", "ReleaseSize", "made_release", "write_release"]

LAST_MS = 1_750_000_000_000
"""The last event of a release is no later."""
_MONTH_MS = 30 * 86_400_000
_WORDS = ("Silent", "Golden", "Lost", "Last", "Hidden", "Broken", "River", "Garden", "Winter", "Harbour", "Letter")


@dataclass(frozen=True)
class ReleaseSize:
    """How large a release is to be."""

    users: int
    items: int
    width: int
    mean_length: int
    """Of a history; lengths are geometric."""
    max_length: int
    """The longest history that the model reads."""
    layers: int = 2
    max_stored: int = 200
    """The longest history."""
    collections: int = 0
    """With some, items have titles, genres and collections, and there is a row of what is popular now."""
    seed: int = 0
    """Releases of different seeds differ in weights and histories, and in how they number the same items."""


def made_release(folder: Path, size: ReleaseSize) -> Artifact:
    """The release of a size in a workspace's folder, made if need be."""
    return Workspace(folder).ensure("release", "release", asdict(size), [], lambda draft: write_release(draft, size))


def write_release(draft: Draft, size: ReleaseSize) -> None:
    """Write a release of random weights and histories: popular items are popular, lengths are geometric."""
    generator = np.random.default_rng(size.seed)
    torch.manual_seed(size.seed)
    trained = torch.ones(size.items + FIRST, dtype=torch.bool)
    trained[:FIRST] = False
    config = SASRecConfig(width=size.width, layers=size.layers, max_length=size.max_length)
    save_model(SASRec(config, trained), draft.folder / "models" / "sasrec")
    schema = Schema(has_times=True, has_requests=False, request_safe=True, feedback={"played": "fraction"})
    (draft.folder / "schema.json").write_text(schema.model_dump_json())
    settings = ReleaseSettings(retriever="sasrec", popular="popular-now" if size.collections else None)
    (draft.folder / "release.json").write_text(settings.model_dump_json())
    ids = np.roll(np.arange(size.items), 7 * size.seed)
    Catalogue(Vocabulary(pa.array(ids)), _items(size, ids.tolist())).save(draft.folder)
    users = Vocabulary(pa.array([f"user-{n}" for n in range(size.users)]))
    People(users, pa.table({"row": np.arange(size.users)})).save(draft.folder)
    lengths = np.minimum(generator.geometric(1 / size.mean_length, size.users), size.max_stored)
    weights = 1 / np.arange(1, size.items + 1)
    chosen = FIRST + generator.choice(size.items, lengths.sum(), p=weights / weights.sum())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Each user's events are an hour apart, and end somewhere in the last month.
    ends = LAST_MS - generator.integers(_MONTH_MS, size=size.users)
    back = np.repeat(offsets[1:], lengths) - np.arange(lengths.sum())
    times_ms = np.repeat(ends, lengths) - back * 3_600_000
    if size.collections:
        counts = np.zeros(size.items + FIRST, np.int64)
        popular = RecentlyPopular(RecentlyPopularConfig(), chosen, times_ms, counts)
        save_model(popular, draft.folder / "models" / "popular-now")
    _write_histories(draft, size.users, offsets, chosen, times_ms)
    draft.metrics["num_events"] = int(lengths.sum())


def _items(size: ReleaseSize, ids: list[int]) -> pa.Table:
    if not size.collections:
        return pa.table({"row": np.arange(size.items)})
    count = len(_WORDS)
    return pa.table(
        {
            TITLE: [f"The {_WORDS[n % count]} {_WORDS[n // count % count]} {n}" for n in ids],
            GENRES: [[f"Genre {n % 7}", f"Genre {n % 11}"] for n in ids],
            COLLECTION: [f"Collection {n % size.collections + 1:02}" for n in ids],
        }
    )


def _write_histories(
    draft: Draft, users: int, offsets: NDArray[np.int64], chosen: NDArray[np.int64], times_ms: NDArray[np.int64]
) -> None:
    hashes = Catalogue.load(draft.folder).item_hash
    (draft.folder / "histories").mkdir()
    store = LmdbStore(draft.folder / "histories")
    for begin in range(0, users, 10_000):
        store.put(
            dict(
                pack_history(
                    f"user-{user}", _history(slice(offsets[user], offsets[user + 1]), chosen, hashes, times_ms)
                )
                for user in range(begin, min(begin + 10_000, users))
            )
        )
    store.close()
    (draft.folder / "histories" / "lock.mdb").unlink(missing_ok=True)


def _history(part: slice, chosen: NDArray[np.int64], hashes: NDArray[np.int64], times_ms: NDArray[np.int64]) -> Events:
    items = chosen[part]
    steps = np.arange(len(items))
    played = FlatColumn(np.ones(len(items), np.float32), np.ones(len(items), np.bool_))
    columns = {feedback_column("played"): played}
    return Events(items, hashes[items], times_ms[part], steps, steps, columns)
