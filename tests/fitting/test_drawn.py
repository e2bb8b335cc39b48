"""Candidates drawn around choices: equal to the slow way, fixed by the seed, of what was found."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.events.logs import EVENTS, NUM_ITEMS, Event, log_of
from tests.reference.drawn import slow_sets
from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig
from upnext.evaluation.cases import Cases, cases_of_rows
from upnext.evaluation.ranking import Scores
from upnext.events.log import EventLog
from upnext.fitting.drawn import Drawn, Finder, draw
from upnext.models.candidates import CHOSEN, CandidatesConfig, foreseeable


def config(**settings: Any) -> CandidatesConfig:
    return parse_config(CandidatesConfig, {"retriever": "r", **settings}, "test")


def counting(log: EventLog, read: str = "all") -> Finder:
    """Scores by the user's own past: its last item's neighbours come first; odd items of one user are never found."""

    def score(user: int, end: int) -> NDArray[np.float32]:
        past = [row for row in range(end) if log.rows.user[row] == user and log.views[read][row]]
        last = log.rows.item[past[-1]] if past else user
        scores = -(np.abs(np.arange(NUM_ITEMS) - last - 0.4)).astype(np.float32)
        scores[7 if user == 3 else 1] = -np.inf
        return scores

    def answers(cases: Cases) -> tuple[Scores, int]:
        pairs = list(zip(cases.user.tolist(), cases.history_end.tolist(), strict=True))
        return lambda block: np.stack([score(*pairs[case]) for case in block]), 1

    return Finder(answers, read, NUM_ITEMS)


def drawn_from(log: EventLog, settings: CandidatesConfig, read: str = "all", view: str = "all") -> Drawn | None:
    try:
        return draw(settings, counting(log, read), log, np.flatnonzero(log.mask(view)), view)
    except BadConfig:
        return None


@settings(max_examples=150, deadline=None)
@given(EVENTS.filter(len), st.booleans(), st.booleans(), st.sampled_from(["all", "watched"]), st.integers(0, 3))
def test_equals_the_slow_way(events, excludes, missed, view, uniform):
    log = log_of(events)
    wanted = config(top=4, negatives=2, uniform=uniform, exclude_history=excludes, missed=missed)
    read = "watched" if view == "all" else "all"
    found = drawn_from(log, wanted, read, view)
    rows = np.flatnonzero(log.mask(view)).tolist()
    scores_of, _ = counting(log, read).scores(cases_of_rows(log, np.arange(len(log))))
    expected = slow_sets(wanted, log, rows, view, read, scores_of(np.arange(len(log))))
    if found is None:
        assert not expected
        return
    assert found.cases.first_target.tolist() == sorted(expected)
    for row, items in zip(found.cases.first_target.tolist(), found.items, strict=True):
        near, everything = expected[row]
        real = items[items >= 0].tolist()
        assert items.tolist() == real + [-1] * (3 + uniform - len(real))
        assert len(real) == len(set(real))
        others = set(real) - {int(log.rows.item[row])}
        assert len(others) == len(real) - 1
        assert others <= (near | everything if uniform else near)
        assert len(others & near) >= min(2, len(near))
        assert len(others - near) <= uniform
    feedback = found.feedback(log)
    played = log.rows.columns["feedback.played"]
    assert feedback[CHOSEN].values.tolist() == [
        item == target
        for items, target in zip(found.items, found.cases.target, strict=True)
        for item in items[items >= 0]
    ]
    assert feedback["played"].observed.sum() == played.observed[sorted(expected)].sum()
    assert not feedback["played"].observed[feedback[CHOSEN].values == 0].any()
    assert (np.diff(found.set) >= 0).all()


def test_the_seed_draws_and_nothing_else_does():
    g = np.random.default_rng(0)
    log = log_of([Event(2 + n % 3, int(g.integers(2, NUM_ITEMS)), n) for n in range(60)])
    some = config(top=6, negatives=2, exclude_history=False)
    one, again = drawn_from(log, some), drawn_from(log, some)
    other = drawn_from(log, config(top=6, negatives=2, exclude_history=False, seed=1))
    assert one is not None
    assert again is not None
    assert other is not None
    assert one.items.tolist() == again.items.tolist()
    assert one.items.tolist() != other.items.tolist()


def test_a_choice_that_is_not_found_is_learnt_from_only_if_asked_for():
    log = log_of([Event(2, 2, 0), Event(2, 8, 1)])  # after 2 come 3, 4, 5 ... and 8 last of all
    assert drawn_from(log, config(top=2, negatives=1)) is not None  # the first event is the user's neighbour
    found = drawn_from(log, config(top=2, negatives=1, missed=True))
    assert found is not None
    assert found.cases.target.tolist() == [2, 8]
    with pytest.raises(BadConfig, match="nothing that was chosen is among the first 2 that 'r' found"):
        draw(config(top=2, negatives=1), counting(log), log, np.array([1]), "all")


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(BadConfig, match="negatives = 20 of top = 20"):
        config(top=20, negatives=20)
    with pytest.raises(BadConfig, match="the log has a feedback 'chosen'"):
        foreseeable(config(), {"chosen": "binary"}, None, {})
    assert foreseeable(None, {"played": "fraction"}, None, {}) == {"played": "fraction"}
    assert foreseeable(config(), {"played": "fraction"}, [], {"played": 1.0, "chosen": 2.0}) == {}


def test_a_choice_stands_anywhere_in_its_set():
    """Who breaks ties by place, as LightGBM's NDCG does, must learn nothing from it."""
    log = log_of([Event(2, 2 + n % 7, n) for n in range(2000)])
    found = drawn_from(log, config(top=7, negatives=3, exclude_history=False))
    assert found is not None
    place = (found.items == found.cases.target[:, None]).argmax(axis=1)
    counts = np.bincount(place, minlength=4)
    assert (np.abs(counts - len(place) / 4) < 5 * np.sqrt(len(place) * 3 / 16)).all()
