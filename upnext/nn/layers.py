"""Transformer layers, pre-norm and post-norm.

Shape letters: B rows, L tokens, D width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from upnext.base.batches import Layout
from upnext.nn.attention import CausalSelfAttention, KeyValueCache
from upnext.nn.dropout import Dropout
from upnext.nn.feed_forward import FeedForward

__all__ = ["PostNormLayer", "TransformerLayer"]


class TransformerLayer(nn.Module):
    """x + dropout(attention(norm(x))), then x + dropout(feed_forward(norm(x))).

    Dropout acts where a sublayer joins the residual stream and nowhere else: on attention weights it would force
    the slow attention kernel, and drawing masks for the wide hidden layer cost a fifth of a training step.

    Source:   Xiong et al. 2020, figure 1b.
    """

    def __init__(self, width: int, heads: int, dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B L D"], layout: Layout, cache: KeyValueCache | None = None
    ) -> Float[Tensor, "B L D"]:
        """Apply the layer; with a cache, `x` continues the tokens in it."""
        x = x + self.dropout(self.attention(self.attention_norm(x), layout, cache))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out

    def last(self, x: Float[Tensor, "B L D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """What `forward` makes of each row's last token, without what it makes of the others."""
        rows = torch.arange(len(x), device=x.device)
        own = x[rows, lengths - 1] + self.dropout(self.attention.last(self.attention_norm(x), lengths))
        out: Tensor = own + self.dropout(self.feed_forward(self.feed_forward_norm(own)))
        return out

    def of_one(self, x: Float[Tensor, "L D"], *, only_last: bool) -> Float[Tensor, "_ D"]:
        """What `forward` makes of a single row without dropout: of each token, or of the last one alone.

        The same sums without the calls of modules: in a page's one row they cost as much as the sums.
        """
        attended = self.attention.of_one(_normed(x, self.attention_norm), only_last=only_last)
        x = (x[-1:] if only_last else x) + attended
        expand, contract = self.feed_forward.expand, self.feed_forward.contract
        hidden = F.gelu(F.linear(_normed(x, self.feed_forward_norm), expand.weight, expand.bias))
        return x + F.linear(hidden, contract.weight, contract.bias)


def _normed(x: Float[Tensor, "L D"], norm: nn.LayerNorm) -> Float[Tensor, "L D"]:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class PostNormLayer(nn.Module):
    """norm(x + dropout(attention(x))), then norm(x + dropout(feed_forward(x))): add and norm, as first published.

    Source:   Vaswani et al. 2017, figure 1.
    """

    def __init__(self, width: int, heads: int, dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.attention = CausalSelfAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "B L D"], layout: Layout) -> Float[Tensor, "B L D"]:
        """Apply the layer."""
        x = self.attention_norm(x + self.dropout(self.attention(x, layout)))
        out: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return out
