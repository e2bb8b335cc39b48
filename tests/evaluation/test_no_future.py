"""The future, a sibling, or one's own answer never reach a score: proved by changing them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from upnext.base.batches import FlatColumn
from upnext.base.schema import Schema
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.ranking import retriever_scores
from upnext.events.log import EventLog, LogRows
from upnext.events.split import TEST, TRAIN, GlobalTime, split_log
from upnext.models.build import AnyModel
from upnext.models.popularity import Popular, PopularConfig, RecentlyPopular, RecentlyPopularConfig
from upnext.models.sasrec import SASRec, SASRecConfig

USERS, V, N = 6, 12, 240
SCHEMA = Schema(
    has_times=True,
    has_requests=True,
    request_safe=True,
    feedback={"played": "fraction"},
    views={"watched": "played >= 0.5"},
)


def rows(seed: int) -> LogRows:
    """Random events: some share an instant, some a request, some were hardly played."""
    generator = np.random.default_rng(seed)
    played = generator.random(N).astype(np.float32)
    return LogRows(
        user=generator.integers(2, USERS + 2, N),
        item=generator.integers(2, V, N),
        item_hash=generator.integers(0, 1000, N),
        time_ms=generator.integers(0, 120, N),
        order=np.arange(N),
        request=np.where(generator.random(N) < 0.5, generator.integers(0, 60, N), -1),
        position=np.full(N, -1),
        columns={"feedback.played": FlatColumn(played, np.ones(N, bool))},
    ).sorted()


def open_log(these: LogRows) -> EventLog:
    return EventLog(SCHEMA, these, np.searchsorted(these.user, np.arange(USERS + 3)))


def models(log: EventLog, part: np.ndarray) -> dict[str, AnyModel]:
    """One of each kind; the counting ones follow the whole stream, as they do when they are evaluated."""
    torch.manual_seed(0)
    sasrec = SASRec(SASRecConfig(view="watched", width=8, max_length=5, dropout=0.0), torch.arange(V) >= 2)
    watched, events = log.in_view("watched")
    recent = RecentlyPopularConfig(view="watched", window=30)
    return {
        "sasrec": sasrec.eval(),
        "recently popular": RecentlyPopular(recent, events.item, events.time_ms, np.zeros(V, np.int64)),
        "popular": Popular.fit(PopularConfig(view="watched"), events.item[part[watched] == TRAIN], V),
    }


def scores(log: EventLog, cases: Cases, part: np.ndarray, case: int) -> dict[str, np.ndarray]:
    one = np.array([case])
    return {name: retriever_scores(model, log, cases, V)(one)[0] for name, model in models(log, part).items()}


@pytest.mark.parametrize("seed", range(4))
def test_what_happens_at_or_after_a_request_never_changes_its_scores(seed):
    original = rows(seed)
    log = open_log(original)
    split = GlobalTime(validation=20, test=40)
    part = np.concatenate(list(split_log(split, log, most=N)))
    cases = find_cases(log, part, TEST, "watched")
    assert len(cases) > 10
    generator = np.random.default_rng(seed)
    num_changed = 0
    for case in range(len(cases)):
        time, end = cases.time_ms[case], cases.history_end[case]
        same_user = original.user == cases.user[case]
        hidden = (original.time_ms >= time) & (part != TRAIN)
        hidden |= same_user & (np.arange(N) >= end)  # the user's own: the request itself and all that follows
        item = np.where(hidden, generator.integers(2, V, N), original.item)
        played = original.columns["feedback.played"].values
        changed = replace(
            original,
            item=item,
            columns={"feedback.played": FlatColumn(np.where(hidden, 1 - played, played), np.ones(N, bool))},
        )
        num_changed += int((item != original.item).sum())
        for name, expected in scores(log, cases, part, case).items():
            actual = scores(open_log(changed), cases, part, case)[name]
            np.testing.assert_allclose(actual, expected, atol=1e-5, err_msg=name)
    assert num_changed > 100


def test_what_happened_before_a_request_does_change_its_scores():
    """The control of the test above: the same change one event earlier is seen."""
    original = rows(0)
    log = open_log(original)
    part = np.where(original.time_ms >= 80, TEST, TRAIN).astype(np.int8)
    cases = find_cases(log, part, TEST, "watched")
    watched = log.views["watched"]
    seen = 0
    for case in range(len(cases)):
        before = np.flatnonzero(watched[: cases.history_end[case]])
        before = before[original.user[before] == cases.user[case]]
        if len(before):
            item = original.item.copy()
            item[before[-1]] = 2 + (item[before[-1]] - 1) % (V - 2)
            changed = scores(open_log(replace(original, item=item)), cases, part, case)["sasrec"]
            seen += not np.allclose(changed, scores(log, cases, part, case)["sasrec"], atol=1e-4)
    assert seen > 5
