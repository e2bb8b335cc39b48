"""What a report says beyond its tables: examples that are what they claim, differences and popularity by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, NUM_ITEMS, Event, log_of, schema
from upnext.evaluation.cases import Cases, find_cases
from upnext.evaluation.examples import Names, draw_examples
from upnext.evaluation.figures import best_first, differences
from upnext.evaluation.insights import shown_models
from upnext.evaluation.popularity import popularity_rows
from upnext.evaluation.protocol import Protocol, sentences
from upnext.evaluation.ranking import Histories, Ranking, rank_cases
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, VALIDATION
from upnext.metrics.intervals import paired_difference
from upnext.metrics.ranking import ndcg

PARTS = st.lists(st.sampled_from([TRAIN, TEST]), min_size=14, max_size=14)
NAMES = Names(lambda user: f"user {user}", lambda item: f"title {item}", {"device": lambda code: f"device {code}"})
HEAVY = 3


def ranked(log: EventLog, cases: Cases, seed: int, k: int = 5) -> Ranking:
    scores = np.random.default_rng(seed).random((len(cases), NUM_ITEMS)).astype(np.float32)
    (found,) = rank_cases(
        lambda some: scores[some], cases, Histories(log, "all"), NUM_ITEMS, k=k, remove_history=(False,)
    )
    return found


@settings(max_examples=80, deadline=None)
@given(EVENTS, PARTS, st.integers(0, 9))
def test_examples_contain_what_they_claim(events: list[Event], parts: list[int], seed: int) -> None:
    log = log_of(events)
    part = np.array(parts[: len(events)], np.int8)
    cases, histories = find_cases(log, part, TEST, "all"), Histories(log, "all")
    rankings = {"a": ranked(log, cases, seed), "b": ranked(log, cases, seed + 100)}
    examples = draw_examples(rankings, cases, histories, HEAVY, NAMES)
    assert examples == draw_examples(rankings, cases, histories, HEAVY, NAMES)  # no luck involved
    assert len({example.user for example in examples}) == len(examples)
    assert bool(examples) == bool(len(cases))
    for example in examples:
        titles = {title for title, _ in example.chosen}
        hits = [title for title, is_hit in example.lists["a"] if is_hit]
        assert set(hits) == titles & {title for title, _ in example.lists["a"]}
        assert ("cold" not in example.why) or example.num_before < 5
        assert ("heavy" not in example.why) or example.num_before >= HEAVY
        assert ("A hit" not in example.why) or hits
        assert ("A miss" not in example.why) or not hits
        # It is a case of the log: what lies before it, when it was, and what was chosen then.
        user = int(example.user.removeprefix("user "))
        number = next(
            n
            for n in range(len(cases))
            if cases.user[n] == user
            and {f"title {item}" for item in cases.target[cases.case == n]} == titles
            and cases.history_end[n] - log.offsets[user] == example.num_before
        )
        before = log.rows.item[log.offsets[user] : cases.history_end[number]]
        assert example.history == [f"title {item}" for item in before[-5:]]
        assert example.when == "1970-01-01 00:00 UTC" or cases.time_ms[number] < 0
        for _, ranks in example.chosen:
            assert all(rank is None or 1 <= rank <= NUM_ITEMS for rank in ranks.values())


def test_of_many_chosen_items_the_best_ranked_are_shown() -> None:
    log = log_of([Event(2, 2, 0), *[Event(2, item, 10) for item in range(2, 9)]])
    part = np.array([TRAIN, *[TEST] * 7], np.int8)
    cases = find_cases(log, part, TEST, "all")
    ranking = Ranking(np.array([7.0, math.inf, 5, 4, 3, 2, 1]), np.arange(2, 7)[None])
    example = draw_examples({"a": ranking}, cases, Histories(log, "all"), HEAVY, NAMES)[0]
    assert example.num_chosen == 7
    assert [(title, ranks["a"]) for title, ranks in example.chosen] == [(f"title {8 - n}", n + 1) for n in range(5)]


def test_an_example_without_times_and_with_a_long_title() -> None:
    log = log_of([Event(2, 2, 0), Event(2, 4, 10)], schema(has_times=False))
    cases = find_cases(log, np.array([TRAIN, TEST], np.int8), TEST, "all")
    names = Names(str, lambda item: "x" * 200, {})
    (example, *_) = draw_examples({"a": ranked(log, cases, 0)}, cases, Histories(log, "all"), HEAVY, names)
    assert (example.when, example.context, example.history) == ("", {}, ["x" * 79 + "…"])


def two_models() -> tuple[Cases, dict[str, Ranking]]:
    log = log_of([Event(2, 3, 1), Event(2, 4, 2), Event(3, 5, 3)])
    cases = find_cases(log, np.full(3, TEST, np.int8), TEST, "all")
    top = np.array([[3, 4], [4, 5], [5, -1]])
    return cases, {"a": Ranking(np.array([1.0, 1, 3]), top), "b": Ranking(np.array([3.0, 1, 1]), top[:, ::-1])}


def test_differences_are_those_of_the_same_cases() -> None:
    cases, rankings = two_models()
    rows = differences(rankings, "b", cases, 2, 50)
    assert {(row["model"], row["baseline"], row["k"]) for row in rows} == {("a", "b", 2)}
    by_metric = {row["metric"]: row for row in rows}
    assert set(by_metric) == {"ndcg", "hr", "recall", "mrr"}
    assert by_metric["hr"]["value"] == pytest.approx(2 / 3 - 2 / 3)
    a, b = (ndcg(rankings[name].ranks, cases.case, 3, 2) for name in "ab")
    expected = paired_difference(a, b, cases.user, num_samples=50)
    assert [by_metric["ndcg"][end] for end in ("value", "low", "high")] == [expected.value, expected.low, expected.high]


def test_popularity_by_hand() -> None:
    """Items 2 to 8 with 9, 5, 5, 0 … training events; lists hold 3, 4, 4, 5, 5, and 3, 4, 5 were chosen."""
    cases, rankings = two_models()
    trained = np.array([0, 0, 9, 5, 5, 1, 0, 0, 0])
    chosen, a, _ = popularity_rows(rankings, cases, trained, 2)
    assert (chosen["model"], a["model"], a["k"]) == (None, "a", 2)
    assert sum(chosen["shares"]) == pytest.approx(1)
    assert chosen["popularity_rank"] == pytest.approx((2.5 + 2.5 + 4) / 3)
    assert a["popularity_rank"] == pytest.approx((2.5 * 3 + 4 * 2) / 5)
    assert a["coverage"] == pytest.approx(3 / 7)
    nothing = {"none": Ranking(rankings["a"].ranks, np.full((3, 2), -1))}
    row = popularity_rows(nothing, cases, trained, 2)[1]
    assert (row["gini"], row["popularity_rank"], set(row["shares"])) == (None, None, {None})


def test_best_first_leaves_out_what_is_unknown_or_not_asked_for() -> None:
    rows = [
        {"model": name, "metric": metric, "k": k, "value": value}
        for name, value in (("a", 0.1), ("b", 0.3), ("c", math.nan), ("oracle", 0.9))
        for metric, k in (("ndcg", 10), ("ndcg", 50), ("hr", 10))
    ]
    assert best_first(rows, 10, {"a", "b", "c"}) == ["b", "a"]


@pytest.mark.parametrize(
    ("models", "baselines", "shown"),
    [
        (["sasrec", "gru", "week", "popular"], {"week", "popular"}, ["sasrec", "week"]),
        (["week", "popular", "sasrec"], {"week", "popular"}, ["week", "sasrec"]),
        (["week", "popular"], {"week", "popular"}, ["week"]),
        (["sasrec", "gru"], set(), ["sasrec"]),
        ([], set(), []),
    ],
)
def test_a_model_and_a_baseline_are_shown(models: list[str], baselines: set[str], shown: list[str]) -> None:
    assert shown_models(models, baselines) == shown


def said(**changes: Any) -> dict[str, str]:
    log = log_of([Event(2, 3, 0), Event(2, 4, 86_400_000), Event(3, 5, 172_800_000)])
    part = np.array([TRAIN, VALIDATION, TEST], np.int8)
    split: dict[str, Any] = {"kind": "global_time", "gap": 0}
    some: dict[str, Any] = {
        "view": "all", "rolls": True, "events": "all", "removed": False, "num_samples": 1000, "split": split,
    }  # fmt: skip
    trained = np.bincount([3], minlength=NUM_ITEMS)
    return sentences(Protocol(**(some | changes)), log, part, find_cases(log, part, TEST, "all"), trained)


def test_the_protocol_says_what_was_done() -> None:
    rolling = said()
    assert rolling["split"] == (
        "Global time: train from 1970-01-01 00:00 to 1970-01-01 00:00 (1 events), validation from 1970-01-02 00:00 to"
        " 1970-01-02 00:00 (1 events), test from 1970-01-03 00:00 to 1970-01-03 00:00 (1 events)."
    )
    assert rolling["targets"].startswith("All events of the view 'all' in the test part: 1 in 1 requests of 1 users.")
    assert rolling["untrained targets"].startswith("100.0% of the targets")
    assert rolling["history"].startswith("It rolls forward")
    assert rolling["history in the ranking"].startswith("Kept")
    other = said(rolls=False, events="first", removed=True, split={"kind": "leave_last_out", "view": "watched"})
    assert other["split"].startswith("Leave last out: a user's last event of the view 'watched' tests")
    assert other["history"].startswith("It is frozen")
    assert "the first request" in other["targets"]
    assert other["history in the ranking"].startswith("Removed")
    assert said(split={"kind": "global_time", "gap": 7_200_000})["split"].endswith(
        " 2 hours before the validation part are used for nothing."
    )
