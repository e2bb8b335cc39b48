"""Aggregators: one behaviour sequence becomes one vector.

Shape letters: B rows, L events of the sequence, D width.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from upnext.base.batches import Layout
from upnext.base.configuration import Config
from upnext.base.views import ALL
from upnext.nn.dropout import Dropout
from upnext.nn.layers import PostNormLayer, TransformerLayer

__all__ = [
    "AggregatorConfig",
    "SelfAttentionAggregator",
    "SelfAttentionConfig",
    "SumPooling",
    "SumPoolingConfig",
    "sum_of_events",
]


class SumPoolingConfig(Config):
    """The sum of the events' embeddings."""

    kind: Literal["sum_pooling"] = "sum_pooling"
    view: str = ALL
    """The events that it reads."""
    length: Annotated[int, Field(ge=1, le=100_000)] = 50
    """The last so many of them."""


class SelfAttentionConfig(Config):
    """Layers of bidirectional self-attention, then the sum of what comes of each event."""

    kind: Literal["self_attention"] = "self_attention"
    view: str = ALL
    """The events that it reads."""
    length: Annotated[int, Field(ge=1, le=100_000)] = 50
    """The last so many of them."""
    layers: Annotated[int, Field(ge=1, le=1000)] = 2
    """How many layers."""
    heads: Annotated[int, Field(ge=1)] = 2
    """Attention heads; they divide the width."""
    norm: Literal["post", "pre"] = "post"
    """Normalise after each sum, as the source draws it, or before each sublayer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of activations dropped in training, where sublayers join the residual stream."""


AggregatorConfig = Annotated[SelfAttentionConfig | SumPoolingConfig, Field(discriminator="kind")]


class SumPooling(nn.Module):
    """Leaves the events' vectors as they come: their sum is the aggregate.

    Source:   US 12,389,079 B2, the primitive aggregator.
    """

    def forward(self, x: Float[Tensor, "B L D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B L D"]:
        """What is summed."""
        return x


class SelfAttentionAggregator(nn.Module):
    """X layers in which each event sees every event of its row; the sum of what comes of them is the aggregate.

    Positions count from the last event backwards, so that the latest has the same one in every row.

    Source:   US 12,389,079 B2, figure 4.
    """

    def __init__(self, config: SelfAttentionConfig, width: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.length, width)
        arguments = width, config.heads, config.dropout
        is_post = config.norm == "post"
        self.layers = nn.ModuleList(
            PostNormLayer(*arguments) if is_post else TransformerLayer(*arguments) for _ in range(config.layers)
        )
        self.norm = nn.Identity() if is_post else nn.LayerNorm(width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B L D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B L D"]:
        """What the last layer makes of each event; padding holds anything finite."""
        B, L, _ = x.shape
        if not L:
            return x
        event = torch.arange(L, device=x.device)
        from_end = (lengths[:, None] - 1 - event).clamp(min=0)
        x = self.dropout(x + self.positions(from_end))
        # Where there is no event at all, padding sees itself: a softmax over nothing is no number.
        visible = (event < lengths.clamp(min=1)[:, None])[:, None]
        nothing = event.expand(B, -1)
        layout = Layout(lengths, nothing, nothing, nothing, visible)
        for layer in self.layers:
            x = layer(x, layout)
        out: Tensor = self.norm(x)
        return out


def sum_of_events(x: Float[Tensor, "B L D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
    """Sum over a row's real events; zeros where there is none."""
    is_real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return (x * is_real[..., None]).sum(1)
