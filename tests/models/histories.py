"""Small histories for tests of models."""

from collections.abc import Sequence

import numpy as np
import torch

from upnext.base.batches import Events, Request, SequenceBatch
from upnext.base.ids import item_hash


def histories(items: Sequence[Sequence[int]], requests: Sequence[Sequence[int]] | None = None) -> SequenceBatch:
    """Histories of these dense items, right-padded; a request per event unless given."""
    flat = np.array([item for row in items for item in row], np.int64)
    lengths = np.array([len(row) for row in items])
    ends = np.cumsum(lengths)
    steps = np.arange(len(flat))
    groups = steps if requests is None else np.array([r for row in requests for r in row], np.int64)
    events = Events(flat, item_hash(int(i) for i in flat), steps * 1000, steps, groups)
    return events.batch(ends - lengths, ends)


def request(size: int, time_ms: int = 10**9) -> Request:
    """A request per row."""
    return Request(torch.full((size,), time_ms), torch.arange(size) + 2)
