"""Two planted cases of rank distillation, learnt to the end: the source's pair, and a paradox of marginal rates."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from upnext.losses.distillation import difference_loss, label_loss, score_loss
from upnext.losses.listwise import list_probability_loss, listwise_softmax_loss
from upnext.losses.pairwise import label_pair_loss, pair_probability_loss

Mean = Callable[[Tensor], Tensor]


def learnt(scores_of: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """The scores of a student with so many parameters at the least loss, from zeros."""
    parameters = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [parameters], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(scores_of(parameters))
        value.backward()
        return value

    optimiser.step(closure)
    return scores_of(parameters).detach()


def mean(part: tuple[Tensor, Tensor]) -> Tensor:
    return part[0] / part[1]


# The first set is the source's: the teacher says .669 and .667. The student sees one feature, 1 for the first candidate
# and 0 for the second; in the other sets it is the same for both, and 1 where the teacher's scores are low.
TEACHER = torch.tensor([[0.669, 0.667], [0.666, 0.666], [0.6685, 0.6685]], dtype=torch.float64).logit()
FEATURE = torch.tensor([[1.0, 0], [1, 1], [0, 0]], dtype=torch.float64)
ALL = torch.ones(3, 2).bool()


def one_feature(parameters: Tensor) -> Tensor:
    return parameters[0] * FEATURE + parameters[1]


def test_the_sources_pair_is_ordered_wrongly_by_scores_and_rightly_by_differences():
    """Scores end at averages of what looks alike: (.669 + .666 + .666) / 3 = .667, (.667 + 2 · .6685) / 3 = .668."""
    by_scores = learnt(one_feature, lambda s: mean(score_loss(s, TEACHER, ALL)), 2).sigmoid()
    assert by_scores[0].tolist() == pytest.approx([0.667, 0.668], abs=1e-5)
    labels = TEACHER.sigmoid()  # what labels are on average

    def with_ranks(scores: Tensor) -> Tensor:
        return mean(label_loss(scores, labels, ALL)) + 1e4 * mean(difference_loss(scores, TEACHER, ALL))

    by_ranks = learnt(one_feature, with_ranks, 2).sigmoid()
    assert by_ranks[0, 0] > by_ranks[0, 1]
    assert (by_ranks[0, 0] - by_ranks[0, 1]).item() == pytest.approx(0.002, abs=1e-4)
    # Calibration: the mean prediction is the mean label, the log-loss the same to six digits.
    for probabilities in (by_scores, by_ranks):
        assert probabilities.mean().item() == pytest.approx(labels.mean().item(), abs=1e-6)
    cost = [mean(label_loss(p.logit(), labels, ALL)).item() for p in (by_scores, by_ranks)]
    assert cost[1] == pytest.approx(cost[0], rel=1e-5)


def test_the_sources_pair_costs_more_scores_in_order_than_out_of_it():
    """Squared scores prefer .667, .668 to .673, .671, which has the teacher's difference; differences do not."""
    wrong, right = torch.tensor([[[0.667, 0.668]], [[0.673, 0.671]]], dtype=torch.float64).logit()
    first = TEACHER[:1], ALL[:1]
    assert score_loss(wrong, *first)[0] < score_loss(right, *first)[0]
    assert difference_loss(wrong, *first)[0] > 100 * difference_loss(right, *first)[0]


# A is shown alone 80 times and chosen 72 times, B alone 80 times and chosen 16 times. Ten times they are shown
# together, and B is chosen each time but one (without that one, the log odds of the pair would be infinite).
# Columns: A, B.
SHOWN = torch.tensor([[1, 0]] * 80 + [[0, 1]] * 80 + [[1, 1]] * 10).bool()
CHOSEN = torch.tensor(
    [[1, 0]] * 72 + [[0, 0]] * 8 + [[0, 1]] * 16 + [[0, 0]] * 64 + [[0, 1]] * 9 + [[1, 0]], dtype=torch.float64
)
# A teacher that knows whether a candidate is alone has these rates.
RATES = torch.tensor([[0.9, 0.5]] * 80 + [[0.5, 0.2]] * 80 + [[0.1, 0.9]] * 10, dtype=torch.float64).logit()


def of_item(parameters: Tensor) -> Tensor:
    """A student that knows items alone."""
    return parameters.expand(len(SHOWN), 2)


def test_marginal_rates_order_a_before_b():
    """A: 73 of 90, B: 25 of 90."""
    for loss in (
        lambda s: mean(label_loss(s, CHOSEN, SHOWN)),
        lambda s: mean(score_loss(s, RATES, SHOWN, form="cross_entropy")),
    ):
        scores = learnt(of_item, loss, 2)[0]
        assert scores.sigmoid().tolist() == pytest.approx([73 / 90, 25 / 90], abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s: mean(label_pair_loss(s, CHOSEN, SHOWN)),
        lambda s: mean(listwise_softmax_loss(s, CHOSEN, SHOWN)),
    ],
    ids=["pairs", "lists"],
)
def test_what_is_shown_together_orders_b_before_a_by_labels(loss: Mean):
    """Nine in ten: the log odds of B against A are log 9."""
    a, b = learnt(of_item, loss, 2)[0].tolist()
    assert b - a == pytest.approx(torch.tensor(9.0).log().item(), abs=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s: mean(difference_loss(s, RATES, SHOWN)),
        lambda s: mean(pair_probability_loss(s, RATES, SHOWN)),
        lambda s: mean(list_probability_loss(s, RATES, SHOWN)),
    ],
    ids=["differences", "pairs", "lists"],
)
def test_what_is_shown_together_orders_b_before_a_by_the_teacher(loss: Mean):
    """Scores of log 9 and -log 9 are 2 log 9 apart."""
    a, b = learnt(of_item, loss, 2)[0].tolist()
    assert b - a == pytest.approx(2 * torch.tensor(9.0).log().item(), abs=1e-5)


def test_with_the_label_loss_beside_it_the_order_is_right_and_the_level_calibrated():
    """A pair's level stays free, so the mean prediction is still the rate of all that was shown, 98 of 180."""

    def both(scores: Tensor) -> Tensor:
        return mean(label_loss(scores, CHOSEN, SHOWN)) + mean(difference_loss(scores, RATES, SHOWN))

    scores = learnt(of_item, both, 2)
    assert scores[0, 1] > scores[0, 0]
    assert scores.sigmoid()[SHOWN].mean().item() == pytest.approx(98 / 180, abs=1e-6)
