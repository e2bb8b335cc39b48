import pytest
import torch

from upnext.base.batches import Layout
from upnext.nn.attention import CausalSelfAttention, KeyValueCache
from upnext.nn.layers import TransformerLayer


def layout(lengths: list[int], longest: int) -> Layout:
    event = torch.arange(longest).expand(len(lengths), -1)
    return Layout(torch.tensor(lengths), event.clone(), event, event.clone())


def slow_attention(module: CausalSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """One head at a time, one token at a time."""
    B, L, D = x.shape
    width = D // module.heads
    qkv = module.query_key_value(x)
    out = torch.zeros(B, L, D)
    for b in range(B):
        for head in range(module.heads):
            part = slice(head * width, (head + 1) * width)
            q, k, v = (qkv[b, :, offset : offset + D][:, part] for offset in (0, D, 2 * D))
            for t in range(L):
                weights = torch.softmax(k[: t + 1] @ q[t] / width**0.5, 0)
                out[b, t, part] = weights @ v[: t + 1]
    projected: torch.Tensor = module.output(out)
    return projected


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_equals_the_slow_loop(heads):
    torch.manual_seed(0)
    module = CausalSelfAttention(8, heads)
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(module(x, layout([5, 5, 5], 5)), slow_attention(module, x), atol=1e-5, rtol=1e-5)


def test_a_cache_continues_a_history():
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 0.0)
    x = torch.randn(3, 7, 8)
    whole = layer(x, layout([7, 7, 7], 7))
    cache = KeyValueCache()
    parts = [layer(x[:, a:b], layout([b - a] * 3, b - a), cache) for a, b in ((0, 3), (3, 4), (4, 7))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 0.5)
    x = torch.randn(3, 5, 8)
    assert not torch.equal(layer(x, layout([5] * 3, 5)), layer(x, layout([5] * 3, 5)))
    layer.eval()
    assert torch.equal(layer(x, layout([5] * 3, 5)), layer(x, layout([5] * 3, 5)))


def test_under_autocast_the_layer_stays_close_and_its_residual_stream_float32():
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 0.0)
    x = torch.randn(3, 5, 8)
    exact = layer(x, layout([5] * 3, 5))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x, layout([5] * 3, 5))
    assert rounded.dtype == torch.float32
    assert 1e-6 < ((rounded - exact).norm() / exact.norm()).item() < 1e-2  # bfloat16 has 8 bits


def test_attention_itself_is_float32_under_autocast_on_the_cpu(monkeypatch):
    seen: list[torch.dtype] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(q, k, v, *rest, **named):
        out = attend(q, k, v, *rest, **named)
        seen.extend(tensor.dtype for tensor in (q, k, v, out))
        return out

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    with torch.autocast("cpu", torch.bfloat16):
        CausalSelfAttention(8, 2)(torch.randn(3, 5, 8), layout([5] * 3, 5))
    assert seen == [torch.float32] * 4
