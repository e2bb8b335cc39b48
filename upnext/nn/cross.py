"""Networks that join what is known of a request with what is known of each candidate.

Shape letters: B requests, C candidates, R width of what a request has, I width of what a candidate has, H hidden width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from upnext.nn.dropout import Dropout

__all__ = ["CrossNetwork", "JoiningNetwork"]


class JoiningNetwork(nn.Module):
    """Layers with GELU over request and candidate.

    The first is a sum of two maps, so that hundreds of candidates share that of their request.
    """

    def __init__(self, request_width: int, candidate_width: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.request = nn.Linear(request_width, hidden[0])
        self.candidate = nn.Linear(candidate_width, hidden[0], bias=False)
        self.layers = nn.ModuleList(nn.Linear(hidden[n], hidden[n + 1]) for n in range(len(hidden) - 1))
        self.dropout = Dropout(dropout)
        self.width = hidden[-1]

    def forward(self, request: Float[Tensor, "B _ R"], candidate: Float[Tensor, "B C I"]) -> Float[Tensor, "B C H"]:
        """Join; what a request has is (B, 1, R), unless it differs between candidates."""
        x: Tensor = self.dropout(F.gelu(self.request(request) + self.candidate(candidate)))
        for layer in self.layers:
            x = self.dropout(F.gelu(layer(x)))
        return x


class CrossNetwork(nn.Module):
    """x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l over request and candidate together, then layers with GELU.

    Source:   Wang et al. 2021, "DCN V2", eq. 1, the stacked structure.
    """

    def __init__(
        self, request_width: int, candidate_width: int, crosses: int, hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        width = request_width + candidate_width
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(crosses))
        self.deep = JoiningNetwork(request_width, candidate_width, hidden, dropout)
        self.width = self.deep.width

    def forward(self, request: Float[Tensor, "B _ R"], candidate: Float[Tensor, "B C I"]) -> Float[Tensor, "B C H"]:
        """Join."""
        R = request.shape[2]
        x0 = torch.cat([request.expand(-1, candidate.shape[1], -1), candidate], dim=-1)
        x = x0
        for cross in self.crosses:
            x = x0 * cross(x) + x
        out: Tensor = self.deep(x[..., :R], x[..., R:])
        return out
