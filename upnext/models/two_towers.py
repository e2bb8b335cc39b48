"""Two towers: a user vector from the history alone, an item vector from the item alone, and their dot product.

Both can be computed ahead of time: user vectors into a key-value store, item vectors into an index.

Shape letters: B rows, L events, D width of the transformer, E width of the vectors, C candidates, V items.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from upnext.base.batches import Candidates, ItemTable, Request, SequenceBatch, State
from upnext.base.configuration import Config, Duration
from upnext.base.protocols import Link
from upnext.models.argus import ARGUS, ARGUSConfig
from upnext.models.top_k import top_k_of_scores
from upnext.nn.encoders import Inputs

__all__ = ["TwoTowers", "TwoTowersConfig"]


class TwoTowersConfig(Config):
    """A transformer over histories, and the width of the vectors that come of it."""

    kind: Literal["two_towers"] = "two_towers"
    encoder: ARGUSConfig
    """The transformer and the item tower."""
    width: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Width of the vectors that are stored."""
    lag: Annotated[Duration, Field(ge=0)] = 86_400_000
    """How old user vectors are when they are used: they know events strictly before the request's time - lag."""

    @model_validator(mode="after")
    def _towers_have_no_prior(self) -> "TwoTowersConfig":
        if self.encoder.recent is not None:
            raise ValueError(
                "'recent' has no effect in an encoder: two towers add no prior to their dot product; remove it"
            )
        return self

    @property
    def view(self) -> str:
        """The events that it reads."""
        return self.encoder.view


class TwoTowers(nn.Module):
    """User and item vectors from ARGUS, each through a linear map.

    A user vector is a function of the history and nothing else: no context, and no item. The item tower sees nothing
    but the item.

    Source:   Khrylchenko et al. 2025, the offline two-tower ranker.
    """

    def __init__(self, config: TwoTowersConfig, inputs: Inputs, items: ItemTable, trained: Bool[Tensor, " V"]) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.argus = ARGUS(config.encoder, inputs, items, trained)
        self.user = nn.Linear(config.encoder.width, config.width)
        self.item = nn.Linear(config.encoder.width, config.width)
        for tower in (self.user, self.item):
            nn.init.normal_(tower.weight, std=config.encoder.width**-0.5)
            nn.init.zeros_(tower.bias)

    @property
    def view(self) -> str:
        """The view it reads."""
        return self.argus.view

    @property
    def max_length(self) -> int:
        """The longest history it reads."""
        return self.argus.max_length

    @property
    def lag_ms(self) -> int:
        """How old user vectors are when they are used."""
        return self.config.lag

    @property
    def trained(self) -> Bool[Tensor, " V"]:
        """The items with a training event."""
        return self.argus.trained

    @property
    def components(self) -> Mapping[str, Link]:
        """One score that orders and means nothing else."""
        return {"score": Link.ORDER_ONLY}

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "B moments E"]:
        """User vectors of every moment of each row, from one run: (B, L+1, E), [:, k] after k events."""
        vectors: Tensor = self.user(self.argus.states(batch))
        return vectors

    def item_vectors(self, items: ItemTable) -> Float[Tensor, "V E"]:
        """Item vectors; zeros for those that cannot be scored."""
        vectors: Tensor = self.item(self.argus.item_encoder(items))
        return vectors * self.can_score(items)[:, None]

    def vectors_of(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n E"]:
        """Vectors of items of the catalogue, with gradients."""
        vectors: Tensor = self.item(self.argus.vectors_of(items))
        return vectors

    def can_score(self, items: ItemTable) -> Bool[Tensor, " V"]:
        """(V,) bool: items with a training event, and those of which some feature is known."""
        return self.argus.can_score(items)

    def encode(self, histories: SequenceBatch) -> State:
        """The user vector after the last event."""
        histories = histories.view(self.view).last(self.max_length)
        rows = torch.arange(len(histories), device=histories.lengths.device)
        return State({"vector": self.user_vectors(histories)[rows, histories.lengths]})

    @property
    def shares_prefixes(self) -> bool:
        """One pass over a history gives the vectors after every event of it."""
        return True

    def encode_prefixes(self, histories: SequenceBatch, row: Int[Tensor, " n"], count: Int[Tensor, " n"]) -> State:
        """What `encode` makes of the first `count` events of some rows, from one pass over all."""
        return State({"vector": self.user_vectors(histories)[row, count]})

    def query_vectors(self, state: State, request: Request) -> Float[Tensor, "B E"]:
        """The user vector, whatever the request."""
        return state.tensors["vector"]

    def score(self, state: State, request: Request, items: Int[Tensor, "_ C"]) -> Float[Tensor, "B C"]:
        """Dot products; -inf for items that cannot be scored."""
        vectors, can = self.item(self.argus.vectors()), self.can_score(self.argus.items)
        user = state.tensors["vector"]
        scores = user @ vectors[items[0]].T if len(items) == 1 else torch.einsum("be,bce->bc", user, vectors[items])
        return scores.masked_fill(~can[items], -torch.inf)

    def top_k(
        self, state: State, request: Request, k: int, allowed: Tensor | None = None
    ) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"]]:
        """The k best items of the catalogue."""
        everything = torch.arange(len(self.argus.items), device=self.argus.items.item.device)[None]
        return top_k_of_scores(self.score(state, request, everything), k, allowed)

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Float[Tensor, "B C"]]:
        """The same dot products, for the candidates of each request."""
        vectors = self.item(self.argus.candidate_vectors(candidates))
        return {"score": torch.einsum("be,bce->bc", state.tensors["vector"], vectors)}

    @classmethod
    def from_tensors(
        cls, config: TwoTowersConfig, inputs: Inputs, items: ItemTable, tensors: dict[str, Tensor]
    ) -> "TwoTowers":
        """Rebuild a model from its `state_dict`, for a catalogue that extends the one it was trained on."""
        model = cls(config, inputs, items, tensors["argus.trained"])
        model.load_state_dict(tensors)
        return model.eval()
