"""The learning rate over the steps of a run."""

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, final: float = 0.1) -> float:
    """Factor on the peak learning rate: linear warm-up, then a cosine down to `final`.

    Args:     step: 0 for the first step; beyond `total_steps` the factor stays at `final`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
