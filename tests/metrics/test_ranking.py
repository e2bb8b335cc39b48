"""Ranks, lists and ranking metrics: fast = slow, what must not change them, and arithmetic by hand."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import ranking as reference
from upnext.base.errors import BadBatch, BadConfig
from upnext.metrics import ranking
from upnext.metrics.ranking import group_ndcg, hit_rate, ndcg, rank_of_targets, recall, reciprocal_rank, top_k

SCORES = st.sampled_from([-math.inf, math.nan, math.inf, -1.0, -0.0, 0.0, 1.0, 2.0])  # many ties
property_test = settings(max_examples=150, deadline=None)


class Batch(NamedTuple):
    scores: np.ndarray
    case: np.ndarray
    target: np.ndarray
    excluded: np.ndarray


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    C, V, T = draw(st.integers(1, 4)), draw(st.integers(1, 11)), draw(st.integers(0, 8))

    def array(elements, shape, dtype):
        size = math.prod(shape)
        return np.array(draw(st.lists(elements, min_size=size, max_size=size)), dtype=dtype).reshape(shape)

    return Batch(
        scores=array(SCORES, (C, V), np.float32),
        case=array(st.integers(0, C - 1), (T,), np.int64),
        target=array(st.integers(0, V - 1), (T,), np.int64),
        excluded=array(st.booleans(), (C, V), np.bool_),
    )


@property_test
@given(batches(), st.integers(1, 30))
def test_ranks_equal_the_slow_reference(batch: Batch, block: int) -> None:
    slow = [
        reference.rank(batch.scores[c].tolist(), t, batch.excluded[c].tolist())
        for c, t in zip(batch.case, batch.target, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_BLOCK", block)  # so that small batches cross blocks too
        assert rank_of_targets(*batch).tolist() == slow


@property_test
@given(batches())
def test_ranks_without_exclusions_equal_ranks_that_exclude_nothing(batch: Batch) -> None:
    nothing = np.zeros_like(batch.excluded)
    with_mask = rank_of_targets(batch.scores, batch.case, batch.target, nothing)
    np.testing.assert_array_equal(rank_of_targets(batch.scores, batch.case, batch.target), with_mask)


@property_test
@given(batches(), st.randoms(use_true_random=False))
def test_permuting_items_leaves_ranks_unchanged(batch: Batch, random) -> None:
    V = batch.scores.shape[1]
    order = np.array(random.sample(range(V), V))
    moved_to = np.argsort(order)
    scores, target, excluded = batch.scores[:, order], moved_to[batch.target], batch.excluded[:, order]
    ranks = rank_of_targets(scores, batch.case, target, excluded)
    np.testing.assert_array_equal(ranks, rank_of_targets(*batch))


@property_test
@given(batches())
def test_ranks_do_not_depend_on_the_other_targets_and_inputs_are_not_written_to(batch: Batch) -> None:
    before = [array.copy() for array in batch]
    together = rank_of_targets(*batch)
    for i in range(len(batch.target)):
        one = slice(i, i + 1)
        alone = rank_of_targets(batch.scores, batch.case[one], batch.target[one], batch.excluded)
        np.testing.assert_array_equal(alone, together[one])
    for array, copy in zip(batch, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@property_test
@given(batches(), st.integers(1, 13))
def test_lists_equal_the_slow_reference(batch: Batch, k: int) -> None:
    slow = [
        reference.top_k(row.tolist(), k, flags.tolist())
        for row, flags in zip(batch.scores, batch.excluded, strict=True)
    ]
    top = top_k(batch.scores, k, batch.excluded)
    assert top.tolist() == slow
    assert top.dtype == np.int64


@property_test
@given(batches(), st.integers(1, 13))
def test_metrics_equal_the_slow_reference(batch: Batch, k: int) -> None:
    C = len(batch.scores)
    ranks = rank_of_targets(*batch)
    per_case = [ranks[batch.case == c].tolist() for c in range(C)]
    for name in ("hit_rate", "recall", "ndcg", "reciprocal_rank"):
        fast = getattr(ranking, name)(ranks, batch.case, C, k)
        slow = [getattr(reference, name)(of_case, k) for of_case in per_case]
        np.testing.assert_allclose(fast, slow, rtol=1e-12)
        assert np.all(np.isnan(fast) | ((fast >= 0) & (fast <= 1)))
    uncut = [reference.reciprocal_rank(of_case, None) for of_case in per_case]
    np.testing.assert_array_equal(reciprocal_rank(ranks, batch.case, C), uncut)


def one_case(*scores: float) -> np.ndarray:
    return np.array([scores], dtype=np.float32)


def rank_of(scores: np.ndarray, target: int, excluded: np.ndarray | None = None) -> float:
    return float(rank_of_targets(scores, np.array([0]), np.array([target]), excluded)[0])


def test_rank_counts_higher_items_whole_and_tied_items_half() -> None:
    scores = one_case(0.9, 0.5, 0.5, 0.1)
    assert [rank_of(scores, j) for j in range(4)] == [1, 2.5, 2.5, 4]


def test_a_constant_score_ranks_every_target_in_the_middle() -> None:
    assert rank_of(one_case(*[3.0] * 11), 0) == 6


def test_excluded_items_leave_the_ranking_but_the_target_never_does() -> None:
    scores, excluded = one_case(0.9, 0.8, 0.5, 0.5), np.array([[True, False, False, True]])
    assert rank_of(scores, 2, excluded) == 2  # only column 1 is above, and nothing ties
    assert rank_of(scores, 0, excluded) == 1  # flagged, yet ranked
    assert rank_of(scores, 3, excluded) == 2.5  # flagged: column 1 above, column 2 tied


def test_what_cannot_be_scored_is_a_miss_and_above_nothing() -> None:
    scores = one_case(-math.inf, math.nan, 0.0, math.inf)
    assert [rank_of(scores, j) for j in range(4)] == [math.inf, math.inf, 2, 1]


def test_no_targets_have_no_ranks() -> None:
    none = np.zeros(0, dtype=np.int64)
    ranks = rank_of_targets(one_case(1.0, 2.0), none, none)
    assert ranks.shape == (0,)
    assert ranks.dtype == np.float64
    np.testing.assert_array_equal(ndcg(ranks, none, 2, 10), [math.nan, math.nan])


def test_lists_break_ties_by_column_and_end_in_minus_one() -> None:
    scores = one_case(0.5, 0.9, 0.5, -math.inf)
    assert top_k(scores, 2).tolist() == [[1, 0]]
    assert top_k(scores, 6).tolist() == [[1, 0, 2, -1, -1, -1]]
    assert top_k(scores, 4, np.array([[False, True, False, False]])).tolist() == [[0, 2, -1, -1]]
    assert top_k(np.zeros((2, 0), dtype=np.float32), 2).tolist() == [[-1, -1], [-1, -1]]


# Case 0 has ranks 1, 4 and 12; case 1 has none; case 2 misses; case 3 has ranks 3 and 1.
RANKS = np.array([4, 1, math.inf, 3, 12, 1], dtype=np.float64)
CASE = np.array([0, 0, 2, 3, 0, 3])


def test_metrics_by_hand() -> None:
    np.testing.assert_array_equal(hit_rate(RANKS, CASE, 4, 10), [1, math.nan, 0, 1])
    np.testing.assert_array_equal(recall(RANKS, CASE, 4, 10), [2 / 3, math.nan, 0, 1])
    np.testing.assert_array_equal(recall(RANKS, CASE, 4, 2), [1 / 3, math.nan, 0, 1 / 2])
    np.testing.assert_array_equal(reciprocal_rank(RANKS, CASE, 4), [1, math.nan, 0, 1])
    # 1.5 / 1.6309 = 0.9197 for ranks 1 and 3; (1 + 1/log2(5)) / (1 + 1/log2(3) + 1/2) for case 0
    first = (1 + 1 / math.log2(5)) / (1.5 + 1 / math.log2(3))
    np.testing.assert_allclose(ndcg(RANKS, CASE, 4, 10), [first, math.nan, 0, 0.9197], atol=5e-5)


def test_reciprocal_rank_is_0_beyond_its_cut() -> None:
    ranks, case = np.array([4.0, 12.0]), np.array([0, 0])
    assert reciprocal_rank(ranks, case, 1).tolist() == [1 / 4]
    assert reciprocal_rank(ranks, case, 1, 4).tolist() == [1 / 4]
    assert reciprocal_rank(ranks, case, 1, 3).tolist() == [0]


def test_a_half_rank_beyond_the_cut_is_a_miss() -> None:
    ranks, case = np.array([1.5]), np.array([0])
    assert hit_rate(ranks, case, 1, 1).tolist() == [0]
    assert hit_rate(ranks, case, 1, 2).tolist() == [1]


def test_ndcg_ideal_has_no_more_places_than_the_list_and_tied_targets_do_not_exceed_it() -> None:
    case = np.zeros(3, dtype=np.int64)
    assert ndcg(np.array([1.0, 2.0, 3.0]), case, 1, 2).tolist() == [1]
    assert ndcg(np.array([2.0, 2.0, 2.0]), case, 1, 2).tolist() == [1]  # 3 / log2(3) is 1.16 times it


@pytest.mark.parametrize(("case", "target"), [(1, 0), (-1, 0), (0, 2), (0, -1)])
def test_a_target_outside_the_scores_is_refused(case: int, target: int) -> None:
    with pytest.raises(BadBatch, match="run from"):
        rank_of_targets(one_case(1.0, 2.0), np.array([case]), np.array([target]))


def test_a_case_outside_the_cases_is_refused() -> None:
    for metric in (hit_rate, recall, ndcg, reciprocal_rank):
        with pytest.raises(BadBatch, match="allowed is 0 to 1"):
            metric(np.array([1.0]), np.array([2]), 2, 10)


def test_a_cutoff_below_1_is_refused() -> None:
    for metric in (hit_rate, recall, ndcg, reciprocal_rank):
        with pytest.raises(BadConfig, match="k is 0"):
            metric(RANKS, CASE, 4, 0)
    with pytest.raises(BadConfig, match="k is 0"):
        top_k(one_case(1.0), 0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    scores, two, one = one_case(1.0, 2.0), np.array([0, 0]), np.array([0])
    refused = (BadBatch, TypeError)  # jaxtyping, where it watches, speaks first
    with pytest.raises(refused):
        rank_of_targets(scores, two, one)
    with pytest.raises(refused):
        rank_of_targets(scores[0], one, one)
    with pytest.raises(refused):
        top_k(scores, 1, np.array([[True]]))
    with pytest.raises(refused):
        recall(np.array([1.0]), two, 1, 10)


def test_group_ndcg_by_hand() -> None:
    scores, gains, group = np.array([3.0, 2, 1, 5, 5, 9]), np.array([0.0, 2, 1, 1, 0, 0]), np.array([7, 7, 7, 2, 2, 9])
    first = (2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3))
    tied = (1 + 1 / math.log2(3)) / 2
    assert group_ndcg(scores, gains, group).tolist() == pytest.approx([tied, first, math.nan], nan_ok=True)
    assert len(group_ndcg(np.empty(0), np.empty(0), np.empty(0, np.int64))) == 0
