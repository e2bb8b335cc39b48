"""The head that predicts feedback on an item.

Shape letters: B anything before the last dimension, D width, K feedbacks.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from upnext.base.protocols import Link

__all__ = ["FeedbackHead", "start_at_means"]


class FeedbackHead(nn.Module):
    """Logits of K feedbacks from a state, a context and an item: a network on all three, and on state times item.

    The first layer is a sum of three maps, so that hundreds of candidates share those of state and context.
    """

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__()
        self.prior, self.context, self.item = (nn.Linear(width, 2 * width) for _ in range(3))
        self.left, self.right = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.output = nn.Linear(3 * width, num_components) if num_components else None

    def forward(
        self, prior: Float[Tensor, "*#B D"], context: Float[Tensor, "*#B D"], item: Float[Tensor, "*B D"]
    ) -> Float[Tensor, "*B K"]:
        """Predict; states and contexts broadcast over candidates. Without components the answer has no columns."""
        if self.output is None:
            return item[..., :0]
        item = item * item.shape[-1] ** 0.5
        hidden = F.gelu(self.prior(prior) + self.context(context) + self.item(item))
        out: Tensor = self.output(torch.cat([hidden, self.left(prior) * self.right(item)], dim=-1))
        return out

    def begin_with(self, means: Sequence[float], links: Sequence[Link]) -> None:
        """Let every feedback be foreseen as its mean before anything is learnt; NaN changes nothing."""
        if self.output is not None:
            start_at_means(self.output, means, links)


def start_at_means(output: nn.Linear, means: Sequence[float], links: Sequence[Link]) -> None:
    """Set the biases of a layer so that, before anything is learnt, each output is its mean; NaN changes nothing."""
    for number, (value, link) in enumerate(zip(means, links, strict=True)):
        if not math.isnan(value):
            mean = torch.tensor(value)
            bias = mean.clamp(min=1e-4).log() if link is Link.EXP else mean.clamp(1e-4, 1 - 1e-4).logit()
            output.bias.data[number] = bias
