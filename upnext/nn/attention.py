"""Multi-head self-attention over right-padded rows, causal unless the layout says what is visible.

Shape letters: B rows, L tokens, P cached tokens, D width, H heads, q tokens of a block.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from upnext.base.batches import Layout

__all__ = ["CausalSelfAttention", "KeyValueCache"]


BLOCK = 1024
"""Tokens whose mask is made at once, where siblings are kept apart."""


@dataclass
class KeyValueCache:
    """Keys and values of the tokens seen so far; where rows differ in length, `Layout.visible` says what is real.

    A layer reads it, appends its new tokens, and so continues a history without encoding it again.
    """

    keys: Tensor | None = None
    values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, L, D/H) keys and values; returns all of them."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class CausalSelfAttention(nn.Module):
    """Each token attends to itself and to earlier ones, or to what `layout.visible` says.

    Causal attention over right-padded rows needs no padding mask: a real token never sees what follows it, and
    what padding computes is never read. Where siblings are kept apart there is a mask, a block of tokens at a time: all
    of it at once would be (B, L, L), and kept for the backward pass as float32 in every layer.

    Source:   Vaswani et al. 2017, eq. 1.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B L D"], layout: Layout, cache: KeyValueCache | None = None
    ) -> Float[Tensor, "B L D"]:
        """Attend; with a cache, `x` continues the tokens in it."""
        B, L, D = x.shape
        qkv = self.query_key_value(x)
        if x.device.type == "cpu":
            qkv = qkv.float()  # under autocast: attention in bfloat16 is slow on the CPU
        q, k, v = qkv.view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if layout.visible is None else layout.visible[:, None]
        if cache is not None:
            k, v = cache.extend(k, v)
            if mask is None:
                mask = torch.ones(L, k.shape[2], dtype=torch.bool, device=x.device).tril(k.shape[2] - L)
        with torch.autocast(x.device.type, enabled=False):
            if layout.siblings_apart:
                assert cache is None or k.shape[2] == L, "what continues a history says itself what it sees"
                attended = _siblings_apart(q, k, v, layout)
            else:
                attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        out: Tensor = self.output(attended.transpose(1, 2).reshape(B, L, D))
        return out

    def last(self, x: Float[Tensor, "B L D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """What `forward` gives each row's last token: one query a row."""
        B, L, D = x.shape
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        q = F.linear(x[torch.arange(B, device=x.device), lengths - 1], weight[:D], bias[:D])
        k, v = F.linear(x, weight[D:], bias[D:]).view(B, L, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        real = torch.arange(L, device=x.device) < lengths[:, None]
        q = q.view(B, self.heads, 1, D // self.heads)
        out: Tensor = self.output(F.scaled_dot_product_attention(q, k, v, real[:, None, None]).reshape(B, D))
        return out

    def of_one(self, x: Float[Tensor, "L D"], *, only_last: bool) -> Float[Tensor, "_ D"]:
        """What `forward` gives the tokens of a single row, or, without the sums for the others, its last one."""
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        (L, D), H = x.shape, self.heads
        if only_last:
            q = F.linear(x[-1:], weight[:D], bias[:D]).view(1, H, 1, D // H)
            k, v = F.linear(x, weight[D:], bias[D:]).view(1, L, 2, H, D // H).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = F.linear(x, weight, bias).view(1, L, 3, H, D // H).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=not only_last)
        return F.linear(attended.transpose(1, 2).reshape(-1, D), self.output.weight, self.output.bias)


def _siblings_apart(
    q: Float[Tensor, "B H L d"], k: Float[Tensor, "B H L d"], v: Float[Tensor, "B H L d"], layout: Layout
) -> Float[Tensor, "B H L d"]:
    """Each token sees tokens of earlier requests, and its own event's up to itself.

    Blocks of tokens one after the other, each with the keys up to its end. Where there are several, the backward pass
    computes each anew, so that no mask is kept.
    """
    L = q.shape[2]
    parts = []
    for start in range(0, L, BLOCK):
        stop = min(start + BLOCK, L)
        arguments = q[:, :, start:stop], k[:, :, :stop], v[:, :, :stop], layout.event, layout.request
        if L > BLOCK and torch.is_grad_enabled():
            parts.append(checkpoint(_block, *arguments, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(_block(*arguments))
    return torch.cat(parts, dim=2)


def _block(
    q: Float[Tensor, "B H q d"],
    k: Float[Tensor, "B H K d"],
    v: Float[Tensor, "B H K d"],
    event: Int[Tensor, "B L"],
    request: Int[Tensor, "B L"],
) -> Float[Tensor, "B H q d"]:
    """The last q of K tokens attend."""
    stop = k.shape[2]
    rows = slice(stop - q.shape[2], stop)
    order = torch.arange(stop, device=q.device)
    own = event[:, rows, None] == event[:, None, :stop]
    earlier = request[:, None, :stop] < request[:, rows, None]
    visible = (own | earlier) & (order[rows, None] >= order)
    return F.scaled_dot_product_attention(q, k, v, visible[:, None])
