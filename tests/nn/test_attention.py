import pytest
import torch

from upnext.base.batches import Layout
from upnext.nn import attention
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


def siblings(longest: int) -> Layout:
    """Three tokens per event after a start; requests of 1, 3, 2, 1 … events; the second row is shorter."""
    sizes = [1, 3, 2, 1, 4]
    request = [number for number, size in enumerate(sizes * longest) for _ in range(size)]
    event = [step for step in range(longest) for _ in range(3)]
    rows = [[-1, *(request[of] for of in event[: longest - 1])] for _ in range(2)]
    events = [[-1, *event[: longest - 1]] for _ in range(2)]
    rows[1][longest // 2 :] = [0] * (longest - longest // 2)  # padding
    lengths = torch.tensor([longest, longest // 2])
    return Layout(lengths, torch.zeros(2, longest), torch.tensor(events), torch.tensor(rows), siblings_apart=True)


def slow_siblings(module: CausalSelfAttention, x: torch.Tensor, of: Layout) -> torch.Tensor:
    """One token at a time, over a list of what it may see."""
    B, L, D = x.shape
    width = D // module.heads
    qkv = module.query_key_value(x).view(B, L, 3, module.heads, width)
    rows = []
    for b in range(B):
        for t in range(L):
            event, request = of.event[b].tolist(), of.request[b].tolist()
            seen = [s for s in range(t + 1) if event[s] == event[t] or request[s] < request[t]]
            q, k, v = qkv[b, t, 0], qkv[b, seen, 1], qkv[b, seen, 2]
            weights = torch.softmax(torch.einsum("hd,shd->hs", q, k) / width**0.5, 1)
            rows.append(torch.einsum("hs,shd->hd", weights, v).flatten())
    out: torch.Tensor = module.output(torch.stack(rows).view(B, L, D))
    return out


@pytest.mark.parametrize("block", [1, 4, 7, 100])
def test_siblings_apart_equal_the_slow_loop_with_gradients_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", block)
    torch.manual_seed(0)
    module, of = CausalSelfAttention(8, 2), siblings(19)
    x = torch.randn(2, 19, 8, requires_grad=True)
    weights = torch.randn(2, 19, 8) * of.mask[..., None]  # what padding computes is never read
    found = []
    for way in (lambda: module(x, of), lambda: slow_siblings(module, x, of)):
        out = way() * of.mask[..., None]
        gradients = torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])
        found.append([out, *gradients])
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


def test_siblings_apart_keep_no_mask_for_the_backward_pass(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 64)
    module, of = CausalSelfAttention(8, 2), siblings(1024)
    kept: dict[int, int] = {}  # by storage: many are views of one

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = module(torch.randn(2, 1024, 8), of)
    assert out.requires_grad
    assert sum(kept.values()) < 1024 * 1024  # the bytes of the mask of one row; kept as float32 they would be more


def test_a_cache_continues_a_history():
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 0.0)
    x = torch.randn(3, 7, 8)
    whole = layer(x, layout([7, 7, 7], 7))
    cache = KeyValueCache()
    parts = [layer(x[:, a:b], layout([b - a] * 3, b - a), cache) for a, b in ((0, 3), (3, 4), (4, 7))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


def test_the_last_token_alone_equals_the_last_of_all():
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 0.0)
    x, lengths = torch.randn(3, 7, 8), [7, 1, 4]
    whole = layer(x, layout(lengths, 7))[torch.arange(3), torch.tensor(lengths) - 1]
    torch.testing.assert_close(layer.last(x, torch.tensor(lengths)), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 5])
def test_a_row_alone_equals_a_row_of_a_batch(length):
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 0.0)
    x = torch.randn(length, 8)
    whole = layer(x[None], layout([length], length))[0]
    torch.testing.assert_close(layer.of_one(x, only_last=False), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.of_one(x, only_last=True), whole[-1:], atol=1e-5, rtol=1e-5)


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
