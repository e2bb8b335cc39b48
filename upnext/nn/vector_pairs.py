"""Pairs of vectors that other models made, a user's and an item's, as a network reads them.

Shape letters: B requests, C candidates, E width of the vectors, D width of what is made of them, P pairs.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upnext.base.batches import Column
from upnext.base.schema import vector_columns
from upnext.nn.slots import slot

__all__ = ["VectorPairs"]


class VectorPairs(nn.Module):
    """Each vector through a linear layer, and the product of the two, for each model.

    Vectors of other models come in any size, so each kind is first divided by the root mean square of its numbers in
    training. The user vector is the same for all candidates of a request, and is read once.

    Args:     widths: E by the name of the model.
    """

    def __init__(self, widths: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.names = list(widths)
        self.user = nn.ModuleDict({slot(name): nn.Linear(wide, width) for name, wide in widths.items()})
        self.item = nn.ModuleDict({slot(name): nn.Linear(wide, width) for name, wide in widths.items()})
        self.request_width, self.candidate_width = len(widths) * width, 2 * len(widths) * width
        self.scales: Tensor
        self.register_buffer("scales", torch.ones(len(widths), 2))

    def divide_by(self, scales: Mapping[str, tuple[float, float]]) -> None:
        """Set what user and item vectors are divided by, by the name of the model."""
        self.scales.copy_(torch.tensor([scales[name] for name in self.names]).reshape(-1, 2))

    def forward(self, columns: Mapping[str, Column]) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B C I"]]:
        """Read the columns of candidates that `vector_columns` names, (B, C, E): what requests and candidates have."""
        of_request, of_candidate = [], []
        for name, scale in zip(self.names, self.scales, strict=True):
            users, items = (columns[column].values for column in vector_columns(name))
            user = self.user[slot(name)](users[:, 0] / scale[0])
            item = self.item[slot(name)](items / scale[1])
            of_request.append(user)
            of_candidate += [item, user[:, None] * item]
        return torch.cat(of_request, dim=-1), torch.cat(of_candidate, dim=-1)
