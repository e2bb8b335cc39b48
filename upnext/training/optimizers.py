"""Optimisers by name.

Shape letters: V rows of a table, U rows that occur in a batch, D width.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LazyAdamW", "adamw", "clip_gradients"]


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Fused AdamW; decay touches matrices only, never biases, norms, or embeddings of rare ids."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    for parameter in model.parameters():
        is_matrix = parameter.dim() >= 2 and id(parameter) not in embeddings
        (matrices if is_matrix else rest).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return LazyAdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


class LazyAdamW(torch.optim.AdamW):
    """AdamW that updates only the rows that occur, where a gradient is sparse.

    A row that is absent from a batch keeps its weights and moments; dense Adam would decay the moments and move the
    row on by what is left of them. Bias correction counts all steps, as dense Adam's does. Time and memory of a step
    are O(U · D) instead of O(V · D); the moments, 2 · V · D numbers, are there in either case. The state has the form
    of AdamW's, so that checkpoints do not differ.

    Source:   torch.optim.SparseAdam does the same to sparse gradients, and refuses dense ones.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update rows where gradients are sparse, whole tensors elsewhere."""
        assert closure is None, "the loop computes the loss itself"
        sparse = [
            (parameter, parameter.grad.coalesce(), group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for parameter, _, _ in sparse:
            parameter.grad = None
        super().step()
        for parameter, gradient, group in sparse:
            assert group["weight_decay"] == 0, "rows that are absent would not decay"
            self._update_rows(parameter, gradient.indices()[0], gradient.values(), group)

    def _update_rows(self, parameter: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2) = state["step"].item(), group["betas"]
        mean = state["exp_avg"][rows].lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        state["exp_avg"][rows] = mean
        state["exp_avg_sq"][rows] = square
        scale = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
        parameter[rows] = parameter[rows].addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1**step))


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients, sparse ones included, so that their common norm is at most `largest`; returns the norm."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()  # sums what a row got from several places
            gradients.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    norm = nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm
