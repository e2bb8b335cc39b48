"""Causal multi-head self-attention over right-padded rows.

Shape letters: B rows, L tokens, P cached tokens, D width, H heads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from upnext.base.batches import Layout

__all__ = ["CausalSelfAttention", "KeyValueCache"]


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
    """Each token attends to itself and to earlier ones.

    Causal attention over right-padded rows needs no padding mask: a real token never sees what follows it, and
    what padding computes is never read.

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
            attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        out: Tensor = self.output(attended.transpose(1, 2).reshape(B, L, D))
        return out
