"""The protocol of an evaluation in plain sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.cases import Cases
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, VALIDATION

__all__ = ["Protocol", "sentences"]


@dataclass(frozen=True)
class Protocol:
    """What was decided: the view of the targets, how the history goes on, whether it is removed from the ranking."""

    view: str
    rolls: bool
    events: str
    removed: bool
    num_samples: int
    split: Mapping[str, Any]
    unfamiliar: bool = False


def sentences(
    decided: Protocol, log: EventLog, part: NDArray[np.int8], cases: Cases, trained: NDArray[np.int64]
) -> dict[str, str]:
    """Say what was predicted, from what, and how it was counted: a sentence or two per term, in reading order.

    Args:     trained: (V,) training events of the view per dense id.
    """
    num_users, untrained = len(np.unique(cases.user)), float((trained[cases.target] == 0).mean())
    which = f"events of the view {decided.view!r}"
    which = f"All {which}" if decided.events == "all" else f"For each user the first request, {which}"
    moments = f"{len(cases):,} requests of {num_users:,} users" if decided.rolls else f"{num_users:,} users"
    return {
        "split": _split(decided.split, log, part),
        "targets": f"{which} in the test part: {len(cases.target):,} in {moments}. An item chosen twice in one case"
        " counts once." + (" Only items that the user met in no event before count." if decided.unfamiliar else ""),
        "untrained targets": f"{untrained:.1%} of the targets have an item without a training event in that view. They"
        " count, as misses where a model cannot score them.",
        "history": "It rolls forward: a model reads everything the user did before the request, in the test part too."
        if decided.rolls
        else "It is frozen: a model reads what the user did before the test part begins.",
        "request-safe": "On: events of one request or one instant never see each other."
        if log.schema.request_safe
        else "Off, in training too: ties are ordered by file.",
        "history in the ranking": "Removed: what the user met before, in any event, is not ranked."
        if decided.unfamiliar
        else "Removed: what the user chose before is not ranked; it is a miss if chosen again."
        if decided.removed
        else "Kept: what the user chose before can be recommended again.",
        "ranking": "The whole catalogue, no sample of it. An item tied with the target counts half; what cannot be"
        " scored is a miss.",
        "intervals": f"95 %, by the bootstrap over users with {decided.num_samples:,} samples: they say how much a"
        " figure depends on who was tested, not on the seed of the training.",
    }


def _split(split: Mapping[str, Any], log: EventLog, part: NDArray[np.int8]) -> str:
    counts = {code: int((part == code).sum()) for code in (TRAIN, VALIDATION, TEST)}
    names = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
    if split["kind"] != "global_time":
        sizes = ", ".join(f"{counts[code]:,} {name}" for code, name in names.items())
        return (
            f"Leave last out: a user's last event of the view {split['view']!r} tests, the one before validates"
            f" ({sizes} events)."
        )
    spans = []
    for code, name in names.items():
        times = log.rows.time_ms[part == code]
        span = f" from {_day(times.min())} to {_day(times.max())}" if len(times) else ""
        spans.append(f"{name}{span} ({counts[code]:,} events)")
    gap = split.get("gap", 0)
    without = f" {gap / 3_600_000:g} hours before the validation part are used for nothing." if gap else ""
    return f"Global time: {', '.join(spans)}.{without}"


def _day(time_ms: np.int64) -> str:
    return f"{datetime.fromtimestamp(int(time_ms) / 1000, UTC):%Y-%m-%d %H:%M}"
