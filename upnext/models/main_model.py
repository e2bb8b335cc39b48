"""The main model: a graph of sub-models that says what would come of each candidate.

    aggregators    a behaviour sequence each (watched; shown and not watched; …)   -> a vector each
    history        joins the aggregators
    user, time, place   networks of what is known of who asks, when and where
    joining        joins all of these with the candidate and what is known of it
    output         a component per feedback

Shape letters: B requests, L events of a sequence, A aggregators, C candidates, D width, K components, V items.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from upnext.base.batches import Candidates, ItemTable, Request, SequenceBatch, State
from upnext.base.configuration import Config
from upnext.base.protocols import Link
from upnext.base.views import ALL
from upnext.features.aggregates import Aggregate
from upnext.models.item_lookup import as_candidates, candidate_vectors, vectors_by_hash
from upnext.models.ranker_inputs import RankerInputs, looked_up_names
from upnext.nn.aggregators import (
    AggregatorConfig,
    SelfAttentionAggregator,
    SelfAttentionConfig,
    SumPooling,
    sum_of_events,
)
from upnext.nn.clock import ClockEncoder, Reading
from upnext.nn.cross import CrossNetwork, JoiningNetwork
from upnext.nn.embeddings import EmbeddingsConfig, HashedConfig, HashedEmbeddings, PlainEmbeddings
from upnext.nn.encoders import ContextEncoder, FeedbackEncoder, ItemEncoder, UserEncoder, gap_bucket
from upnext.nn.feedback_head import start_at_means
from upnext.nn.quantiles import QuantileNumbers
from upnext.nn.slots import slot
from upnext.nn.vector_pairs import VectorPairs

__all__ = ["Behaviour", "JoiningConfig", "MainModel", "MainModelConfig"]


class MLPConfig(Config):
    """Layers with GELU over everything."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=1)] = [64, 32]
    """The widths of the layers."""


class CrossConfig(Config):
    """DCN-v2: products of everything with everything, then layers with GELU."""

    kind: Literal["dcn_v2"] = "dcn_v2"
    crosses: Annotated[int, Field(ge=1, le=100)] = 2
    """How many cross layers."""
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=1)] = [64, 32]
    """The widths of the layers after them."""


JoiningConfig = Annotated[MLPConfig | CrossConfig, Field(discriminator="kind")]


