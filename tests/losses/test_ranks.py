"""Ranks, hard and soft: equal to loops, exact where scores are apart, the same from any level and in any order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.sets import examples
from tests.reference import distillation as slow
from upnext.losses.ranks import rank_loss, rank_step_loss, ranks, soft_ranks

scores = st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0, 3.5]), min_size=1, max_size=9)


@given(some=scores, width=st.sampled_from([0.1, 0.5, 1.0, 7.0]))
@settings(deadline=None)
def test_equal_loops_also_where_scores_tie_or_are_a_width_apart(some: list[float], width: float):
    values, mask = torch.tensor([some]).double(), torch.ones(1, len(some)).bool()
    assert ranks(values, mask).tolist() == [slow.ranks(some)]
    expected = [float(rank) for rank in slow.soft_ranks(list(values[0]), width)]
    torch.testing.assert_close(soft_ranks(values, mask, width=width)[0], torch.tensor(expected).double())


@given(some=scores, width=st.sampled_from([0.1, 0.5, 1.0, 7.0]))
@settings(deadline=None)
def test_gradients_add_up_to_0_also_at_the_corners(some: list[float], width: float):
    values, mask = torch.tensor([some]).requires_grad_(), torch.ones(1, len(some)).bool()
    (slope,) = torch.autograd.grad((soft_ranks(values, mask, width=width) ** 2).sum(), values)
    assert slope.sum().item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_soft_ranks_are_ranks_where_scores_are_further_apart_than_the_width(scale: float):
    student, _, _, mask = examples()
    exact = ranks(student, mask)
    for dtype in (torch.float32, torch.float64):
        found = soft_ranks((student * scale).to(dtype), mask, width=1e-4 * scale)
        torch.testing.assert_close(found, exact.to(dtype))
    assert not exact[~mask].any()


def test_beyond_the_width_nothing_is_pushed():
    student, teacher, _, mask = examples()
    for width, is_pushed in ((1e-6, False), (100.0, True)):
        leaf = student[:1].clone().requires_grad_()
        rank_loss(leaf, teacher[:1], mask[:1], width=width)[0].backward()
        assert leaf.grad is not None
        assert bool(leaf.grad.any()) == is_pushed


def test_many_scores_of_a_high_level_keep_their_digits():
    generator = torch.Generator().manual_seed(0)
    values, mask = torch.randn(1, 20_000, generator=generator), torch.ones(1, 20_000).bool()
    high = values + 1e4
    exact = soft_ranks(high.double(), mask, width=0.1)
    torch.testing.assert_close(soft_ranks(high, mask, width=0.1).double(), exact, rtol=1e-6, atol=1e-3)
    assert exact.sum().item() == pytest.approx(20_000 * 20_001 / 2)


def test_by_hand():
    mask = torch.ones(1, 4).bool()
    assert ranks(torch.tensor([[0.9, 0.5, 0.5, 0.1]]), mask).tolist() == [[1, 2.5, 2.5, 4]]
    # 0.5 apart with width 1: h(0.5) = 3/4 and h(-0.5) = 1/4.
    found = soft_ranks(torch.tensor([[0.5, 0.0, 9.0, -9.0]]), mask)
    assert found.tolist() == [[2.25, 2.75, 1, 4]]


def test_the_mean_is_one_less_spearmans_correlation():
    student, teacher = torch.randn(2, 1, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mask = torch.ones(1, 30).bool()
    loss, weight = rank_loss(student, teacher, mask, width=1e-9)
    rho = torch.corrcoef(torch.cat([ranks(student, mask), ranks(teacher, mask)]))[0, 1]
    assert (loss / weight).item() == pytest.approx(1 - rho.item())


def test_a_step_of_gradient_descent_moves_scores_by_the_difference_of_ranks():
    student, teacher, _, mask = examples()
    leaf = student.clone().requires_grad_()
    rank_step_loss(leaf, teacher, mask)[0].backward()
    torch.optim.SGD([leaf], lr=0.1).step()
    expected = student + 0.1 * (ranks(student, mask) - ranks(teacher, mask))
    torch.testing.assert_close(leaf.detach(), expected)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_steps_cost_0_only_in_the_teachers_order_and_lead_to_it(seed: int):
    student, teacher = torch.randn(2, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(1, 6).bool()
    assert rank_step_loss(teacher * 3 + 1, teacher, mask)[0].item() == pytest.approx(0, abs=1e-12)
    assert rank_step_loss(torch.ones(1, 6).double(), teacher, mask)[0].item() == 0
    loss = rank_step_loss(student, teacher, mask)[0].item()
    assert loss >= 0
    assert (loss < 1e-12) == bool((student.argsort() == teacher.argsort()).all())
    for _ in range(200):
        student = student + 0.1 * (ranks(student, mask) - ranks(teacher, mask))
    assert (student.argsort() == teacher.argsort()).all()
