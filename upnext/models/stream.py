"""Models that count the stream of events: what they are given of it, and when."""

from collections import Counter
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from upnext.base.batches import Events
from upnext.base.views import ALL
from upnext.models.argus import ARGUS
from upnext.models.popularity import RecentlyPopular
from upnext.models.recent import RecentPrior

__all__ = ["follow", "following", "stream_of"]

AnyModel = TypeVar("AnyModel")


def stream_of(model: object) -> RecentlyPopular | RecentPrior | None:
    """What of a model counts the stream of events: itself, its prior, or nothing."""
    if isinstance(model, RecentlyPopular):
        return model
    return model.recent if isinstance(model, ARGUS) else None


def follow(model: object, events: Events, replaced: Events | None = None) -> None:
    """Let a model that counts the stream see new events, of which it counts those of its view.

    Args:     replaced: events that it has seen before, and of which there is another version now.
    """
    if (stream := stream_of(model)) is None:
        return
    chosen = _in_view(events, stream.view)
    if replaced is not None and len(old := _in_view(replaced, stream.view)):
        chosen, old = chosen.take(_beside(chosen, old)), old.take(_beside(old, chosen))
        stream.retract(old.item, old.time_ms)
    if isinstance(stream, RecentlyPopular):
        stream.observe(chosen.item, chosen.time_ms)
    else:
        stream.observe(chosen)


def _in_view(events: Events, view: str) -> Events:
    return events if view == ALL else events.take(events.views[view])


def _beside(events: Events, others: Events) -> NDArray[np.int64]:
    """The rows of events that are not among others, each of which stands for one: most are in a view as they were."""
    left = Counter(zip(others.item.tolist(), others.time_ms.tolist(), strict=True))
    rows = []
    for row, event in enumerate(zip(events.item.tolist(), events.time_ms.tolist(), strict=True)):
        if left[event] > 0:
            left[event] -= 1
        else:
            rows.append(row)
    return np.array(rows, np.int64)


def following(model: AnyModel, events: Events, num_items: int) -> AnyModel:
    """A model that has seen these events and no others; one that counts no stream is as it was.

    Args:     events: of the view that it counts, in any order, with a column LAST_ITEM for a prior that reads it.
    """
    if isinstance(model, RecentlyPopular):
        anew = RecentlyPopular(model.config, events.item, events.time_ms, np.zeros(num_items, np.int64))
        return cast("AnyModel", anew)
    if isinstance(model, ARGUS) and model.recent is not None:
        model.recent = model.recent.anew(events, num_items)
    return model
