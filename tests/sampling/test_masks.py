import pytest
import torch

from upnext.sampling.masks import one_position, some_positions

ALLOWED = torch.arange(6) < torch.tensor([6, 0, 1, 4])[:, None]


def test_each_position_is_masked_with_the_rate_and_nothing_else_ever():
    torch.manual_seed(0)
    allowed = ALLOWED.repeat(5000, 1)
    chosen = some_positions(allowed, 0.05)
    assert not (chosen & ~allowed).any()
    assert chosen[allowed].float().mean().item() == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 55_000) ** 0.5)
    by_place = chosen[::4].float().mean(0)
    assert (by_place - 0.05).abs().max().item() < 4 * (0.05 * 0.95 / 5000) ** 0.5


def test_exactly_one_position_of_each_row_that_has_any_all_as_likely():
    torch.manual_seed(0)
    chosen = one_position(ALLOWED.repeat(4000, 1))
    assert not (chosen & ~ALLOWED.repeat(4000, 1)).any()
    assert chosen.sum(1).view(-1, 4).unique(dim=0).tolist() == [[1, 0, 1, 1]]
    share = chosen[::4].float().mean(0)
    assert (share - 1 / 6).abs().max().item() < 4 * (1 / 6 * 5 / 6 / 4000) ** 0.5
    assert one_position(ALLOWED[:, :0]).shape == (4, 0)


def test_a_generator_of_ones_own_leaves_the_default_one_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = [some_positions(ALLOWED, 0.5, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*first)
    assert torch.equal(torch.rand(2), expected)
