"""Ranking cases: equal to a slow loop, whatever the blocks, and a model sees what lies before and nothing else."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.events.logs import EVENTS, NUM_ITEMS, SCHEMAS, Event, log_of
from tests.reference import ranking as reference
from upnext.base.batches import Request, SequenceBatch, State
from upnext.base.protocols import Retriever
from upnext.base.schema import Schema
from upnext.evaluation import ranking
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.ranking import Histories, Ranking, rank_cases, retriever_scores
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN

property_test = settings(max_examples=80, deadline=None)
PARTS = st.lists(st.sampled_from([TRAIN, TEST]), min_size=14, max_size=14)
VALUES = np.array([-np.inf, np.nan, -1.0, 0.0, 0.0, 1.0, 2.0], np.float32)  # many ties


def random_scores(cases: Cases, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(VALUES, (len(cases), NUM_ITEMS))


def history_items(log: EventLog, cases: Cases, number: int, view: str) -> list[int]:
    """What the case's user did before, in the view, oldest first."""
    return [
        int(log.rows.item[row])
        for row in range(len(log))
        if log.rows.user[row] == cases.user[number] and row < cases.history_end[number] and log.views[view][row]
    ]


def slow_ranking(log: EventLog, cases: Cases, scores: np.ndarray, view: str, k: int, removes: bool) -> Any:
    ranks, tops = [], []
    for number in range(len(cases)):
        row = scores[number].tolist()
        for item in (0, 1, *(history_items(log, cases, number, view) if removes else [])):
            row[item] = -math.inf
        nothing = [False] * len(row)
        ranks += [reference.rank(row, int(target), nothing) for target in cases.target[cases.case == number]]
        tops.append(reference.top_k(row, k, nothing))
    return ranks, tops


def as_lists(result: Ranking) -> Any:
    return result.ranks.tolist(), result.top.tolist()


