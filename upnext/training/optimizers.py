"""Optimisers by name."""

import torch
from torch import nn

__all__ = ["adamw"]


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Fused AdamW; decay touches matrices only, never biases, norms, or embeddings of rare ids."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in model.parameters():
        is_matrix = parameter.dim() >= 2 and id(parameter) not in embeddings
        (matrices if is_matrix else rest).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)
