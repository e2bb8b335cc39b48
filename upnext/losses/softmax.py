"""Cross-entropy over the catalogue that never holds positions x catalogue logits.

Shape letters: N positions, V catalogue, D width.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["BLOCK", "full_softmax_loss"]

BLOCK = 256
"""Positions per step: small enough for a block of logits to stay in cache, large enough for a good matmul."""


class _FullSoftmaxLoss(torch.autograd.Function):
    """Walks over blocks of positions and computes the loss and both gradients in that one pass."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        device = queries.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else queries.dtype
        with torch.autocast(device, enabled=False):
            loss, d_queries, d_items = _walk(queries, items, targets, dtype)
        ctx.save_for_backward(d_queries, d_items)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        (d_loss,) = grad_outputs
        d_queries, d_items = ctx.saved_tensors
        return d_queries * d_loss, d_items * d_loss, None


def _walk(queries: Tensor, items: Tensor, targets: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients, with products in `dtype`; exponentials and sums keep the precision of `queries`."""
    needs_gradient = queries.requires_grad or items.requires_grad
    loss = queries.new_zeros(())
    d_queries, d_items = torch.empty_like(queries), torch.zeros_like(items)
    e = items.detach().to(dtype)
    room = e.new_empty(min(BLOCK, len(queries)), len(items))
    for start in range(0, len(queries), BLOCK):
        q, target = queries[start : start + BLOCK].detach().to(dtype), targets[start : start + BLOCK, None]
        logits = torch.mm(q, e.T, out=room[: len(q)]).to(queries.dtype)
        correct, highest = logits.gather(1, target), logits.amax(1, keepdim=True)
        probabilities = torch.softmax(logits, 1, out=logits)
        # log of the normaliser: the highest logit has the highest probability, which is never 0
        log_normaliser = highest - probabilities.amax(1, keepdim=True).log()
        loss += (log_normaliser - correct).sum()
        if needs_gradient:
            # d loss / d logits = softmax - onehot(target)
            d_logits = probabilities.scatter_add_(1, target, correct.new_full(target.shape, -1.0)).to(dtype)
            d_queries[start : start + BLOCK] = d_logits @ e
            d_items += d_logits.T @ q
    return loss, d_queries, d_items


def full_softmax_loss(
    queries: Float[Tensor, "N D"], items: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Sum over positions of the cross-entropy of softmax(queries @ items.T) against the targets.

    Memory is O(256 V + (N + V) D), whatever N is: gradients are computed with the loss, block by block. Under
    autocast the products are in its type.

    Args:     targets: rows of `items`, each in [0, V).
    Returns:  0-d; 0 for no positions.
    Source:   -sum_n log softmax(q_n · E)_{t_n}.
    """
    loss: Tensor = _FullSoftmaxLoss.apply(queries, items, targets)  # type: ignore[no-untyped-call]
    return loss
