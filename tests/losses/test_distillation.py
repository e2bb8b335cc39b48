"""Every loss of rank distillation equals its definition in loops, with its gradient, and is blind to padding."""

import math
from functools import partial
from itertools import combinations, permutations, product
from typing import Literal, get_args

import pytest
import torch
from torch import Tensor

from tests.losses.sets import Fast, Slow, by_loops, examples, slopes
from tests.reference import distillation as slow
from upnext.losses.distillation import difference_loss, label_loss, score_loss
from upnext.losses.listwise import list_probability_loss, listwise_softmax_loss, multi_positive_loss
from upnext.losses.pairwise import label_pair_loss, pair_difference_loss, pair_probability_loss
from upnext.losses.ranks import WeightForm, rank_loss, rank_pair_weights, rank_step_loss, softmax_weights
from upnext.losses.sets import as_one_set

ON_LABELS: dict[str, tuple[Fast, Slow]] = {
    "label, cross-entropy": (label_loss, slow.label_cross_entropy),
    "label, squared probability": (partial(label_loss, form="squared_probability"), slow.squared_probability),
    "label, squared": (partial(label_loss, form="squared"), slow.squared),
    "pairs, ties dropped": (label_pair_loss, partial(slow.label_pairs, keep_ties=False)),
    "pairs, ties kept": (partial(label_pair_loss, ties="keep"), partial(slow.label_pairs, keep_ties=True)),
    "list": (listwise_softmax_loss, partial(slow.label_list, keep_equal=False)),
    "list, equal kept": (partial(listwise_softmax_loss, equal="keep"), partial(slow.label_list, keep_equal=True)),
    "list, multi-positive": (multi_positive_loss, slow.multi_positive),
}
ON_TEACHER: dict[str, tuple[Fast, Slow]] = {
    "score, squared": (score_loss, slow.squared),
    "score, cross-entropy": (partial(score_loss, form="cross_entropy"), slow.score_cross_entropy),
    "differences": (difference_loss, slow.differences),
    "differences by pairs": (pair_difference_loss, slow.differences),
    "unconditional": (pair_probability_loss, slow.unconditional),
    "unconditional, g = 3": (partial(pair_probability_loss, temperature=3.0), partial(slow.unconditional, g=3.0)),
    "unconditional, g = 1/2, squared": (
        partial(pair_probability_loss, temperature=0.5, temperature_power=2),
        partial(slow.unconditional, g=0.5, power=2),
    ),
    "conditional": (partial(pair_probability_loss, form="conditional"), slow.conditional),
    "conditional, g = 2": (
        partial(pair_probability_loss, form="conditional", temperature=2.0),
        partial(slow.conditional, g=2.0),
    ),
    "difference": (partial(pair_probability_loss, form="difference"), slow.difference),
    "difference, g = 2": (
        partial(pair_probability_loss, form="difference", temperature=2.0),
        partial(slow.difference, g=2.0),
    ),
    "tied": (partial(pair_probability_loss, form="tied"), slow.tied),
    "tied, g = 2": (partial(pair_probability_loss, form="tied", temperature=2.0), partial(slow.tied, g=2.0)),
    "list probability": (list_probability_loss, slow.list_probability),
    "list probability, g = 3": (
        partial(list_probability_loss, temperature=3.0, temperature_power=2),
        partial(slow.list_probability, g=3.0, power=2),
    ),
    "ranks": (rank_loss, slow.rank_squares),
    "ranks, narrow": (partial(rank_loss, width=0.3), partial(slow.rank_squares, width=0.3)),
    "ranks, wide": (partial(rank_loss, width=20.0), partial(slow.rank_squares, width=20.0)),
    "steps": (rank_step_loss, slow.rank_steps),
    "steps, sign": (partial(rank_step_loss, sign=True), partial(slow.rank_steps, sign=True)),
}
ALL = ON_LABELS | ON_TEACHER
EACH = pytest.mark.parametrize("name", ALL)


