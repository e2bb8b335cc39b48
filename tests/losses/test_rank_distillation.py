"""What rank distillation promises: free levels, no gradient for what a set shares, limits, identities, precision."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.losses.sets import Fast, examples, slopes
from upnext.losses.distillation import difference_loss, label_loss, score_loss
from upnext.losses.listwise import list_probability_loss, listwise_softmax_loss, multi_positive_loss
from upnext.losses.pairwise import label_pair_loss, pair_difference_loss, pair_probability_loss
from upnext.losses.ranks import rank_loss, rank_step_loss, softmax_weights
from upnext.losses.sets import as_one_set

of_form: Callable[..., Fast] = partial(partial, pair_probability_loss)
LEVEL_FREE: dict[str, Fast] = {
    "differences": difference_loss,
    "unconditional": pair_probability_loss,
    "unconditional, g = 3": of_form(temperature=3.0),
    "list probability": list_probability_loss,
    "ranks": rank_loss,
    "steps": rank_step_loss,
}
"""A level added to all teacher scores of a set changes nothing, and neither does one of the student's."""
KNOWS_LEVEL: dict[str, Fast] = {
    "conditional": of_form(form="conditional"),
    "difference": of_form(form="difference"),
    "tied": of_form(form="tied"),
}
"""The student's level is free, the teacher's is not: it says how probable the pair's labels are."""
ON_LABELS: dict[str, Fast] = {
    "label pairs": label_pair_loss,
    "label list": listwise_softmax_loss,
    "multi-positive": multi_positive_loss,
}
POINTWISE: dict[str, Fast] = {
    "score, squared": score_loss,
    "score, cross-entropy": partial(score_loss, form="cross_entropy"),
    "label": label_loss,
}
FREE = LEVEL_FREE | KNOWS_LEVEL | ON_LABELS


