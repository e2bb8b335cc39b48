"""Generate: roll out what a user would do next, event by event, each encoded before the next is asked for.

    for k events:   encode the past     choose an item from P(i | history, c)      foresee f from E[f | history, c, i]
                    append (c, i, f)    move the clock on

Shape letters: V items that may be chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Events, Request
from upnext.base.errors import BadRequest
from upnext.base.ids import ExternalId
from upnext.base.protocols import Link, Ranker, VectorRetriever, expectation
from upnext.base.schema import ITEM_ID, FeedbackKind
from upnext.models.build import AnyRanker
from upnext.serving.assortment import Assortment
from upnext.serving.chain import cover, predict, states_of
from upnext.serving.columns import columns_of
from upnext.serving.histories import Histories, LiveEvent, merged
from upnext.serving.pasts import Pasts
from upnext.serving.rank import candidates_of
from upnext.serving.release import Release
from upnext.serving.retrieve import best_items, encode, hidden_items, make_request

__all__ = ["Imagined", "Rollout", "generate", "median_gap_ms"]

_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Rollout:
    """Whose future is asked for, from when, how far, and how it is drawn."""

    user_id: ExternalId
    time_ms: int
    """When the first event happens."""
    k: int = 5
    context: Mapping[str, str | float] | None = None
    """Of every event."""
    temperature: float | None = None
    """None takes the most probable item; otherwise items are drawn from P(i)^(1/temperature), and feedback is drawn."""
    seed: int = 0
    step_ms: int | None = None
    """Between events; None takes the user's median gap."""
    repeats: bool = False
    """Whether an item may come again."""


@dataclass(frozen=True)
class Imagined:
    """One event that did not happen: which item (dense), when, and what would come of it."""

    item: int
    time_ms: int
    probability: float
    """Of being chosen next, among what may be chosen."""
    expected: dict[str, float]
    """Of every feedback."""
    feedback: dict[str, float]
    """What the next events are told: binary feedback as 0 or 1."""


def generate(release: Release, histories: Histories, rollout: Rollout) -> list[Imagined]:
    """Roll out the next k events of a user; fewer where nothing is left to choose.

    What may be chosen is what `recommend` may show in the row "For you", and nothing twice unless repeats are allowed.
    Models read everything before each event, without a lag: what is imagined is stored nowhere.

    Raises:   BadRequest: the release has no model of the next item, or none that foresees feedback.
    """
    _check(release)
    assortment, rng = histories.assortment, np.random.default_rng(rollout.seed)
    release = replace(release, index=assortment.index)
    past = Pasts.join([events for events, _ in histories.read([rollout.user_id])]).before(np.array(rollout.time_ms))
    step_ms = median_gap_ms(past.events) if rollout.step_ms is None else rollout.step_ms
    may = (assortment.is_shown & assortment.can_retrieve)[None, : assortment.num_scored]
    context = rollout.context or {}
    hidden = hidden_items(release, past, np.array(False), [context])[1]
    may[0, hidden[hidden < may.shape[1]]] = False
    may[0, assortment.blocked_in(context, may.shape[1])] = False
    user = np.array([release.users.dense(rollout.user_id)])
    imagined: list[Imagined] = []
    for time_ms in range(rollout.time_ms, rollout.time_ms + rollout.k * step_ms, step_ms):
        if not may.any():
            break
        request = make_request(release, np.array([time_ms]), user, [context])
        event = _next(release, histories, past, request, may, rollout, rng)
        imagined.append(event)
        may[0, event.item] = rollout.repeats
        past = Pasts.join([merged(past.events, histories.as_events([_as_event(assortment, rollout, event)]))[0]])
    return imagined


def median_gap_ms(events: Events) -> int:
    """The median time between a user's requests, at least a millisecond; an hour where there is no gap."""
    gaps = np.diff(np.unique(events.time_ms))
    return max(1, int(np.median(gaps))) if len(gaps) else _HOUR_MS


def _next(
    release: Release,
    histories: Histories,
    everything: Pasts,
    request: Request,
    may: NDArray[np.bool_],
    rollout: Rollout,
    rng: np.random.Generator,
) -> Imagined:
    past = everything.below(len(release.catalogue))
    with torch.inference_mode():
        state = encode(release.retriever, past)
        items, scores = best_items(release, state, request, int(may.sum()), may)
        assert release.temperature is not None  # a release without is refused
        logits = scores[0].astype(np.float64) / release.temperature
        if rollout.temperature is None:
            place = 0
        else:
            place = int(rng.choice(len(logits), p=_softmax(logits / rollout.temperature)))
        model = _foreseer(release)
        chosen = candidates_of(histories.assortment, torch.from_numpy(items[:, place : place + 1]))
        columns = columns_of(histories, histories.assortment, everything, request)
        if columns is not None:
            chosen = columns.given_to(chosen, slice(None))
        cover(release, histories.assortment)
        if release.ranker is None:
            outputs = cast("Ranker", model).predict(state, request, chosen)
        else:
            states = states_of(release, lambda one: encode(one, past), state)
            outputs = predict(release, states, request, chosen)
        links = {n: link for n, link in cast("Ranker", model).components.items() if n in release.schema.feedback}
        expected = {name: float(expectation(outputs[name], link)[0, 0]) for name, link in links.items()}
    feedback = {name: _taken(release.schema.feedback[name], value, rollout, rng) for name, value in expected.items()}
    return Imagined(int(items[0, place]), int(request.time_ms[0]), float(_softmax(logits)[place]), expected, feedback)


def _taken(kind: FeedbackKind, expected: float, rollout: Rollout, rng: np.random.Generator) -> float:
    """What an event's feedback becomes: of a fraction or an amount only the mean is foreseen, and that is taken."""
    if kind != "binary":
        return expected
    return float(expected >= 0.5 if rollout.temperature is None else rng.random() < expected)


def _as_event(assortment: Assortment, rollout: Rollout, event: Imagined) -> LiveEvent:
    return LiveEvent(
        user_id=rollout.user_id,
        item_id=assortment.describe(event.item)[ITEM_ID],
        time_ms=event.time_ms,
        event_id="",
        context=dict(rollout.context or {}),
        feedback=event.feedback,
    )


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(logits - logits.max())
    return np.asarray(odds / odds.sum())


def _foreseer(release: Release) -> AnyRanker:
    return release.retriever if release.ranker is None else release.ranker


def _check(release: Release) -> None:
    settings, model = release.settings, _foreseer(release)
    if not isinstance(release.retriever, VectorRetriever) or release.temperature is None:
        raise BadRequest(
            f"the release retrieves with {settings.retriever!r}, whose scores are no odds of the next item; publish a"
            " retriever such as argus"
        )
    links = model.components.values() if isinstance(model, Ranker) else ()
    if all(link is Link.ORDER_ONLY for link in links):
        raise BadRequest(
            f"{settings.ranker or settings.retriever!r} foresees no feedback, and an event without it is not whole;"
            " publish a retriever or a ranker that does, such as argus"
        )
