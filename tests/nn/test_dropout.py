import pytest
import torch

from upnext.nn.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_drops_at_its_rate_wherever_a_number_lies_in_its_draw(rate):
    torch.manual_seed(0)
    ones = torch.ones(200_000, 4)  # the four columns are the four parts of the draws
    kept = Dropout(rate)(ones) != 0
    # Five standard deviations of the share of 200,000 numbers.
    tolerance = 5 * (rate * (1 - rate) / 200_000) ** 0.5
    assert (kept.float().mean(0) - (1 - rate)).abs().max() < tolerance
    assert torch.corrcoef(kept.T.float()).fill_diagonal_(0).abs().max() < 5 / 200_000**0.5


def test_scales_what_is_left_so_that_the_expectation_stays():
    out = Dropout(0.2)(torch.full((64,), 3.0))
    # 0.2 is 13107/65536, rounded
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 3 * 65536 / (65536 - 13107)))


def test_the_gradient_passes_where_the_number_passed():
    x = torch.rand(3, 5, 7, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, out)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 0, 3)])
def test_any_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_the_seed_decides():
    x, dropout = torch.ones(3, 5, 8), Dropout(0.5)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


def test_evaluation_and_a_rate_of_zero_change_nothing():
    x = torch.randn(3, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_a_rate_close_to_one_stays_finite():
    assert bool(torch.isfinite(Dropout(0.9999999)(torch.ones(100_000))).all())
