"""The softmax over a catalogue from a sample of it, with and without correction for how the sample was drawn.

Shape letters: N positions, n draws, M distinct items among them, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from upnext.losses.softmax import BLOCK

__all__ = ["Correction", "Drawn", "sampled_softmax_loss"]

Correction = Literal["none", "standard", "corrected"]


@dataclass(frozen=True)
class Drawn:
    """The negatives of a batch: n draws from Q, with replacement, repeats merged.

    Args:     vectors: (M, D) of the distinct items; count: (M,) how often each was drawn; log_q: (M,) log Q of each.
              target_log_q: (N,) log Q of each position's target.
              hit: (N,) int64, which of the M items is the position's own target; -1 where it was not drawn.
    """

    vectors: Tensor
    count: Tensor
    log_q: Tensor
    target_log_q: Tensor
    hit: Tensor


def sampled_softmax_loss(
    queries: Float[Tensor, "N D"],
    positives: Float[Tensor, "N D"],
    drawn: Drawn,
    correction: Correction = "corrected",
    mask_hits: bool = True,
) -> Float[Tensor, ""]:
    """Sum over positions of a sampled softmax loss, with logits s_+ = <q, positive> and s_j = <q, vector of j>.

    With sums over draws j, repeats included:

        none       -s_+ + log(e^{s_+} + sum_j e^{s_j})
        standard   the same with s_j - log(n Q(j)) for s_j and s_+ - log(n Q(+)) for s_+
        corrected  sg(1 - p) · [-s_+ + log sum_j e^{s_j}/Q'(j)], with Q'(j) = Q(j)/(1 - Q(+)),
                   p = e^{s_+} / (e^{s_+} + (1/m) sum_j e^{s_j}/Q'(j)), m the draws that are no hits, sg stop-gradient

    Hits, the draws of a position's own target, are left out; `none` and `standard` can keep them. The gradient of
    `corrected` tends to that of the full softmax as n grows. So does that of `standard` if hits are kept; if they are
    masked it tends to that gradient divided by 1 - p: positions that are already right are pushed on for ever. `none`
    learns log P - log Q instead of log P, which pushes popular items down. The value of `corrected` means nothing by
    itself and may be negative.

    Memory is O(256 M + (N + M) D): gradients are computed with the loss, block by block. Under autocast the products
    with the negatives are in its type.

    Args:     positives: the vectors of the targets.
    Returns:  0-d; a position without negatives left adds 0, and so do no positions.
    Source:   corrected: Khrylchenko et al. 2025 (2507.09331); standard: Bengio and Senécal 2008, Yi et al. 2019.
    """
    assert mask_hits or correction != "corrected", "the corrected form is one of masked hits"
    num_drawn = drawn.count.sum()
    log_drawn = num_drawn.clamp(min=1).to(queries.dtype).log()
    log_weight = drawn.count.to(queries.dtype).log()
    shift = torch.zeros_like(drawn.target_log_q)
    if correction == "standard":
        log_weight = log_weight - log_drawn - drawn.log_q
        shift = -log_drawn - drawn.target_log_q
    elif correction == "corrected":
        log_weight = log_weight - drawn.log_q
        # sum_j e^{s_j}/Q'(j) = (1 - Q(+)) sum_j e^{s_j}/Q(j)
        rest = -torch.expm1(drawn.target_log_q)
        shift = rest.clamp(min=torch.finfo(rest.dtype).tiny).log()
    hit = drawn.hit if mask_hits else torch.full_like(drawn.hit, -1)
    own = torch.where(hit >= 0, drawn.count[hit], 0) if len(drawn.count) else torch.zeros_like(hit)
    kept = (num_drawn - own).to(queries.dtype)
    arguments = (queries, positives, drawn.vectors, log_weight, shift, hit, kept, correction == "corrected")
    loss: Tensor = _SampledSoftmaxLoss.apply(*arguments)  # type: ignore[no-untyped-call]
    return loss


class _SampledSoftmaxLoss(torch.autograd.Function):
    """Walks over blocks of positions and computes the loss and all gradients in that one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor,
        log_weight: Tensor,
        shift: Tensor,
        hit: Tensor,
        kept: Tensor,
        is_corrected: bool,
    ) -> Tensor:
        device = queries.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else queries.dtype
        form = _corrected if is_corrected else _cross_entropy
        with torch.autocast(device, enabled=False):
            loss, *gradients = _walk(queries, positives, negatives, log_weight, shift, hit, kept, form, dtype)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (d_loss,) = grad_outputs
        return *(gradient * d_loss for gradient in ctx.saved_tensors), None, None, None, None, None


def _walk(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_weight: Tensor,
    shift: Tensor,
    hit: Tensor,
    kept: Tensor,
    form: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss and its gradients, with the large products in `dtype`; all else keeps the precision of `queries`."""
    needs_gradient = queries.requires_grad or positives.requires_grad or negatives.requires_grad
    loss = queries.new_zeros(())
    d_queries, d_positives, d_negatives = (torch.zeros_like(one) for one in (queries, positives, negatives))
    e = negatives.detach().to(dtype)
    room = e.new_empty(min(BLOCK, len(queries)), len(negatives))
    for start in range(0, len(queries) if len(negatives) else 0, BLOCK):
        rows = slice(start, start + BLOCK)
        q, positive, own, left = queries[rows].detach(), positives[rows].detach(), hit[rows], kept[rows]
        logits = torch.mm(q.to(dtype), e.T, out=room[: len(q)]).to(q.dtype).add_(log_weight)
        is_hit = (own >= 0).nonzero().squeeze(1)
        logits[is_hit, own[is_hit]] = -torch.inf
        logits[(left == 0).nonzero().squeeze(1)] = 0.0  # nothing is left of them; `form` gives them no weight
        highest = logits.amax(1)
        shares = torch.softmax(logits, 1, out=logits)
        # the highest logit has the largest share, which is never 0
        log_sum = highest - shares.amax(1).log()
        losses, miss = form((q * positive).sum(1), log_sum, shift[rows], left)
        loss += losses.sum()
        if needs_gradient:
            # d loss / d s_+ = -miss; the negatives have +miss between them, by their shares of the sum
            d_logits = shares.mul_(miss[:, None]).to(dtype)
            torch.mul(q, -miss[:, None], out=d_positives[rows])
            d_queries[rows] = (d_logits @ e).to(q.dtype).addcmul_(positive, miss[:, None], value=-1)
            d_negatives += d_logits.T @ q.to(dtype)
    return loss, d_queries, d_positives, d_negatives


def _cross_entropy(target_logit: Tensor, log_sum: Tensor, shift: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, and 1 - p of the target."""
    shifted = target_logit + shift
    log_normaliser = torch.logaddexp(shifted, log_sum.masked_fill(kept == 0, -torch.inf))
    return log_normaliser - shifted, -torch.expm1(shifted - log_normaliser)


def _corrected(target_logit: Tensor, log_sum: Tensor, shift: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The same, with the 1 - p that is estimated from what was drawn."""
    margin = log_sum + shift - target_logit
    miss = torch.sigmoid(margin - kept.clamp(min=1).log()).masked_fill(kept == 0, 0.0)
    return miss * margin, miss