def given(name: str) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher, labels, mask = examples()
    return student, labels if name in ON_LABELS else teacher, mask


def close(found: Tensor | float, expected: Tensor | float) -> None:
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        atol=1e-8,
        rtol=1e-8,
    )


@EACH
def test_equals_its_definition_with_its_gradient(name: str):
    student, other, mask = given(name)
    fast, loops = ALL[name]
    leaf = student.clone().requires_grad_()
    expected, weight = by_loops(loops, leaf, other, mask)
    (slope,) = torch.autograd.grad(expected, leaf)
    found = fast(student, other, mask)
    close(found[0], expected)
    close(found[1], weight)
    close(slopes(fast, student, other, mask), slope)


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("list")])
def test_each_set_can_weigh_alike(name: str):
    student, other, mask = given(name)
    fast, loops = ALL[name]
    found = fast(student, other, mask, per_set=True)
    expected = by_loops(loops, student, other, mask, per_set=True)
    close(found[0], expected[0])
    close(found[1], expected[1])


@EACH
@pytest.mark.parametrize("stray", [float("nan"), float("inf"), -1e30])
def test_what_is_outside_the_mask_changes_nothing(name: str, stray: float):
    student, other, mask = given(name)
    fast, _ = ALL[name]
    strays = student.masked_fill(~mask, stray), other.masked_fill(~mask, stray)
    close(fast(*strays, mask)[0], fast(student, other, mask)[0])
    found = slopes(fast, *strays, mask)
    close(found, slopes(fast, student, other, mask))
    assert not found[~mask].any()


@EACH
def test_no_sets_and_no_candidates_cost_nothing(name: str):
    fast, _ = ALL[name]
    for shape in ((0, 3), (2, 0), (2, 3)):
        student = torch.zeros(shape, requires_grad=True)
        loss, weight = fast(student, torch.zeros(shape), torch.zeros(shape).bool())
        loss.backward()
        assert (loss.item(), weight.item()) == (0, 0)
        assert student.grad is not None
        assert not student.grad.any()


@EACH
@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_huge_scores_give_no_nan(name: str, scale: float):
    student, other, mask = given(name)
    fast, _ = ALL[name]
    other = (other if name in ON_LABELS else other * scale).float()
    for huge in (student.float() * scale, student.float() * 0 + scale):
        loss, weight = fast(huge, other, mask)
        assert not loss.isnan()
        assert weight.isfinite()
        assert slopes(fast, huge, other, mask).isfinite().all()


@EACH
def test_low_precision_is_accumulated_in_float32(name: str):
    student, other, mask = given(name)
    fast, _ = ALL[name]
    low = student.bfloat16(), other.bfloat16()
    loss, weight = fast(*low, mask)
    expected = fast(low[0].double(), low[1].double(), mask)
    assert loss.dtype == weight.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected[0], atol=1e-5, rtol=1e-5)
    assert slopes(fast, *low, mask).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ON_TEACHER)
def test_the_teacher_is_a_constant(name: str):
    student, teacher, mask = given(name)
    leaf = teacher.clone().requires_grad_()
    loss, _ = ALL[name][0](student.clone().requires_grad_(), leaf, mask)
    loss.backward()
    assert leaf.grad is None


@EACH
def test_candidates_have_no_order(name: str):
    student, other, mask = given(name)
    fast, _ = ALL[name]
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = student[:, order], other[:, order], mask[:, order]
    close(fast(*moved)[0], fast(student, other, mask)[0])
    close(slopes(fast, *moved), slopes(fast, student, other, mask)[:, order])