@property_test
@given(
    EVENTS,
    PARTS,
    SCHEMAS,
    st.integers(0, 99),
    st.sampled_from(["all", "watched"]),
    st.sampled_from([(False,), (True,), (True, False), (False, True), (True, True)]),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_ranks_and_lists_equal_the_slow_reference_whatever_the_blocks(
    events: list[Event],
    parts: list[int],
    of: Schema,
    seed: int,
    view: str,
    removals: tuple[bool, ...],
    block: int,
    k: int,
) -> None:
    log = log_of(events, of)
    cases = find_cases(log, np.array(parts[: len(events)], np.int8), TEST, view)
    scores = random_scores(cases, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_SCORES_PER_BLOCK", block)
        patch.setattr(ranking, "_TOKENS_PER_BLOCK", 3 * block)
        results = rank_cases(
            lambda some: scores[some],
            cases,
            Histories(log, view),
            NUM_ITEMS,
            k=k,
            remove_history=removals,
            max_length=2,
        )
    assert len(results) == len(removals)
    for result, removes in zip(results, removals, strict=True):
        assert as_lists(result) == slow_ranking(log, cases, scores, view, k, removes)


LOG = [Event(2, 3, 10, played=1.0), Event(2, 4, 20, played=0.0), Event(2, 3, 30), Event(2, 5, 30), Event(3, 6, 30)]
LOG_PARTS = np.array([TRAIN, TRAIN, TEST, TEST, TEST], np.int8)
#          dense id   0    1    2    3    4    5    6    7    8
SCORES = np.array([[9.0, 8.0, 1.0, 7.0, 6.0, 2.0, 2.0, 0.0, 0.0]] * 2, np.float32)


def ranked(view: str = "all", **options: Any) -> list[Ranking]:
    log = log_of(LOG)
    cases = find_cases(log, LOG_PARTS, TEST, "all")
    assert (cases.case.tolist(), cases.target.tolist()) == ([0, 0, 1], [3, 5, 6])
    return rank_cases(lambda some: SCORES[some], cases, Histories(log, view), NUM_ITEMS, **options)


def test_by_hand_padding_and_unknown_never_rank_and_ties_count_half() -> None:
    (kept,) = ranked(k=4, remove_history=(False,))
    assert kept.ranks.tolist() == [1, 3.5, 3.5]
    assert kept.top.tolist() == [[3, 4, 5, 6]] * 2


def test_by_hand_a_target_in_a_removed_history_is_a_miss() -> None:
    removed, kept = ranked(k=7, remove_history=(True, False))
    assert removed.ranks.tolist() == [math.inf, 1.5, 3.5]
    assert removed.top.tolist() == [[5, 6, 2, 7, 8, -1, -1], [3, 4, 5, 6, 2, 7, 8]]  # user 3 has no history
    assert kept.ranks.tolist() == [1, 3.5, 3.5]


def test_by_hand_the_view_says_which_history_is_removed() -> None:
    (removed,) = ranked("skipped", k=2, remove_history=(True,))
    assert removed.ranks.tolist() == [1, 2.5, 3.5]


def test_all_of_a_history_is_removed_though_the_model_reads_its_end() -> None:
    (removed,) = ranked(k=2, remove_history=(True,), max_length=1)
    assert removed.top.tolist() == [[5, 6], [3, 4]]


@pytest.mark.parametrize(("scores_per_block", "tokens_per_block"), [(1, 10**9), (10**9, 1), (9, 10**9), (10**9, 10**9)])
def test_no_block_is_larger_than_allowed(
    monkeypatch: pytest.MonkeyPatch, scores_per_block: int, tokens_per_block: int
) -> None:
    monkeypatch.setattr(ranking, "_SCORES_PER_BLOCK", scores_per_block)
    monkeypatch.setattr(ranking, "_TOKENS_PER_BLOCK", tokens_per_block)
    log = log_of([Event(2, 2 + n % 7, n) for n in range(7)])
    cases = find_cases(log, np.full(7, TEST, np.int8), TEST, "all")
    asked: list[list[int]] = []

    def scores(block: np.ndarray) -> np.ndarray:
        asked.append(block.tolist())
        return np.zeros((len(block), NUM_ITEMS), np.float32)

    rank_cases(scores, cases, Histories(log, "all"), NUM_ITEMS, k=1, remove_history=(False,), max_length=3)
    assert sorted(case for block in asked for case in block) == list(range(7))  # each case is scored once
    assert all(block == sorted(block) for block in asked)
    smallest = min(scores_per_block // NUM_ITEMS, tokens_per_block // 3)
    assert max(map(len, asked)) <= max(1, smallest)


def test_no_cases_give_no_ranks() -> None:
    log = log_of(LOG)
    cases = find_cases(log, np.zeros(5, np.int8), TEST, "all")
    (result,) = rank_cases(
        lambda some: SCORES[some], cases, Histories(log, "all"), NUM_ITEMS, k=3, remove_history=(True,)
    )
    assert result.ranks.shape == (0,)
    assert result.top.shape == (0, 3)


class LastSeen:
    """Scores an item by how lately its user chose it, plus its own number where the request's time is odd."""

    def __init__(self, view: str, max_length: int) -> None:
        self.view = view
        self.max_length = max_length

    def encode(self, histories: SequenceBatch) -> State:
        lately = torch.zeros(len(histories), NUM_ITEMS)
        for row, length in enumerate(histories.lengths.tolist()):
            for place in range(length):
                lately[row, histories.item[row, place]] = 100.0 * (length - place)
        return State({"lately": lately})

    def score(self, state: State, request: Request, items: Tensor) -> Tensor:
        chosen = items.expand(len(state), -1)
        return (
            state.tensors["lately"].gather(1, chosen) + chosen * (request.time_ms % 2)[:, None] + request.user[:, None]
        )

    def top_k(self, state: State, request: Request, k: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise AssertionError("an evaluation scores the whole catalogue")


@property_test
@given(EVENTS, PARTS, st.sampled_from(["all", "watched"]), st.integers(0, 4), st.data())
def test_a_model_reads_the_last_events_of_its_view_before_the_request(
    events: list[Event], parts: list[int], view: str, max_length: int, data: st.DataObject
) -> None:
    log = log_of(events)
    cases = find_cases(log, np.array(parts[: len(events)], np.int8), TEST, "all")
    model = LastSeen(view, max_length)
    assert isinstance(model, Retriever)
    block = np.array(sorted(data.draw(st.sets(st.integers(0, len(cases) - 1)))) if len(cases) else [], np.int64)
    scores = retriever_scores(model, log, cases, NUM_ITEMS)(block)
    assert scores.shape == (len(block), NUM_ITEMS)
    for row, number in enumerate(block):
        expected = [float(item * (cases.time_ms[number] % 2) + cases.user[number]) for item in range(NUM_ITEMS)]
        history = history_items(log, cases, number, view)
        history = history[len(history) - min(max_length, len(history)) :]
        for item in set(history):
            last = max(place for place, other in enumerate(history) if other == item)
            expected[item] += 100.0 * (len(history) - last)
        assert scores[row].tolist() == expected


def test_the_future_never_changes_a_ranking() -> None:
    log = log_of(LOG)
    cases = find_cases(log, LOG_PARTS, TEST, "all")
    changed = log_of([*LOG[:2], Event(2, 7, 30), Event(2, 8, 30), Event(3, 8, 30)])
    model = LastSeen("all", 9)
    before, after = [retriever_scores(model, some, cases, NUM_ITEMS)(np.array([0, 1])) for some in (log, changed)]
    np.testing.assert_array_equal(before, after)
