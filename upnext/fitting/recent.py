"""What training a model with a prior of recent events takes: the events, checked, and what draws from them."""

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Events
from upnext.base.errors import BadConfig
from upnext.base.schema import Schema, context_column
from upnext.events.log import EventLog
from upnext.events.split import TEST
from upnext.models.recent import MOST_CODES, RecentConfig
from upnext.objectives.recent import RecentSoftmax, RecentSoftmaxConfig
from upnext.objectives.softmax import trained_rows
from upnext.sampling.recent import RecentEvents

__all__ = ["check_recent", "known_events", "recent_softmax"]


def check_recent(config: RecentConfig, log: EventLog) -> None:
    """Check that a log has what a prior counts.

    Raises:   BadConfig: no times, or contexts that do not tell events apart.
    """
    schema: Schema = log.schema
    if not schema.has_times:
        raise BadConfig("recent: what was chosen lately needs times; this log has only an order: remove it")
    categorical = sorted(name for name, kind in schema.contexts.items() if kind == "categorical")
    for name in config.within:
        if name not in categorical:
            raise BadConfig(f"recent.within has {name!r}; the log has the categorical contexts {categorical}")
        if (most := int(log.rows.columns[context_column(name)].values.max(initial=0))) >= MOST_CODES:
            raise BadConfig(f"recent.within has {name!r} with {most:,} values; allowed: {MOST_CODES:,}; leave it out")
    if len(set(config.within)) < len(config.within):
        raise BadConfig(f"recent.within names a context twice: {config.within}; name each once")


def known_events(log: EventLog, part: NDArray[np.int8], view: str) -> Events:
    """The events that a model in training may be validated with: all but those of the test part."""
    rows, events = log.with_last_items(view)
    return events.take(part[rows] != TEST)


def recent_softmax(
    loss: RecentSoftmaxConfig,
    config: RecentConfig,
    events: Events,
    trained: torch.Tensor,
    device: torch.device | None,
) -> RecentSoftmax:
    """The loss of a model with a prior, on a device; its draws come from the training part's events alone.

    Args:     trained: (V,) bool by dense id.
    """
    at = device or torch.device("cpu")
    items, row_of_item = trained_rows(trained)
    times_ms = torch.from_numpy(np.array(events.time_ms))
    keys = config.keys(events.columns, events.time_ms)
    sampler = RecentEvents(
        row_of_item[torch.from_numpy(np.array(events.item))].to(at),
        times_ms.to(at),
        [torch.from_numpy(key).to(at) for key in keys],
        num_items=len(items),
        window=config.window,
        others=config.others,
        shrinkage=config.shrinkage,
    )
    return RecentSoftmax(loss, sampler)
