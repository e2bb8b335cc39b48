"""Models that count the stream of events: what they are given of it, and when."""

from typing import TypeVar, cast

import numpy as np

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


def follow(model: object, events: Events) -> None:
    """Let a model that counts the stream see new events, of which it counts those of its view."""
    if (stream := stream_of(model)) is None:
        return
    chosen = events if stream.view == ALL else events.take(events.views[stream.view])
    if isinstance(stream, RecentlyPopular):
        stream.observe(chosen.item, chosen.time_ms)
    else:
        stream.observe(chosen)


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
