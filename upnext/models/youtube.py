"""YouTube's ranking network: what would come of each candidate, from averaged watches and features of all kinds.

Shape letters: B requests, L events of a past, C candidates, D width of embeddings, H width of the first layer,
K components, V items, F numbers.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from upnext.base.batches import Candidates, Column, ItemTable, Request, SequenceBatch, State
from upnext.base.configuration import Config
from upnext.base.protocols import Link
from upnext.base.schema import FeatureKind, context_column
from upnext.features.aggregates import Aggregate
from upnext.models.item_lookup import candidate_vectors, vectors_by_hash
from upnext.models.ranker_inputs import RankerInputs, looked_up_names
from upnext.nn.embeddings import EmbeddingsConfig, HashedConfig, HashedEmbeddings, PlainEmbeddings
from upnext.nn.encoders import ContextEncoder, UserEncoder, looked_up
from upnext.nn.feedback_head import start_at_means
from upnext.nn.quantiles import QuantileNumbers, powers
from upnext.nn.vector_pairs import VectorPairs

__all__ = ["YouTubeRanker", "YouTubeRankerConfig"]

_ITEM = "item"


class YouTubeRankerConfig(Config):
    """What a YouTube ranker reads, and how large it is."""

    kind: Literal["youtube"] = "youtube"
    view: str
    """What counts as watched: the vectors of these events' items are averaged."""
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """How many of them, the last ones."""
    width: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Width of every embedding."""
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=1)] = [128, 64]
    """The widths of the ReLU tower's layers."""
    contexts: list[str] | None = None
    """The contexts of requests that it reads. Unset: all that the log has."""
    item_features: list[str] | None = None
    """The features of items that it reads, such as their language. Unset: all that the log has."""
    user_features: list[str] | None = None
    """The features of users that it reads. Unset: all that the log has."""
    aggregates: list[Aggregate] = []
    """Numbers of each candidate up to the moment of the request, such as the time since the user last watched its
    channel and how often the user was shown it before."""
    embeddings: EmbeddingsConfig = HashedConfig(sparse=True)
    """How ids and other values of high cardinality become vectors."""

    @model_validator(mode="after")
    def _aggregates_differ(self) -> "YouTubeRankerConfig":
        names = [aggregate.name for aggregate in self.aggregates]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the aggregate {name!r} is declared twice; remove one")
        return self


