"""Samplers: what they draw, how often, and that they say so."""

import numpy as np
import pytest
import torch

from upnext.base.errors import BadBatch
from upnext.sampling.negatives import InBatch, Mixed, Negatives, Popularity, Sampler, Uniform

COUNTS = torch.tensor([50, 1, 10, 25, 4, 10])
V = len(COUNTS)
F = COUNTS.double() / COUNTS.sum()
TARGETS = torch.tensor([0, 3, 3, 0, 2, 0])


def chi_square(ids: torch.Tensor, expected: torch.Tensor) -> float:
    observed = torch.bincount(ids, minlength=V).double()
    wanted = expected * len(ids)
    return float(((observed - wanted) ** 2 / wanted).sum())


LIMIT = 20.5  # chi-square with 5 degrees of freedom: above it once in a thousand


@pytest.mark.parametrize(
    ("sampler", "q"),
    [
        (Uniform(V, 20_000), torch.full((V,), 1 / V, dtype=torch.float64)),
        (Popularity(COUNTS, 20_000), F),
        (Mixed(COUNTS, 0, 20_000), torch.full((V,), 1 / V, dtype=torch.float64)),
    ],
)
def test_draws_follow_the_distribution_that_is_stated(sampler: Sampler, q: torch.Tensor):
    torch.manual_seed(0)
    drawn = sampler(TARGETS)
    assert drawn.ids.dtype == torch.int64
    assert len(drawn.ids) == sampler.num_negatives(len(TARGETS)) == 20_000
    assert chi_square(drawn.ids, q) < LIMIT
    torch.testing.assert_close(drawn.log_q, q.log().float()[drawn.ids])
    torch.testing.assert_close(drawn.target_log_q, q.log().float()[TARGETS])


def test_a_batch_that_is_a_sample_of_training_mixes_as_stated():
    torch.manual_seed(1)
    targets = torch.multinomial(F, 20_000, replacement=True)
    drawn = Mixed(COUNTS, 6_000, 2_000)(targets)
    q = 0.75 * F + 0.25 / V
    assert len(drawn.ids) == 8_000
    # The parts have fixed sizes, which only lessens the spread.
    assert chi_square(drawn.ids, q) < LIMIT
    torch.testing.assert_close(drawn.log_q, q.log().float()[drawn.ids])
    torch.testing.assert_close(drawn.target_log_q, q.log().float()[targets])
    assert q.sum().item() == pytest.approx(1)


def test_in_batch_takes_all_targets_or_as_many_as_asked_without_repeating_a_position():
    torch.manual_seed(2)
    everything = InBatch(COUNTS)(TARGETS)
    assert everything.ids.tolist() == TARGETS.tolist()
    torch.testing.assert_close(everything.log_q, F.log().float()[TARGETS])
    positions = torch.tensor([4, 1, 2, 3, 5])  # all different, so that a repeat would show
    seen = set()
    for _ in range(200):
        ids = InBatch(COUNTS, 2)(positions).ids.tolist()
        assert len(set(ids)) == 2
        seen |= set(ids)
    assert seen == {1, 2, 3, 4, 5}
    assert InBatch(COUNTS, 100).num_negatives(6) == 6 == len(InBatch(COUNTS, 100)(TARGETS).ids)


def test_a_small_batch_changes_the_share_and_q_with_it():
    drawn = Mixed(COUNTS, 100, 18)(TARGETS)  # six targets only: a = 6/24
    assert len(drawn.ids) == 24
    torch.testing.assert_close(drawn.log_q, (0.25 * F + 0.75 / V).log().float()[drawn.ids])


def test_a_batch_without_targets():
    nothing = torch.empty(0, dtype=torch.int64)
    assert len(InBatch(COUNTS)(nothing).ids) == 0
    assert len(Mixed(COUNTS, None, 4)(nothing).ids) == 4
    assert len(Uniform(V, 4)(nothing).target_log_q) == 0
    assert len(InBatch(COUNTS)(nothing).distinct(TARGETS).ids) == 0


def test_rare_items_are_drawn_exactly_where_float32_could_not_tell_them_apart():
    counts = torch.tensor([2**40, 1, 2**40])
    sampler = Popularity(counts, 3)
    assert sampler._cumulative.tolist() == [2**40, 2**40 + 1, 2**41 + 1]
    at = torch.searchsorted(sampler._cumulative, torch.tensor([2**40 - 1, 2**40, 2**40 + 1]), right=True)
    assert at.tolist() == [0, 1, 2]


def test_merged_draws_hold_the_same_draws():
    ids = torch.tensor([4, 1, 4, 4, 0])
    log_q = F.log()[ids]
    merged = Negatives(ids, log_q, F.log()[TARGETS]).distinct(TARGETS)
    assert merged.ids.tolist() == [0, 1, 4]
    assert merged.count.tolist() == [1, 1, 3]
    torch.testing.assert_close(merged.log_q, F.log()[torch.tensor([0, 1, 4])])
    assert merged.hit.tolist() == [0, -1, -1, 0, -1, 0]


def test_the_same_generator_state_draws_the_same():
    samplers: list[Sampler] = [Uniform(V, 9), Popularity(COUNTS, 9), Mixed(COUNTS, 3, 9), InBatch(COUNTS, 3)]
    for sampler in samplers:
        torch.manual_seed(5)
        first = sampler(TARGETS).ids
        state = torch.get_rng_state()
        second = sampler(TARGETS).ids
        torch.set_rng_state(state)
        assert torch.equal(sampler(TARGETS).ids, second)
        torch.manual_seed(5)
        assert torch.equal(sampler(TARGETS).ids, first)


@pytest.mark.parametrize("counts", [[3, 0, 2], []])
def test_an_item_without_events_is_refused(counts):
    for make in (lambda c: Popularity(c, 2), lambda c: Mixed(c, 1, 1), InBatch):
        with pytest.raises(BadBatch, match="leave it out"):
            make(torch.tensor(counts, dtype=torch.int64))


def test_frequencies_sum_to_one_over_a_million_items():
    counts = torch.from_numpy(np.random.default_rng(0).zipf(1.3, 1_000_000).clip(max=10**6))
    assert Popularity(counts, 1).frequency.double().sum().item() == pytest.approx(1, abs=1e-6)
