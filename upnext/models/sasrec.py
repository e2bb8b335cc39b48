"""SASRec: a causal transformer over item histories that predicts the next item.

Shape letters: B rows, L events, D width, V catalogue, C candidates.
"""

from typing import Annotated, Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from upnext.base.batches import ItemTable, Layout, Request, SequenceBatch, State
from upnext.base.configuration import Config
from upnext.base.ids import PADDING
from upnext.base.views import ALL
from upnext.models.top_k import top_k_of_scores
from upnext.nn.dropout import Dropout
from upnext.nn.layers import TransformerLayer

__all__ = ["SASRec", "SASRecConfig"]


class SASRecConfig(Config):
    """Size and reading of a SASRec."""

    kind: Literal["sasrec"] = "sasrec"
    view: str = ALL
    """The events it reads and predicts."""
    width: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Width of states and item vectors; a multiple of `heads`."""
    layers: Annotated[int, Field(ge=1, le=1000)] = 2
    """Transformer layers."""
    heads: Annotated[int, Field(ge=1)] = 1
    """Attention heads."""
    feed_forward: Annotated[int, Field(ge=1, le=64)] = 4
    """Width of the feed-forward layers inside, in widths of the model."""
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """The longest history it reads, in events of its view."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of activations dropped in training, where sublayers join the residual stream."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "SASRecConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one of them")
        return self


class SASRec(nn.Module):
    """A pre-norm transformer over (start token, item 1, …, item L); its output after k items predicts item k+1.

    The learned start token stands for the empty history, so that a new user has a state too. Item vectors are
    the rows of the input embedding. Items without a training event cannot be scored.

    Args:     trained: (V,) bool by dense id, the items that have a training event; sparse_gradients: the gradient of
              the item embedding holds only the rows that occur, for tables much larger than a batch.
    Source:   Kang and McAuley 2018; pre-norm layers, GELU and a start token are ours.
    """

    def __init__(self, config: SASRecConfig, trained: Tensor, *, sparse_gradients: bool = False) -> None:
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(len(trained), config.width, padding_idx=PADDING, sparse=sparse_gradients)
        self.start = nn.Parameter(torch.empty(config.width))
        self.positions = nn.Parameter(torch.empty(config.max_length + 1, config.width))
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.dropout, config.feed_forward)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.trained: Tensor
        self.register_buffer("trained", trained.clone())
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.trunc_normal_(self.start, std=0.02)
        with torch.no_grad():
            self.item_embedding.weight[PADDING].zero_()

    @property
    def view(self) -> str:
        """The view it reads."""
        return self.config.view

    @property
    def max_length(self) -> int:
        """The longest history it reads."""
        return self.config.max_length

    def states(self, histories: SequenceBatch) -> Float[Tensor, "B moments D"]:
        """States of every moment, (B, L+1, D): [:, k] has read the first k events of the row; [:, 0] none.

        Args:     histories: events of the model's view, at most `max_length` per row.
        """
        x, layout = self._tokens(histories)
        for layer in self.layers:
            x = layer(x, layout, None)
        out: Tensor = self.norm(x)
        return out

    def _tokens(self, histories: SequenceBatch) -> tuple[Float[Tensor, "B moments D"], Layout]:
        """A start token, then one per event."""
        B, L = histories.item.shape
        items = self.item_embedding(histories.item) * self.config.width**0.5
        x = torch.cat([self.start.expand(B, 1, -1) * self.config.width**0.5, items], dim=1)
        return self.dropout(x + self.positions[: L + 1]), _with_start(histories.layout)

    def num_activations(self, tokens: int) -> int:
        """How many float32 numbers training holds for T tokens, start tokens included.

        T · D · ((11 + 2 F) · layers + 13) with F the feed-forward's width in widths of the model. A layer keeps so
        much per token for its backward pass: inputs and outputs of the two norms (4), queries, keys and values (3),
        what attention gave (2), the hidden layer before and after GELU (2 F), two dropout masks (2). The other 13 are
        the embedding with its mask, the states, and gradients on their way back (9).
        """
        per_layer = 11 + 2 * self.config.feed_forward
        return tokens * self.config.width * (per_layer * self.config.layers + 13)

    def encode(self, histories: SequenceBatch) -> State:
        """Encode histories into the state after their last event."""
        histories = histories.view(self.view).last(self.max_length)
        if len(histories) == 1 and not self.training:
            return State({"hidden": self._of_one(histories.item[0, : int(histories.lengths[0])])})
        x, layout = self._tokens(histories)
        for layer in self.layers[:-1]:
            x = layer(x, layout, None)
        last = cast("TransformerLayer", self.layers[-1])
        return State({"hidden": self.norm(last.last(x, layout.lengths))})

    def _of_one(self, items: Int[Tensor, " L"]) -> Float[Tensor, "1 D"]:
        """The state after the last event of a single history: what `states` gives, in fewer calls."""
        tokens = torch.cat([self.start[None], self.item_embedding.weight[items]])
        x = torch.add(self.positions[: len(tokens)], tokens, alpha=self.config.width**0.5)
        for layer in self.layers:
            x = cast("TransformerLayer", layer).of_one(x, only_last=layer is self.layers[-1])
        out: Tensor = self.norm(x)
        return out

    def query_vectors(self, state: State, request: Request) -> Float[Tensor, "B D"]:
        """The state itself: SASRec knows no context."""
        return state.tensors["hidden"]

    def item_vectors(self, items: ItemTable) -> Float[Tensor, "V D"]:
        """Rows of the item embedding; zeros for items without a training event."""
        return self.item_embedding.weight[items.item] * self.trained[items.item, None]

    def can_score(self, items: ItemTable) -> Tensor:
        """(V,) bool: the items with a training event."""
        return self.trained[items.item]

    def score(self, state: State, request: Request, items: Int[Tensor, "_ C"]) -> Float[Tensor, "B C"]:
        """Dot products of state and item vectors; -inf for items without a training event."""
        queries, vectors = self.query_vectors(state, request), self.item_embedding.weight
        if len(items) == 1:
            scores = queries @ vectors[items[0]].T
        else:
            scores = torch.einsum("bd,bcd->bc", queries, vectors[items])
        return scores.masked_fill(~self.trained[items], -torch.inf)

    def top_k(
        self, state: State, request: Request, k: int, allowed: Tensor | None = None
    ) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"]]:
        """The k best items of the catalogue."""
        everything = torch.arange(len(self.trained), device=self.trained.device)[None]
        return top_k_of_scores(self.score(state, request, everything), k, allowed)

    @classmethod
    def from_tensors(cls, config: SASRecConfig, tensors: dict[str, Tensor]) -> "SASRec":
        """Rebuild a model from its `state_dict`."""
        model = cls(config, tensors["trained"])
        model.load_state_dict(tensors)
        return model.eval()


def _with_start(layout: Layout) -> Layout:
    """Put the start token before each row: it belongs to no request and precedes all times."""
    B = len(layout.lengths)

    def prepend(values: Tensor, value: int) -> Tensor:
        return torch.cat([values.new_full((B, 1), value), values], dim=1)

    event = torch.arange(layout.event.shape[1] + 1, device=layout.event.device).expand(B, -1)
    lowest = torch.iinfo(torch.int64).min
    return Layout(layout.lengths + 1, prepend(layout.time_ms, lowest), event, prepend(layout.request, -1))