@EACH
def test_a_whole_batch_is_one_set(name: str):
    """Of 18 candidates, pairs across what were sets are seen too."""
    student, other, mask = given(name)
    fast, loops = ALL[name]
    leaf = student.clone().requires_grad_()
    expected, weight = by_loops(loops, *as_one_set(leaf, other, mask))
    (slope,) = torch.autograd.grad(expected, leaf)
    found = fast(*as_one_set(student, other, mask))
    close(found[0], expected)
    close(found[1], weight)
    close(slopes(lambda *batch: fast(*as_one_set(*batch)), student, other, mask), slope)


@pytest.mark.parametrize("form", get_args(WeightForm))
@pytest.mark.parametrize("by", ["teacher", "student", "both"])
def test_pairs_weighted_by_rank_equal_their_definition(form: WeightForm, by: Literal["teacher", "student", "both"]):
    student, teacher, labels, mask = examples()
    weights = rank_pair_weights(student, teacher, mask, form=form, by=by, exponent=0.7)
    close(weights, weights.transpose(1, 2))
    one_by_one = zip(student, teacher, mask, strict=True)
    for (s, t, there), found in zip(one_by_one, weights, strict=True):
        whose = {"teacher": [t], "student": [s], "both": [t, s]}[by]
        ways = [slow.pair_weight(scores[there].tolist(), form, 0.7) for scores in whose]
        expected = torch.zeros(5, 5).double()
        for (i, a), (j, b) in permutations(enumerate(there.nonzero()[:, 0].tolist()), 2):
            expected[a, b] = sum(way(i, j) for way in ways) / len(ways)
        close(found, expected)
    # A loss of pairs is that of every pair by itself, times its weight; what is no pair may have any weight.
    weights = weights.masked_fill(~(mask[:, :, None] & mask[:, None, :]), 7.0)
    for fast, other in ((pair_difference_loss, teacher), (pair_probability_loss, teacher), (label_pair_loss, labels)):
        loss = weight = torch.zeros((), dtype=torch.float64)
        for b, (i, j) in product(range(len(mask)), combinations(range(5), 2)):
            own = fast(*(part[[b]][:, [i, j]] for part in (student, other, mask)))
            loss, weight = loss + weights[b, i, j] * own[0], weight + weights[b, i, j] * own[1]
        found = fast(student, other, mask, pair_weights=weights)
        close(found[0], loss)
        close(found[1], weight)


@pytest.mark.parametrize("loss", [difference_loss, score_loss])
def test_weights_of_candidates(loss: Fast):
    student, teacher, _, mask = examples()
    fast: Fast = partial(loss, weights=softmax_weights(teacher, mask).masked_fill(~mask, 7.0))
    leaf = student.clone().requires_grad_()

    def loops(s: slow.Scores, t: slow.Numbers) -> slow.Loss:
        w = [math.exp(b) / sum(math.exp(a) for a in t) for b in t]
        return slow.squared(s, t, w) if loss is score_loss else slow.differences(s, t, lambda i, j: w[i] * w[j])

    expected, weight = by_loops(loops, leaf, teacher, mask)
    found = fast(student, teacher, mask)
    close(found[0], expected)
    close(found[1], weight)
    close(slopes(fast, student, teacher, mask), torch.autograd.grad(expected, leaf)[0])


def test_by_hand():
    both = torch.ones(1, 2).bool()
    student, teacher = torch.tensor([[0.0, 1]]), torch.tensor([[2.0, 0]])
    for fast in (difference_loss, pair_difference_loss):
        # The teacher's difference is 2, the student's -1.
        assert [part.item() for part in fast(student, teacher, both)] == [9, 1]
    # d = 2, -1: N (d_k - mean d) = 2 * 1.5, so the gradient is -6 and 6.
    assert slopes(difference_loss, student, teacher, both).tolist() == [[-6, 6]]
    # Ranks 2, 1 against 1, 2: (1 + 1) / (2 * 3 / 6) is 1 - rho with rho = -1.
    assert [part.item() for part in rank_loss(student, teacher, both)] == [2, 1]
    assert [part.item() for part in rank_step_loss(student, teacher, both)] == [1, 2]
