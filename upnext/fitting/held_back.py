"""What models leave of the training part to rankers that read their scores, and what rankers find left.

A score of what a model was trained on knows the answer, and so do the candidates that it finds, so a ranker that reads
either learns only from events after all that these models were trained on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact
from upnext.base.errors import BadConfig
from upnext.events.log import EventLog
from upnext.events.split import TRAIN, UNUSED, GlobalTime, borders_ms

__all__ = ["TRAINED_UNTIL", "hold_back", "latest", "left_to", "training_end_ms"]

TRAINED_UNTIL = "trained_until_ms"
"""What a model's artifact calls the moment before which everything lies that it was trained on."""

_DAY_MS = 86_400_000


def training_end_ms(split: Mapping[str, Any], log: EventLog) -> int | None:
    """When the training part ends; None where it does not end for all at one moment.

    Args:     split: as the artifact of a log describes it.
    """
    return borders_ms(GlobalTime(**split), log)[0] if split["kind"] == "global_time" else None


def hold_back(
    log: EventLog, part: NDArray[np.int8], split: Mapping[str, Any], held_back_ms: int | None
) -> tuple[NDArray[np.int8], int | None]:
    """The parts of the split for a model that is not trained on the last of the training part.

    What is held back is unused, and so are events whose request goes on into it.

    Returns:  (N,) the parts, and the moment before which everything lies that is trained; None as `training_end_ms`.
    Raises:   BadConfig: there is no such moment, or nothing is left to train on.
    """
    end = training_end_ms(split, log)
    if held_back_ms is None:
        return part, end
    if end is None:
        raise BadConfig('hold_back needs a split by time: set prepare.split.kind = "global_time", or remove it')
    time_ms, until = log.rows.time_ms, end - held_back_ms
    is_held = (part == TRAIN) & (time_ms >= until)
    holds = np.zeros(int(log.groups.max(initial=-1)) + 1, np.bool_)
    holds[log.groups[is_held]] = True
    kept = np.where((part == TRAIN) & holds[log.groups], UNUSED, part).astype(np.int8)
    if not (kept == TRAIN).any():
        days = (end - int(time_ms.min(initial=end))) / _DAY_MS
        raise BadConfig(
            f"hold_back of {held_back_ms / _DAY_MS:g} days leaves nothing to train on: the training part has"
            f" {days:.1f} days; hold less back"
        )
    return kept, until


def latest(artifacts: Iterable[Artifact]) -> int | None:
    """The moment before which everything lies that any of some models was trained on; None if none says."""
    known = [artifact.manifest["metrics"].get(TRAINED_UNTIL) for artifact in artifacts]
    return max((until for until in known if until is not None), default=None)


def left_to(
    rows: NDArray[np.int64],
    log: EventLog,
    split: Mapping[str, Any],
    last_ms: int | None,
    scorers: Mapping[str, Artifact],
) -> NDArray[np.int64]:
    """Of rows of the training part, those that a ranker learns from: after all that its scorers were trained on.

    Args:     last_ms: only the last so much of the training part, if it says so.
    Raises:   BadConfig: nothing is left, or less than `last` asks for.
    """
    end, since = training_end_ms(split, log), latest(scorers.values())
    if last_ms is not None:
        if end is None:
            raise BadConfig('`last` needs a split by time: set prepare.split.kind = "global_time", or remove it')
        if since is not None and end - last_ms < since:
            raise BadConfig(
                f"last asks for {last_ms / _DAY_MS:g} days of the training part, and the models whose scores or"
                f" candidates it reads left {(end - since) / _DAY_MS:g}; shorten it, or lengthen their hold_back"
            )
        since = end - last_ms
    if since is None:
        return rows
    left = rows[log.rows.time_ms[log.request_start[rows]] >= since]
    if not len(left):
        names = [n for n, one in scorers.items() if one.manifest["metrics"].get(TRAINED_UNTIL, since) == since]
        raise BadConfig(
            f"nothing of the training part is left to learn from: {', '.join(names) or '`last`'} left no event; give"
            " the models whose scores or candidates it reads a (longer) hold_back"
        )
    return left
