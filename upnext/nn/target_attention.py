"""Target attention: a candidate looks at a history for events like itself, and at what came of them.

Shape letters: B rows, T moments of a history (the start, then its L events), C candidates, D width, H heads.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TargetAttention"]


class TargetAttention(nn.Module):
    """Attention with a query per candidate, a key and a value per moment of the history.

    Queries and keys begin as the items' own normalised vectors, so that an item finds itself and its kin from the first
    step on, and states add to both what they learn. The start, which has no item, is what attention rests on where
    nothing is alike. Values are made of states and of feedback.

    Source:   the idea is Zhou et al. 2018 (DIN); softmax, the start and how it begins are ours.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_item, self.key_item = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.query_state, self.key_state = (nn.Linear(width, width) for _ in range(2))
        self.value_state, self.value_feedback = (nn.Linear(width, width) for _ in range(2))
        self.output = nn.Linear(width, width)

    def begin(self) -> None:
        """Let queries and keys be the items; what states add begins with nothing."""
        for linear in (self.query_item, self.key_item):
            nn.init.eye_(linear.weight)
        for linear in (self.query_state, self.key_state):
            nn.init.zeros_(linear.weight)

    def memory(
        self, item: Float[Tensor, "B L D"], state: Float[Tensor, "B T D"], feedback: Float[Tensor, "B L D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
        """Keys and values of a history's moments: of the start, and of L events."""
        item, feedback = (F.pad(one, (0, 0, 1, 0)) for one in (item, feedback))
        keys = self.key_item(self.norm(item)) + self.key_state(state)
        return keys, self.value_state(state) + self.value_feedback(feedback)

    def forward(
        self,
        item: Float[Tensor, "B C D"],
        state: Float[Tensor, "B _ D"],
        memory: tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]],
        num_visible: Int[Tensor, "B _"],
    ) -> Float[Tensor, "B C D"]:
        """What each candidate finds in the events before its request, so many of them, and in the start.

        Args:     state: the one before the candidate's request.
        """
        visible = torch.arange(memory[0].shape[1], device=item.device) <= num_visible[..., None]
        query = self.query_item(self.norm(item)) + self.query_state(state)
        q, k, v = (one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in (query, *memory))
        found = F.scaled_dot_product_attention(q, k, v, visible[:, None])
        out: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return out
