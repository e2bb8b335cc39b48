import pytest
import torch

from tests.reference.aggregators import slow_features
from upnext.base.configuration import parse_config
from upnext.nn.aggregators import SelfAttentionAggregator, SelfAttentionConfig, SumPooling, sum_of_events

B, L, D = 4, 5, 8
LENGTHS = [3, 0, 5, 1]


def module(norm: str = "post", **changes: object) -> SelfAttentionAggregator:
    torch.manual_seed(0)
    config = parse_config(SelfAttentionConfig, {"length": 7, "norm": norm, **changes}, "test")
    made = SelfAttentionAggregator(config, D)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_it_is_the_loop_with_gradients(norm):
    aggregator, lengths = module(norm), torch.tensor(LENGTHS)
    x = torch.randn(B, L, D, requires_grad=True)
    weights = torch.randn(B, D)
    results: list[tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]] = []
    fast = sum_of_events(aggregator(x, lengths), lengths)
    slow = torch.stack([sum(row, torch.zeros(D)) for row in slow_features(aggregator, x, LENGTHS)])
    for found in (fast, slow):
        aggregator.zero_grad()
        x.grad = None
        (found * weights).sum().backward()
        gradients = {name: p.grad.clone() for name, p in aggregator.named_parameters() if p.grad is not None}
        assert x.grad is not None
        results.append((found.detach(), x.grad, gradients))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-5, rtol=1e-4)
    assert results[0][2].keys() == results[1][2].keys() == dict(aggregator.named_parameters()).keys()
    for name, gradient in results[0][2].items():
        torch.testing.assert_close(gradient, results[1][2][name], atol=5e-5, rtol=1e-4, msg=name)


def test_padding_changes_nothing_and_every_event_sees_every_other():
    aggregator, lengths = module(), torch.tensor(LENGTHS)
    x = torch.randn(B, L, D)
    features = aggregator(x, lengths)
    noisy = x.clone()
    for row, length in enumerate(LENGTHS):
        noisy[row, length:] = 100.0
    again = aggregator(noisy, lengths)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(features[row, :length], again[row, :length], atol=1e-5, rtol=1e-5)
    assert torch.isfinite(features).all()
    changed = x.clone()
    changed[2, 4] += 1.0
    assert ((aggregator(changed, lengths) - features)[2].abs().amax(1) > 1e-4).all()  # the first one too


def test_the_latest_event_has_one_position_whatever_the_length():
    aggregator = module(layers=1)
    event = torch.randn(D)
    short = aggregator(event.expand(1, 1, D), torch.tensor([1]))
    torch.manual_seed(1)
    aggregator.positions.weight.data[1:] = torch.randn(6, D)
    torch.testing.assert_close(aggregator(event.expand(1, 1, D), torch.tensor([1])), short)


def test_sums_count_real_events_only():
    x, lengths = torch.randn(B, L, D), torch.tensor(LENGTHS)
    pooled = sum_of_events(SumPooling()(x, lengths), lengths)
    expected = torch.stack([x[row, :length].sum(0) for row, length in enumerate(LENGTHS)])
    torch.testing.assert_close(pooled, expected)
    assert sum_of_events(x[:, :0], torch.zeros(B, dtype=torch.int64)).shape == (B, D)
