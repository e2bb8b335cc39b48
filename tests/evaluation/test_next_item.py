"""The next-item loss: equal to a loop over targets, whatever the blocks; what has no loss is counted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, NUM_ITEMS, Event, log_of
from upnext.evaluation import ranking
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.next_item import FREQUENCY, NextItemLosses
from upnext.evaluation.ranking import Histories, rank_cases
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN

COUNTS = np.array([0, 0, 3, 1, 0, 2, 2, 0, 1])


def heard(log: EventLog, cases: Cases, scores: np.ndarray, temperature: float) -> NextItemLosses:
    """What is heard while the cases are ranked."""
    losses = NextItemLosses(cases, COUNTS)
    listening = losses.listen("model", lambda block: scores[block], temperature)
    rank_cases(listening, cases, Histories(log, "all"), NUM_ITEMS, k=3, remove_history=(True, False))
    return losses


def slow(cases: Cases, scores: np.ndarray, temperature: float) -> list[float]:
    found = []
    for case, target in zip(cases.case, cases.target, strict=True):
        logits = {item: scores[case, item] / temperature for item in range(NUM_ITEMS) if COUNTS[item]}
        if target not in logits:
            found.append(math.nan)
        elif logits[target] == -math.inf:
            found.append(math.inf)
        else:
            found.append(math.log(sum(math.exp(logit) for logit in logits.values())) - logits[target])
    return found


@settings(deadline=None, max_examples=60)
@given(
    EVENTS, st.lists(st.sampled_from([TRAIN, TEST]), min_size=14, max_size=14), st.integers(0, 99), st.integers(1, 40)
)
def test_equals_a_loop_over_targets_whatever_the_blocks(
    events: list[Event], parts: list[int], seed: int, block: int
) -> None:
    log = log_of(events)
    cases = find_cases(log, np.array(parts[: len(events)], np.int8), TEST, "all")
    g = np.random.default_rng(seed)
    scores = np.where(g.random((len(cases), NUM_ITEMS)) < 0.1, -np.inf, 5 * g.standard_normal((len(cases), NUM_ITEMS)))
    exact = scores.astype(np.float32).astype(np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_SCORES_PER_BLOCK", block)
        losses = heard(log, cases, scores.astype(np.float32), 0.5)
    np.testing.assert_allclose(losses.losses["model"], slow(cases, exact, 0.5), rtol=1e-6, atol=1e-9)


TRAINED = 38
BEFORE = [Event(user=TRAINED, item=item, time=item) for item in (2, 3, 4, 5)]
TWENTY_FIVE = [Event(user=2 + user, item=2 + user % 4, time=user) for user in range(25)]


def figures_of(log: EventLog, scores: np.ndarray) -> dict[tuple[object, object], dict[str, float]]:
    part = np.where(log.rows.user == TRAINED, TRAIN, TEST).astype(np.int8)
    cases = find_cases(log, part, TEST, "all")
    rows = heard(log, cases, np.tile(scores.astype(np.float32), (len(cases), 1)), 1.0).figures(
        Histories(log, "all"), part, {"device": lambda code: f"device {code}"}, 20
    )
    return {(row["model"], row["segment"]): row for row in rows}


def test_figures_by_hand() -> None:
    log = log_of(TWENTY_FIVE + BEFORE, num_users=40)
    scores = np.zeros(NUM_ITEMS)
    scores[3] = -np.inf
    found = figures_of(log, scores)
    whole = found["model", None]
    # Items 2 to 5 in turn: 7 of item 2 and 6 of the others. 3 cannot be scored, 4 is not trained; 4 of 5 are left.
    assert whole["value"] == pytest.approx(math.log(4))
    assert (whole["targets"], whole["unscored"], whole["untrained"]) == (13, 6, 6)
    frequency = found[FREQUENCY, None]
    assert frequency["value"] == pytest.approx((7 * math.log(9 / 3) + 6 * math.log(9) + 6 * math.log(9 / 2)) / 19)
    assert (frequency["targets"], frequency["unscored"]) == (19, 0)
    assert found["model", "device 2"]["targets"] == 13  # items 2 and 5; few users
    assert found["model", "device 2"]["value"] is None


def test_every_context_value_is_a_segment_and_segments_add_up() -> None:
    events = [Event(user=2 + number % 25, item=2 + number % 4, time=number) for number in range(100)]
    found = figures_of(log_of(events + BEFORE, num_users=40), np.linspace(-1, 1, NUM_ITEMS))
    whole = found["model", None]
    parts = [row for (model, segment), row in found.items() if model == "model" and segment is not None]
    assert sum(row["targets"] for row in parts) == whole["targets"]
    weighted = sum(row["value"] * row["targets"] for row in parts if row["targets"])
    assert weighted / whole["targets"] == pytest.approx(whole["value"])


def test_scores_that_are_no_logits_are_not_heard() -> None:
    log = log_of(TWENTY_FIVE, num_users=40)
    part = np.full(len(log), TEST, np.int8)
    losses = NextItemLosses(find_cases(log, part, TEST, "all"), COUNTS)

    def scores(block: np.ndarray) -> np.ndarray:
        return np.zeros((len(block), NUM_ITEMS), np.float32)

    assert losses.listen("pairs", scores, None) is scores
    assert losses.figures(Histories(log, "all"), part, {}, 20) == []