def data(name: str, seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher, labels, mask = examples(seed)
    return student, labels if name in ON_LABELS or name == "label" else teacher, mask


levels = st.lists(st.floats(-20, 20), min_size=6, max_size=6).map(lambda some: torch.tensor(some).double()[:, None])


@pytest.mark.parametrize("name", FREE)
@given(level=levels, seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_students_level_is_free_and_gradients_add_up_to_0(name: str, level: Tensor, seed: int):
    student, other, mask = data(name, seed)
    loss = FREE[name]
    torch.testing.assert_close(loss(student + level, other, mask)[0], loss(student, other, mask)[0])
    torch.testing.assert_close(slopes(loss, student + level, other, mask).sum(1), torch.zeros(6).double())


@pytest.mark.parametrize("name", LEVEL_FREE)
@given(level=levels, seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_teachers_level_changes_nothing(name: str, level: Tensor, seed: int):
    student, teacher, mask = data(name, seed)
    loss = LEVEL_FREE[name]
    torch.testing.assert_close(loss(student, teacher + level, mask)[0], loss(student, teacher, mask)[0])
    found = slopes(loss, student, teacher + level, mask)
    torch.testing.assert_close(found, slopes(loss, student, teacher, mask))


@pytest.mark.parametrize("name", KNOWS_LEVEL)
def test_where_the_teachers_level_matters(name: str):
    student, teacher, mask = data(name)
    loss = KNOWS_LEVEL[name]
    assert abs(loss(student, teacher + 3, mask)[0] - loss(student, teacher, mask)[0]) > 0.1


@pytest.mark.parametrize("name", POINTWISE)
def test_losses_of_single_scores_have_no_free_level(name: str):
    student, other, mask = data(name)
    loss = POINTWISE[name]
    assert abs(loss(student + 1, other, mask)[0] - loss(student, other, mask)[0]) > 0.1
    assert slopes(loss, student, other, mask).sum(1)[mask.any(1)].abs().min() > 1e-3


@pytest.mark.parametrize("name", FREE | POINTWISE)
def test_an_additive_feature_of_the_set_gets_a_gradient_only_from_losses_of_single_scores(name: str):
    """s = <a, x of the candidate> + <b, c of the set>."""
    generator = torch.Generator().manual_seed(5)
    own = torch.randn(6, 5, 3, dtype=torch.float64, generator=generator)
    common = torch.randn(6, 2, dtype=torch.float64, generator=generator)
    a, b = torch.ones(3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    a.requires_grad_(), b.requires_grad_()
    _, other, mask = data(name)
    loss, _ = (FREE | POINTWISE)[name](own @ a + (common @ b)[:, None], other, mask)
    of_own, of_common = torch.autograd.grad(loss, [a, b])
    assert of_own.abs().max() > 1e-3
    if name in POINTWISE:
        assert of_common.abs().max() > 1e-3
    else:
        torch.testing.assert_close(of_common, torch.zeros(2).double())


def test_over_a_whole_batch_only_the_level_of_all_is_free():
    student, teacher, mask = data("differences")
    found = slopes(lambda *batch: difference_loss(*as_one_set(*batch)), student, teacher, mask)
    torch.testing.assert_close(found.sum(), torch.zeros(()).double())
    assert found.sum(1)[mask.any(1)].abs().min() > 0.1


@pytest.mark.parametrize("loss", [difference_loss, partial(difference_loss, weights=torch.tensor([[0.5, 3, 0, 1]]))])
@given(seed=st.integers(0, 1000), size=st.integers(1, 4), batch=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_linear_time_equals_all_pairs(loss: Fast, seed: int, size: int, batch: int):
    student, teacher = torch.randn(2, batch, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 9
    mask = torch.arange(4).expand(batch, 4) < size
    w = getattr(loss, "keywords", {}).get("weights", torch.ones(1, 4)).double().expand(batch, 4)
    fast = partial(difference_loss, weights=w)
    pairs: Fast = partial(pair_difference_loss, pair_weights=w[:, :, None] * w[:, None, :])
    for part in (0, 1):
        torch.testing.assert_close(fast(student, teacher, mask)[part], pairs(student, teacher, mask)[part])
    torch.testing.assert_close(slopes(fast, student, teacher, mask), slopes(pairs, student, teacher, mask))


@pytest.mark.parametrize("kind", ["level", "spread"])
def test_large_scores_do_not_cancel_in_float32(kind: str):
    """Against float64 on the same scores: the teacher 10,000 higher, or both as wide and close to each other.

    Of a level, the expanded form N Σ d² - (Σ d)² keeps no digit.
    """
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 1, 1000, generator=generator)
    if kind == "level":
        teacher = teacher + 1e4
    else:
        student, teacher = student * 1e4, student * 1e4 + teacher
    mask = torch.ones(1, 1000).bool()
    exact, _ = difference_loss(student.double(), teacher.double(), mask)
    assert difference_loss(student, teacher, mask)[0].item() == pytest.approx(exact.item(), rel=1e-6)
    found, right = (
        slopes(difference_loss, s, t, mask) for s, t in ((student, teacher), (student.double(), teacher.double()))
    )
    torch.testing.assert_close(found.double(), right, atol=1e-6 * right.abs().max().item(), rtol=0)
    if kind == "level":
        d = teacher - student
        assert abs((1000 * d.square().sum() - d.sum().square()).item() / exact.item() - 1) > 0.1


def test_high_temperature_tends_to_squared_differences():
    """As divergences times g²: (Δs - Δt)² / 8 for a pair, Σ_{i<j} (d_i - d_j)² / (2 N²) for a list."""
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    mask = torch.ones(3, 4).bool()
    squares, square_slopes = difference_loss(student, teacher, mask)[0], slopes(difference_loss, student, teacher, mask)
    for family, share in ((pair_probability_loss, 1 / 8), (list_probability_loss, 1 / (2 * 4**2))):
        errors = []
        for g in (10.0, 100.0, 1000.0):
            hot: Fast = partial(family, temperature=g, temperature_power=2, as_divergence=True)
            errors.append(abs(hot(student, teacher, mask)[0] / (share * squares) - 1).item())
            # Times g alone, as the source has it, the gradients shrink as 1 / g.
            once: Fast = partial(family, temperature=g)
            torch.testing.assert_close(slopes(once, student, teacher, mask) * g, slopes(hot, student, teacher, mask))
        assert errors[0] > 5 * errors[1] > 25 * errors[2]
        assert errors[2] < 2e-3
        torch.testing.assert_close(slopes(hot, student, teacher, mask), share * square_slopes, atol=1e-2, rtol=1e-2)


def test_low_temperature_tends_to_a_hinge():
    """Times g, as g -> 0: max(0, -Δs) for each pair that the teacher orders; its slope is 1 however wrong the order."""
    student, teacher, mask = data("unconditional")
    cold: Fast = partial(pair_probability_loss, temperature=1e-4)
    loss, _ = cold(student[:1], teacher[:1], mask[:1])
    s, t = student[0].tolist(), teacher[0].tolist()
    hinge = sum(max(0.0, -(s[i] - s[j])) for i, j in product(range(5), range(5)) if t[i] > t[j])
    assert loss.item() == pytest.approx(hinge, abs=1e-3)


def test_which_temperature_recovers_faster_depends_on_the_factor():
    """A pair that is 8 wrong: times g the colder one is pushed harder, never by more than 1; times g² the hotter."""
    student, teacher, both = torch.tensor([[-4.0, 4]]).double(), torch.tensor([[4.0, -4]]).double(), torch.ones(1, 2)

    def push(power: Literal[1, 2], g: float) -> float:
        loss: Fast = partial(pair_probability_loss, temperature=g, temperature_power=power)
        return -slopes(loss, student, teacher, both.bool())[0, 0].item()

    assert 1 >= push(1, 0.25) > push(1, 1.0) > push(1, 4.0) > 0
    assert push(2, 4.0) > push(2, 1.0) > push(2, 0.25) > 0


def test_squared_differences_bend_alike_but_along_the_level():
    """Second derivatives 2 N where scores are centred, 0 along a constant."""
    teacher, mask = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(6)), torch.ones(1, 5)
    bend = torch.autograd.functional.hessian(
        lambda s: pair_difference_loss(s[None], teacher, mask.bool())[0], torch.zeros(5).double()
    )
    torch.testing.assert_close(torch.linalg.eigvalsh(bend), torch.tensor([0.0, 10, 10, 10, 10]).double())


def test_divergences_are_0_where_the_student_agrees_and_have_the_same_gradient():
    student, teacher, mask = data("unconditional")
    for family in (pair_probability_loss, list_probability_loss):
        divergence: Fast = partial(family, temperature=2.0, as_divergence=True)
        assert divergence(teacher + 5, teacher, mask)[0].item() == pytest.approx(0, abs=1e-12)
        assert divergence(student, teacher, mask)[0] > 0.1
        plain: Fast = partial(family, temperature=2.0)
        torch.testing.assert_close(slopes(divergence, student, teacher, mask), slopes(plain, student, teacher, mask))


@given(s=st.floats(-9, 9), t=st.floats(-9, 9))
@settings(max_examples=25, deadline=None)
def test_of_two_candidates_lists_are_pairs(s: float, t: float):
    student, teacher = torch.tensor([[[s, 1.0]], [[0.5, t]]], dtype=torch.float64)
    both, labels = torch.ones(1, 2).bool(), torch.tensor([[1.0, 0]]).double()
    pair = label_pair_loss(student, labels, both)[0]
    assert pair.item() == pytest.approx(math.log1p(math.exp(1 - s)), rel=1e-12)
    torch.testing.assert_close(listwise_softmax_loss(student, labels, both)[0], pair)
    torch.testing.assert_close(multi_positive_loss(student, labels, both)[0], pair)
    pair = pair_probability_loss(student, teacher, both)[0]
    torch.testing.assert_close(list_probability_loss(student, teacher, both)[0], pair)
    assert difference_loss(student, teacher, both)[0].item() == pytest.approx((0.5 - t - s + 1) ** 2, abs=1e-12)
    # The two terms of the conditional form, divided by their weights, are the unconditional one.
    loss, weight = pair_probability_loss(student, teacher, both, form="conditional")
    torch.testing.assert_close(loss / weight, pair)


def test_conditional_and_tied_are_what_labels_drawn_from_the_teacher_cost_on_average():
    """Over all 2⁴ labels of four candidates, each label drawn by itself."""
    student, teacher, _, _ = examples()
    student, teacher, mask = student[:1, :4], teacher[:1, :4], torch.ones(1, 4).bool()
    q = teacher.sigmoid()
    for form, ties in (("conditional", "drop"), ("tied", "keep")):
        mean = mean_weight = torch.zeros(()).double()
        for some in product((0.0, 1.0), repeat=4):
            labels = torch.tensor([some]).double()
            probability = torch.where(labels == 1, q, 1 - q).prod()
            loss, weight = label_pair_loss(student, labels, mask, ties=ties)  # type: ignore[arg-type]
            mean, mean_weight = mean + probability * loss, mean_weight + probability * weight
        found = KNOWS_LEVEL[form](student, teacher, mask)
        torch.testing.assert_close(found, (mean, mean_weight))


def test_the_difference_form_has_no_finite_minimum():
    """Twice the right differences still cost less than once; the other forms are least at their target."""
    both = torch.ones(1, 2).bool()
    teacher = torch.tensor([[1.0, 0]]).double()
    for form, goes_on in (("unconditional", False), ("conditional", False), ("tied", False), ("difference", True)):
        costs = [pair_probability_loss(teacher * k, teacher, both, form=form)[0].item() for k in (2, 10, 100)]  # type: ignore[arg-type]
        assert (costs == sorted(costs, reverse=True)) == goes_on


def test_softmax_weights_look_at_the_top():
    """With all weight on one candidate there is no pair; with two far above the rest, their pair alone."""
    mask = torch.ones(1, 3).bool()
    teacher, student = torch.tensor([[50.0, 50, 0]]).double(), torch.tensor([[0.0, 3, 9]]).double()
    weights = softmax_weights(teacher, mask)
    assert weights.sum().item() == pytest.approx(1)
    loss, weight = difference_loss(student, teacher, mask, weights=weights)
    assert (loss / weight).item() == pytest.approx(9)
