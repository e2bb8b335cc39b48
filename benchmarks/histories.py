"""Synthetic histories of one length, and an ARGUS of a named size to train on them."""

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Events, FlatColumn, ItemTable
from upnext.base.configuration import parse_config
from upnext.base.ids import FIRST
from upnext.base.schema import FeedbackKind
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.nn.encoders import Inputs
from upnext.objectives.argus import ARGUSObjective, TaskConfig
from upnext.objectives.softmax import SampledSoftmaxConfig, make_softmax
from upnext.training.chunks import Chunks

__all__ = ["make_chunks", "make_objective"]

FEEDBACK: dict[str, FeedbackKind] = {"like": "binary", "played": "fraction"}


def make_chunks(users: int, length: int, list_length: int, num_items: int) -> Chunks:
    """Histories of `length` + 1 events, of which the last is only a target.

    With a list length above 1, half of the events are shown in lists: siblings, which are hidden from each other.
    """
    g = np.random.default_rng(0)
    count = users * (length + 1)
    step = np.arange(count) % (length + 1)
    in_list = (step // list_length) % 2 == 0 if list_length > 1 else np.zeros(count, bool)
    request = np.where(in_list, step // list_length * list_length, step)
    item = FIRST + np.minimum(g.zipf(1.2, count) - 1, num_items - 1)
    seen = np.ones(count, bool)
    columns = {
        "context.surface": FlatColumn(g.integers(2, 6, count), seen),
        "feedback.like": FlatColumn((g.random(count) < 0.1).astype(np.float32), seen),
        "feedback.played": FlatColumn(g.random(count).astype(np.float32), seen),
    }
    hashes = _hashes(num_items)
    events = Events(item, hashes[item], request * 60_000, np.arange(count), request, columns)
    return Chunks.cut(events, np.arange(users + 1) * (length + 1), length + 1)


def make_objective(
    size: str | tuple[int, int],
    form: str,
    length: int,
    num_items: int,
    num_drawn: int,
    rows: int,
    device: torch.device,
) -> ARGUSObjective:
    """An ARGUS with the sampled softmax, mixed negatives and sparse embeddings.

    Args:     size: a name, or layers and width; rows: of the embedding matrix.
    """
    torch.manual_seed(0)
    named = {"size": size} if isinstance(size, str) else _sizes(*size)
    embeddings = {"kind": "hashed", "rows": rows, "sparse": True}
    settings = named | {"form": form, "max_length": length, "dropout": 0.0, "embeddings": embeddings}
    inputs = Inputs(has_times=True, contexts={"surface": 6}, feedback=FEEDBACK, item_features={})
    V = num_items + FIRST
    items = ItemTable(torch.arange(V), torch.from_numpy(_hashes(num_items))).to(device)
    model = ARGUS(parse_config(ARGUSConfig, settings, "benchmark"), inputs, items, torch.arange(V) >= FIRST)
    softmax = SampledSoftmaxConfig(num_in_batch=num_drawn, num_drawn=num_drawn)
    counts = torch.ones(num_items, dtype=torch.int64, device=device)
    return ARGUSObjective(model.to(device), make_softmax(softmax, counts), TaskConfig(), {})


def _sizes(layers: int, width: int) -> dict[str, int]:
    return {"layers": layers, "width": width, "heads": max(1, width // 64)}


def _hashes(num_items: int) -> NDArray[np.int64]:
    hashes = np.random.default_rng(1).integers(-(2**62), 2**62, num_items + FIRST)
    hashes[:FIRST] = 0
    return hashes