class MainModelConfig(Config):
    """What a main model reads, and how large its sub-models are."""

    kind: Literal["main"] = "main"
    view: str = ALL
    """The events that a past consists of; every aggregator reads some of them."""
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """The longest past, in events of `view`: aggregators find theirs among the last so many."""
    aggregators: Annotated[dict[str, AggregatorConfig], Field(min_length=1)]
    """What turns each behaviour into a vector, by names of your choice."""
    width: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Width of embeddings and of what sub-models put out."""
    contexts: list[str] | None = None
    """The contexts of events and requests that it reads. Unset: all that the log has."""
    time: list[Reading] | None = None
    """What it reads of the moment of a request: the hour of the day and the day of the week (UTC), the time since the
    user's last event. Unset: all three, but, with a window, not the hour."""
    user_features: list[str] | None = None
    """The features of users that it reads. Unset: all that the log has."""
    aggregates: list[Aggregate] = []
    """Counts, means, recency and age up to the moment of the request, as numbers of each candidate."""
    joining: JoiningConfig = MLPConfig()
    """What joins request and candidate."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of activations dropped in training in the joining network."""
    embeddings: EmbeddingsConfig = HashedConfig(sparse=True)
    """How ids and other values of high cardinality become vectors. Unset: hashed, with sparse gradients."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "MainModelConfig":
        names = [aggregate.name for aggregate in self.aggregates]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the aggregate {name!r} is declared twice; remove one")
        for name, aggregator in self.aggregators.items():
            if isinstance(aggregator, SelfAttentionConfig) and self.width % aggregator.heads:
                raise ValueError(f"width {self.width} is no multiple of aggregators.{name}.heads {aggregator.heads}")
            if aggregator.length > self.max_length:
                raise ValueError(
                    f"aggregators.{name}.length {aggregator.length} is above max_length {self.max_length}: a past holds"
                    " no more events"
                )
        return self


@dataclass(frozen=True)
class Behaviour:
    """What an aggregator reads: the events of its view, and their embeddings (B, L, D)."""

    events: SequenceBatch
    x: Tensor


class MainModel(nn.Module):
    """Feedback of each candidate, from several behaviour sequences, the user, the moment and the place.

    The past is encoded once; hundreds of candidates are then scored in one call.

    Args:     items: the catalogue, row i being dense id i; bounds: (F, Q) quantiles of `inputs.numbers`;
              known: the distinct values of each feature, for plain embeddings.
    Source:   US 12,389,079 B2, figure 3. Besides the candidate's vector, its product with what each aggregator found
              enters the joining network.
    """

    def __init__(
        self,
        config: MainModelConfig,
        inputs: RankerInputs,
        items: ItemTable,
        bounds: Float[Tensor, "F Q"],
        known: Mapping[str, Int[Tensor, " n"]],
    ) -> None:
        super().__init__()
        self.config, self.inputs, self.items = config, inputs, items
        D, A = config.width, len(config.aggregators)
        embeddings = (
            HashedEmbeddings(config.embeddings, D)
            if isinstance(config.embeddings, HashedConfig)
            else PlainEmbeddings(known, D)
        )
        self.item_encoder = ItemEncoder(inputs.events, embeddings, D)
        self.event_context, self.event_feedback = ContextEncoder(inputs.events, D), FeedbackEncoder(inputs.events, D)
        self.aggregators = nn.ModuleDict(
            {
                slot(name): SelfAttentionAggregator(one, D) if isinstance(one, SelfAttentionConfig) else SumPooling()
                for name, one in config.aggregators.items()
            }
        )
        self.pooled_norm = nn.LayerNorm(D)
        self.history = nn.Sequential(nn.Linear(A * (D + 1), D), nn.GELU())
        users = inputs.user_features, inputs.user_vector_widths
        self.user_encoder = UserEncoder(*users, D) if inputs.user_features else None
        self.clock = ClockEncoder(config.time, D) if config.time else None
        without_gap = inputs.events.model_copy(update={"has_times": False})
        self.place_encoder = ContextEncoder(without_gap, D) if inputs.events.contexts else None
        self.user, self.time, self.place = (
            None if encoder is None else nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.GELU())
            for encoder in (self.user_encoder, self.clock, self.place_encoder)
        )
        self.quantiles = QuantileNumbers(inputs.numbers, bounds) if inputs.numbers else None
        self.numbers = None if self.quantiles is None else nn.Linear(self.quantiles.width, D)
        self.vectors = VectorPairs(inputs.vectors, D) if inputs.vectors else None
        self.interests = nn.ModuleDict({slot(name): nn.Linear(D, D) for name in config.aggregators})
        request_width = D * sum(part is not None for part in (self.history, self.user, self.time, self.place))
        candidate_width = D * (1 + A + (self.numbers is not None))
        if self.vectors is not None:
            request_width += self.vectors.request_width
            candidate_width += self.vectors.candidate_width
        self.joining = _joining(config, request_width, candidate_width)
        self.output = nn.Linear(self.joining.width, len(inputs.components))
        self._vectors: Tensor | None = None
        self._initialise()

    def _initialise(self) -> None:
        for part in (self.event_context, self.event_feedback, self.aggregators, self.place_encoder):
            for module in () if part is None else part.modules():
                if isinstance(module, nn.Embedding):
                    nn.init.trunc_normal_(module.weight, std=0.02)

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

    def train(self, mode: bool = True) -> "MainModel":
        """Switch between training and evaluation; item vectors are computed anew after training."""
        self._vectors = None
        return super().train(mode)

    def num_activations(self, tokens: int, candidates: int) -> int:
        """How many float32 numbers training holds for so many events and candidates.

        Per event of an aggregator 8 D for its embedding and 19 D per layer; per candidate the item tower's 12 D, what
        enters the joining network, and its layers, three times each for values, gradients and what activations keep.
        """
        D, config = self.config.width, self.config
        layers = sum(one.layers for one in config.aggregators.values() if isinstance(one, SelfAttentionConfig))
        linear = [part for part in self.joining.modules() if isinstance(part, nn.Linear)]
        joined = sum(part.in_features + part.out_features for part in linear)
        return tokens * D * (8 * len(config.aggregators) + 19 * layers) + candidates * (12 * D + 3 * joined)

    # From a past to a state.

    def encode(self, histories: SequenceBatch) -> State:
        """Aggregate every behaviour: what is kept of a past. It has gradients where they are wanted."""
        histories = self.read(histories)
        behaviours = self.behaviours(histories)
        return self.state(histories, behaviours, {name: self.features(name, one) for name, one in behaviours.items()})

    def read(self, histories: SequenceBatch) -> SequenceBatch:
        """Keep the events that it reads."""
        return histories.view(self.view).last(self.max_length)

    def behaviours(self, histories: SequenceBatch) -> dict[str, Behaviour]:
        """What each aggregator reads of pasts, by its name; each item that occurs is encoded once, or was before."""
        of = {name: histories.view(one.view).last(one.length) for name, one in self.config.aggregators.items()}
        vectors_of = self._looked_up(histories)
        return {name: Behaviour(events, self._embedded(events, vectors_of(events))) for name, events in of.items()}

    def _looked_up(self, histories: SequenceBatch) -> Callable[[SequenceBatch], Float[Tensor, "B L D"]]:
        """Gives item vectors of some of the events of pasts."""
        if not (self.training or torch.is_grad_enabled()):
            return lambda events: self.candidate_vectors(as_candidates(events))
        hashes, place = torch.unique(histories.item_hash, return_inverse=True)
        dense = torch.zeros_like(hashes).scatter_(0, place.flatten(), histories.item.flatten())
        vectors = vectors_by_hash(self.item_encoder, self.items, dense, hashes)
        return lambda events: vectors[torch.searchsorted(hashes, events.item_hash)]

    def features(self, name: str, behaviour: Behaviour) -> Float[Tensor, "B L D"]:
        """What an aggregator makes of each event, before it is summed."""
        out: Tensor = self.aggregators[slot(name)](behaviour.x, behaviour.events.lengths)
        return out

    def state(
        self, histories: SequenceBatch, behaviours: Mapping[str, Behaviour], features: Mapping[str, Tensor]
    ) -> State:
        """Sum each behaviour's features: (B, A · D), beside how many events there were."""
        lengths = histories.lengths
        last_ms = histories.time_ms.new_zeros(len(histories))
        if histories.item.shape[1]:
            at_last = histories.time_ms.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
            last_ms = torch.where(lengths > 0, at_last, last_ms)
        counts = {name: one.events.lengths for name, one in behaviours.items()}
        return State(
            {
                "pooled": torch.cat([sum_of_events(features[name], counts[name]) for name in behaviours], dim=1),
                "counts": torch.stack(list(counts.values()), dim=1),
                "length": lengths,
                "last_ms": last_ms,
            }
        )

    def _embedded(self, events: SequenceBatch, item: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Item, context and feedback of each event, summed."""
        visible = events.num_visible
        last_ms = events.time_ms.gather(1, (visible - 1).clamp(min=0)) if visible.shape[1] else events.time_ms
        context = self.event_context(events.columns, gap_bucket(events.time_ms - last_ms, visible > 0))
        scale: float = self.config.width**0.5
        x: Tensor = (item + context + self.event_feedback(events.columns, events.item.shape)) * scale
        return x

    # From a state and a request to what would come of candidates.

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Float[Tensor, "B C"]]:
        """Raw outputs per component; no candidate sees another.

        Raises:   BadBatch: the candidates lack a column that it reads.
        """
        self.inputs.check(candidates)
        B, D = len(candidates.item), self.config.width
        pooled = self.pooled_norm(state.tensors["pooled"].reshape(B, -1, D))
        item = self.candidate_vectors(candidates) * D**0.5
        interests = torch.cat([part(pooled[:, n]) for n, part in enumerate(self.interests.values())], dim=1)
        of_candidate = [item, interests[:, None] * item.repeat(1, 1, pooled.shape[1])]
        if self.quantiles is not None and self.numbers is not None:
            of_candidate.append(self.numbers(self.quantiles(candidates.features, candidates.item.shape)))
        of_request = self._request(state, request, pooled)
        if self.vectors is not None:
            user, pairs = self.vectors(candidates.features)
            of_request = torch.cat([of_request, user], dim=1)
            of_candidate.append(pairs)
        logits = self.output(self.joining(of_request[:, None], torch.cat(of_candidate, dim=-1)))
        return {name: logits[..., number] for number, name in enumerate(self.components)}

    def _request(self, state: State, request: Request, pooled: Float[Tensor, "B A D"]) -> Tensor:
        counts = state.tensors["counts"].to(pooled.dtype).log1p()
        parts = [self.history(torch.cat([pooled.flatten(1), counts], dim=1))]
        gap = gap_bucket(request.time_ms - state.tensors["last_ms"], state.tensors["length"] > 0)
        if self.user_encoder is not None and self.user is not None:
            parts.append(self.user(self.user_encoder(self.item_encoder.embeddings, request.features, len(request))))
        if self.clock is not None and self.time is not None:
            parts.append(self.time(self.clock(request.time_ms, gap)))
        if self.place_encoder is not None and self.place is not None:
            parts.append(self.place(self.place_encoder(request.context, gap)))
        return torch.cat(parts, dim=1)

    def candidate_vectors(self, candidates: Candidates) -> Float[Tensor, "B C D"]:
        """Item vectors of candidates: in training those that occur, with gradients; else of the whole catalogue."""
        if self.training:
            return vectors_by_hash(self.item_encoder, self.items, candidates.item, candidates.item_hash)
        if self._vectors is None:
            self._vectors = self.item_encoder(self.items).detach()
        return candidate_vectors(self.item_encoder, self.items, self._vectors, candidates)

    def vectors_of(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """Rows of the embedding table, with gradients: vectors of items of the catalogue."""
        vectors: Tensor = self.item_encoder(self.items.take(items))
        return vectors

    def begin_with(self, means: Mapping[str, float]) -> None:
        """Let every feedback be foreseen as its mean before anything is learnt; NaN, or no mean, changes nothing."""
        known = [means.get(name, math.nan) for name in self.components]
        start_at_means(self.output, known, list(self.components.values()))

    @torch.no_grad()
    def rescale(self, scale: float, shift: float) -> None:
        """Make every score s of the one output into scale · s + shift: it becomes a part of the last layer."""
        assert len(self.components) == 1
        self.output.weight *= scale
        self.output.bias.mul_(scale).add_(shift)

    @classmethod
    def from_tensors(
        cls, config: MainModelConfig, inputs: RankerInputs, items: ItemTable, tensors: dict[str, Tensor]
    ) -> "MainModel":
        """Rebuild a model from its `state_dict`, for a catalogue that extends the one it was trained on."""
        bounds = tensors["quantiles.bounds"] if inputs.numbers else torch.zeros(0, 1)
        none: dict[str, Tensor] = dict.fromkeys(looked_up_names(inputs), torch.zeros(0, dtype=torch.int64))
        model = cls(config, inputs, items, bounds, none)  # the values that were known come with the weights
        model.load_state_dict(tensors)
        return model.eval()


def _joining(config: MainModelConfig, request_width: int, candidate_width: int) -> JoiningNetwork | CrossNetwork:
    joining, widths = config.joining, (request_width, candidate_width)
    if isinstance(joining, CrossConfig):
        return CrossNetwork(*widths, joining.crosses, joining.hidden, config.dropout)
    return JoiningNetwork(*widths, joining.hidden, config.dropout)