class YouTubeRanker(nn.Module):
    """A ReLU tower over concatenated embeddings and numbers, with an output per component.

    A candidate's id and the ids of what was watched share their embeddings; the order of the watches is dropped on
    purpose. Categories have embeddings of their own, numbers are quantile ranks with square and root. The first layer
    is a sum of maps: that of the request is computed once for all candidates, that of an item once for all requests.

    Args:     items: the catalogue, row i being dense id i; bounds: (F, Q) quantiles of `inputs.numbers`, then of the
              numeric contexts; known: the distinct values of each feature, for plain embeddings.
    Source:   Covington et al. 2016, section 4; its features of video and user languages are any features here.
    """

    def __init__(
        self,
        config: YouTubeRankerConfig,
        inputs: RankerInputs,
        items: ItemTable,
        bounds: Float[Tensor, "F Q"],
        known: Mapping[str, Int[Tensor, " n"]],
    ) -> None:
        super().__init__()
        self.config, self.inputs, self.items = config, inputs, items
        D, H = config.width, config.hidden[0]
        self.embeddings = (
            HashedEmbeddings(config.embeddings, D)
            if isinstance(config.embeddings, HashedConfig)
            else PlainEmbeddings(known, D)
        )
        sizes = inputs.events.contexts
        codes = inputs.events.model_copy(update={"has_times": False, "contexts": {n: s for n, s in sizes.items() if s}})
        self.place = ContextEncoder(codes, D) if codes.contexts else None
        for table in () if self.place is None else self.place.codes.values():
            assert isinstance(table, nn.Embedding)
            nn.init.trunc_normal_(table.weight, std=0.02)
        count = len(inputs.numbers)
        self.numbers = QuantileNumbers(inputs.numbers, bounds[:count])
        moments = [context_column(name) for name, size in sizes.items() if not size]
        self.moments = QuantileNumbers(moments, bounds[count:])
        of_user = _width(inputs.user_features, inputs.user_vector_widths, D)
        of_item = _width(inputs.events.item_features, inputs.events.vector_widths, D)
        self.request = nn.Linear(D + of_user + D * (self.place is not None) + self.moments.width, H)
        self.item = nn.Linear(D + of_item, H, bias=False)
        self.told = nn.Linear(self.numbers.width, H, bias=False) if inputs.numbers else None
        self.vectors = VectorPairs(inputs.vectors, D) if inputs.vectors else None
        if self.vectors is not None:
            self.user_part = nn.Linear(self.vectors.request_width, H, bias=False)
            self.pair_part = nn.Linear(self.vectors.candidate_width, H, bias=False)
        widths = config.hidden
        self.layers = nn.ModuleList(nn.Linear(widths[n], widths[n + 1]) for n in range(len(widths) - 1))
        self.output = nn.Linear(widths[-1], len(self.components))
        self._vectors: Tensor | None = None

    @property
    def view(self) -> str:
        """The view whose events it reads."""
        return self.config.view

    @property
    def max_length(self) -> int:
        """The longest past that it reads."""
        return self.config.max_length

    @property
    def components(self) -> Mapping[str, Link]:
        """What it puts out, with the link of each."""
        return self.inputs.components

    @property
    def reads(self) -> list[str]:
        """The columns of candidates that it reads."""
        return self.inputs.reads

    @property
    def aggregates(self) -> list[Aggregate]:
        """Those of them that are aggregates."""
        return self.config.aggregates

    def train(self, mode: bool = True) -> "YouTubeRanker":
        """Switch between training and evaluation; what is kept of items is computed anew after training."""
        self._vectors = None
        return super().train(mode)

    def num_activations(self, tokens: int, candidates: int) -> int:
        """How many float32 numbers training holds: 2 D per event; per candidate what enters and leaves each layer."""
        linear = [part for part in self.modules() if isinstance(part, nn.Linear)]
        joined = sum(part.in_features + part.out_features for part in linear)
        return tokens * 2 * self.config.width + candidates * 3 * joined

    def encode(self, histories: SequenceBatch) -> State:
        """The mean vector of what was watched last, zeros where that is nothing: (B, D)."""
        watched = histories.view(self.view).last(self.max_length)
        if not watched.item.shape[1]:
            return State({"watched": torch.zeros(len(watched), self.config.width, device=watched.item.device)})
        return State({"watched": self.embeddings(_ITEM, watched.item_hash, watched.mask)})

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Float[Tensor, "B C"]]:
        """Raw outputs per component; no candidate sees another.

        Raises:   BadBatch: the candidates lack a column that it reads.
        """
        self.inputs.check(candidates)
        x = self.request(self._of_request(state, request))[:, None] + self._items(candidates)
        if self.told is not None:
            x = x + self.told(self.numbers(candidates.features, candidates.item.shape))
        if self.vectors is not None:
            user, pairs = self.vectors(candidates.features)
            x = x + self.user_part(user)[:, None] + self.pair_part(pairs)
        x = F.relu(x)
        for layer in self.layers:
            x = F.relu(layer(x))
        logits = self.output(x)
        return {name: logits[..., number] for number, name in enumerate(self.components)}

    def _of_request(self, state: State, request: Request) -> Tensor:
        parts = [state.tensors["watched"] * self.config.width**0.5]
        for name, kind in self.inputs.user_features.items():
            parts.append(self._feature(UserEncoder.known_as(name), kind, request.features[name]))
        if self.place is not None:
            nothing = torch.zeros_like(request.time_ms)
            parts.append(self.place(request.context, nothing) * self.config.width**0.5)
        parts.append(self.moments(request.context, request.time_ms.shape))
        return torch.cat(parts, dim=-1)

    def _feature(self, known_as: str, kind: FeatureKind, column: Column) -> Tensor:
        """A feature of items or users as numbers: an embedding, a rank and its powers, or the vector that it is."""
        if kind == "numeric":
            return powers(column)
        if kind == "vector":
            return column.values * column.observed[:, None]
        scale: float = self.config.width**0.5
        return looked_up(self.embeddings, known_as, column) * scale

    def item_part(self, items: ItemTable) -> Float[Tensor, "V H"]:
        """What the first layer makes of items."""
        parts = [self.embeddings(_ITEM, items.item_hash[:, None]) * self.config.width**0.5]
        for name, kind in self.inputs.events.item_features.items():
            parts.append(self._feature(name, kind, items.features[name]))
        out: Tensor = self.item(torch.cat(parts, dim=-1))
        return out

    def _items(self, candidates: Candidates) -> Float[Tensor, "B C H"]:
        """The items' part: in training of those that occur, with gradients; else of the whole catalogue, once."""
        if self.training:
            return vectors_by_hash(self.item_part, self.items, candidates.item, candidates.item_hash)
        if self._vectors is None:
            self._vectors = self.item_part(self.items).detach()
        return candidate_vectors(self.item_part, self.items, self._vectors, candidates)

    def begin_with(self, means: Mapping[str, float]) -> None:
        """Let every feedback be foreseen as its mean before anything is learnt; NaN, or no mean, changes nothing."""
        known = [means.get(name, math.nan) for name in self.components]
        start_at_means(self.output, known, list(self.components.values()))

    @classmethod
    def from_tensors(
        cls, config: YouTubeRankerConfig, inputs: RankerInputs, items: ItemTable, tensors: dict[str, Tensor]
    ) -> "YouTubeRanker":
        """Rebuild a model from its `state_dict`, for a catalogue that extends the one it was trained on."""
        bounds = torch.cat([tensors["numbers.bounds"], tensors["moments.bounds"]])
        none: dict[str, Tensor] = dict.fromkeys(looked_up_names(inputs), torch.zeros(0, dtype=torch.int64))
        model = cls(config, inputs, items, bounds, none)  # the values that were known come with the weights
        model.load_state_dict(tensors)
        return model.eval()


def _width(kinds: Mapping[str, FeatureKind], vectors: Mapping[str, int], width: int) -> int:
    """How wide features are side by side."""
    return sum(vectors[name] if kind == "vector" else 4 if kind == "numeric" else width for name, kind in kinds.items())
