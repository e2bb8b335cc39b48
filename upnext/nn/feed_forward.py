"""The position-wise feed-forward network."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """Linear to `expansion` times the width, GELU, linear back.

    Source:   Vaswani et al. 2017, eq. 2, with GELU (Hendrycks and Gimpel 2016) for ReLU.
    """

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Apply the network to each position."""
        out: Tensor = self.contract(F.gelu(self.expand(x)))
        return out
