"""Candidates drawn around choices, event by event: what may be drawn, and what is learnt from."""

from collections.abc import Sequence

import numpy as np

from upnext.events.log import EventLog
from upnext.models.candidates import CandidatesConfig


def slow_sets(
    config: CandidatesConfig, log: EventLog, rows: Sequence[int], view: str, read: str, scores: np.ndarray
) -> dict[int, tuple[set[int], set[int]]]:
    """For each choice that is learnt from, by row: what may be drawn of the retriever's top, and of everything.

    Args:     read: the view that the retriever reads; scores: (N, V) its scores at each row's request.
    """
    items, users, groups = log.rows.item, log.rows.user, log.groups
    found = {}
    for row in rows:
        before = [one for one in range(log.request_start[row]) if users[one] == users[row]]
        own = {int(items[one]) for one in before if log.views[read][one]} if config.exclude_history else set()
        if items[row] in own or items[row] < 2:
            continue
        order = [item for item in np.lexsort((np.arange(scores.shape[1]), -scores[row])) if item >= 2]
        top = [int(item) for item in order if item not in own and np.isfinite(scores[row, item])][: config.top]
        if items[row] not in top and not config.missed:
            continue
        beside = {int(items[one]) for one in range(len(log)) if groups[one] == groups[row] and log.views[view][one]}
        moment = log.rows.time_ms[log.request_start[row]]
        met = {int(items[one]) for one in range(len(log)) if log.rows.time_ms[one] < moment and items[one] >= 2}
        found[row] = set(top) - beside, met - beside - own
    return found
