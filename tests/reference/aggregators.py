"""A self-attention aggregator as plain loops over rows, heads and events; gradients come from autograd."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from upnext.nn.aggregators import SelfAttentionAggregator
from upnext.nn.layers import PostNormLayer, TransformerLayer


def slow_features(module: SelfAttentionAggregator, x: Tensor, lengths: list[int]) -> list[list[Tensor]]:
    """What the last layer makes of each real event of each row."""
    found = []
    for row, length in enumerate(lengths):
        events = [x[row, n] + module.positions.weight[length - 1 - n] for n in range(length)]
        for layer in module.layers:
            assert isinstance(layer, PostNormLayer | TransformerLayer)
            events = _layer(layer, events)
        found.append([module.norm(event) for event in events])
    return found


def _layer(layer: PostNormLayer | TransformerLayer, events: list[Tensor]) -> list[Tensor]:
    if isinstance(layer, PostNormLayer):
        attended = _attention(layer, events)
        events = [layer.attention_norm(e + a) for e, a in zip(events, attended, strict=True)]
        return [layer.feed_forward_norm(e + _feed_forward(layer, e)) for e in events]
    attended = _attention(layer, [layer.attention_norm(event) for event in events])
    events = [e + a for e, a in zip(events, attended, strict=True)]
    return [e + _feed_forward(layer, layer.feed_forward_norm(e)) for e in events]


def _feed_forward(layer: PostNormLayer | TransformerLayer, event: Tensor) -> Tensor:
    out: Tensor = layer.feed_forward.contract(F.gelu(layer.feed_forward.expand(event)))
    return out


def _attention(layer: PostNormLayer | TransformerLayer, events: list[Tensor]) -> list[Tensor]:
    module = layer.attention
    if not events:
        return []
    D = len(events[0])
    d = D // module.heads
    projected = [module.query_key_value(event) for event in events]
    out = []
    for one in projected:
        heads = []
        for head in range(module.heads):
            part = slice(head * d, (head + 1) * d)
            scores = [one[:D][part] @ other[D : 2 * D][part] / math.sqrt(d) for other in projected]
            weights = torch.stack(scores).softmax(0)
            heads.append(sum(w * other[2 * D :][part] for w, other in zip(weights, projected, strict=True)))
        out.append(module.output(torch.cat([torch.as_tensor(head) for head in heads])))
    return out
