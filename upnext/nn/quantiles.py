"""Numbers as a network reads them: quantile ranks, each with its square and its square root.

Shape letters: F features, Q boundaries.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upnext.base.batches import Column

__all__ = ["QuantileNumbers", "powers", "stacked"]


class QuantileNumbers(nn.Module):
    """Each number becomes r, r² and √r, r the share of trained values below it in [0, 1), and a flag if it is missing.

    The powers let a linear layer bend; what was not observed has zeros and the flag. The boundaries are saved with the
    weights, so that training and serving read the same numbers.

    Args:     names: of the features, in the order of their boundaries; bounds: (F, Q) float64, rising along each row.
    Source:   Covington et al. 2016, section 4.1. r is a share of boundaries, ties counted half; the source interpolates
              between them.
    """

    def __init__(self, names: Sequence[str], bounds: Float[Tensor, "F Q"]) -> None:
        super().__init__()
        self.names = list(names)
        self.bounds: Tensor
        self.edges: Tensor
        self.register_buffer("bounds", bounds.to(torch.float64).contiguous())
        self.register_buffer("edges", edges_of(self.bounds), persistent=False)
        self.register_load_state_dict_post_hook(_sharpen)  # type: ignore[no-untyped-call]

    @property
    def width(self) -> int:
        """Columns of what it gives."""
        return 4 * len(self.names)

    def forward(self, columns: Mapping[str, Column], shape: Sequence[int]) -> Float[Tensor, "*B width"]:
        """Read the features of things of some shape (…,), each by its name, into (…, 4 F) float32."""
        if not self.names:
            return torch.zeros(*shape, 0, device=self.bounds.device)
        parts = powers(self.ranks(columns, shape))
        return parts.transpose(0, 1).reshape(*shape, self.width)

    def ranks(self, columns: Mapping[str, Column], shape: Sequence[int]) -> Column:
        """The ranks alone, and which were observed: (F, n) of n things."""
        read = [columns[name] for name in self.names]
        # Numbers of one type are put together before they are made wide: it takes half as many calls.
        kinds = {column.values.dtype for column in read}
        alike = [column.values if len(kinds) == 1 else column.values.double() for column in read]
        values = stacked(alike, shape).to(torch.float64)
        observed = stacked([column.observed for column in read], shape) & ~values.isnan()
        passed = torch.searchsorted(self.edges, values)
        return Column(passed.to(torch.float32) / (2 * (self.bounds.shape[1] + 1)), observed)


def stacked(columns: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """(F, n): one below the other, spread out where a column says the same of many things."""
    whole = torch.Size(shape)
    return torch.stack([one if one.shape == whole else one.expand(whole) for one in columns]).flatten(1)


def edges_of(bounds: Float[Tensor, "F Q"]) -> Float[Tensor, "F twice"]:
    """Each boundary and the largest number below it, rising: one search counts what lies below a value, ties half.

    b ≤ v if and only if the largest number below b is less than v. So of these edges as many lie below v as there are
    boundaries b < v and boundaries b ≤ v together. No number lies below -∞: a boundary there is no tie for -∞ itself.
    """
    just_below = torch.nextafter(bounds, torch.full_like(bounds, -torch.inf))
    return torch.cat([just_below, bounds], dim=1).sort(dim=1).values.contiguous()


def _sharpen(numbers: nn.Module, _: object) -> None:
    """The boundaries were read from a file: so are the edges."""
    assert isinstance(numbers, QuantileNumbers)
    numbers.edges = edges_of(numbers.bounds)


def powers(rank: Column) -> Float[Tensor, "*B 4"]:
    """r, r² and √r of ranks in [0, 1), zeros where they were not observed, and 1 there."""
    r = torch.where(rank.observed, rank.values, 0.0)
    return torch.stack([r, r.square(), r.sqrt(), (~rank.observed).to(torch.float32)], dim=-1)
