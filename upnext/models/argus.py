"""ARGUS: one transformer over whole histories of (context, item, feedback), with two tasks.

Next-item prediction (NIP) asks what comes next, given the context; feedback prediction (FP) asks what will come of it.
Two forms: *full*, three tokens per event, and *simplified*, one token per event and small networks on top.

Shape letters: B rows, L events, N selected events, D width, C candidates, V items, T tokens.
"""

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from upnext.base.batches import Candidates, ItemTable, Layout, Request, SequenceBatch, State
from upnext.base.ids import FIRST
from upnext.base.protocols import LINKS, Link
from upnext.base.schema import LAST_ITEM
from upnext.models.argus_config import SIZES, ARGUSConfig
from upnext.models.item_lookup import as_candidates, candidate_vectors, vectors_by_hash
from upnext.models.recent import STREAM, RecentPrior
from upnext.models.top_k import top_k_of_scores
from upnext.nn.attention import KeyValueCache
from upnext.nn.embeddings import HashedConfig, HashedEmbeddings, PlainEmbeddings
from upnext.nn.encoders import ContextEncoder, FeedbackEncoder, Inputs, ItemEncoder, gap_bucket
from upnext.nn.feedback_head import FeedbackHead
from upnext.nn.layers import TransformerLayer
from upnext.nn.target_attention import TargetAttention

__all__ = ["ARGUS", "SIZES", "ARGUSConfig"]

_CONTEXT, _ITEM = 0, 1  # the third kind of token, feedback, is never asked about
_CANDIDATES = 256
"""So many are put after a history together, in the full form."""


class ARGUS(nn.Module):
    """A causal transformer over (context, item, feedback) triples with a next-item and a feedback head.

    Every moment of a chunk is predicted in one pass. What an event may look at is every earlier event but its
    siblings, its own context, and, for its feedback, its own item; never its own feedback.

    Args:     items: the catalogue, row i being dense id i; trained: (V,) bool, the items with a training event.
    Source:   Khrylchenko et al. 2025, "Scaling Recommender Transformers to a Billion Parameters". The gap to the last
              visible event counts as a context; the feedback head adds a product of state and item to its network.
    """

    def __init__(self, config: ARGUSConfig, inputs: Inputs, items: ItemTable, trained: Bool[Tensor, " V"]) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        D = config.width
        embeddings = (
            HashedEmbeddings(config.embeddings, D)
            if isinstance(config.embeddings, HashedConfig)
            else PlainEmbeddings(_known_values(inputs, items), D)
        )
        self.item_encoder = ItemEncoder(inputs, embeddings, D)
        self.context_encoder = ContextEncoder(inputs, D)
        self.feedback_encoder = FeedbackEncoder(inputs, D)
        self.start = nn.Parameter(torch.empty(D))
        # After the start and each event; in the full form also for the event that is asked about.
        self.positions = nn.Parameter(torch.empty(config.max_length + (2 if config.form == "full" else 1), D))
        self.layers = nn.ModuleList(TransformerLayer(D, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)
        self.dropout = nn.Dropout(config.dropout)
        if config.form == "simplified":
            self.token = nn.Linear(3 * D, D)
        else:
            self.token_kinds = nn.Parameter(torch.empty(3, D))
        self.query = nn.Sequential(nn.Linear(2 * D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.feedback = FeedbackHead(D, len(inputs.feedback))
        self.target_attention = TargetAttention(D, config.heads) if config.target_attention else None
        self.trained: Tensor
        self.register_buffer("trained", trained.clone())
        self.items = items
        self.recent: RecentPrior | None = None
        if config.recent is not None:
            self.recent = RecentPrior(config.recent, config.view, int(trained.sum()), len(trained))
        self._vectors: Tensor | None = None
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.item_encoder.linear:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02)
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        if self.target_attention is not None:
            self.target_attention.begin()

    @property
    def view(self) -> str:
        """The view it reads."""
        return self.config.view

    @property
    def max_length(self) -> int:
        """The longest history it reads."""
        return self.config.max_length

    @property
    def components(self) -> Mapping[str, Link]:
        """Each feedback, with the link of its logit."""
        return {name: LINKS[kind] for name, kind in self.inputs.feedback.items()}

    def train(self, mode: bool = True) -> "ARGUS":
        """Switch between training and evaluation; item vectors are computed anew after training."""
        self._vectors = None
        return super().train(mode)

    # What training asks for.

    def moments(
        self, batch: SequenceBatch, selected: Bool[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N K"]]:
        """Next-item queries and feedback logits of selected events, from one pass over all.

        Args:     batch: chunks of the model's view, at most `max_length + 1` events each; the last is only asked about.
        Returns:  (N, D) queries, whose dot product with item vectors is the logit; (N, K) logits, a column per
                  feedback in the order of `components`.
        """
        context, item, feedback = self._parts(batch)
        if self.config.form == "full":
            hidden = self._transform(*self._full_tokens(context, item, feedback, batch))
            prior, of_item = hidden[:, 1::3][selected], hidden[:, 2::3][selected]
        else:
            before = max(0, batch.item.shape[1] - 1)
            earlier = (context[:, :before], item[:, :before], feedback[:, :before])
            states = self._transform(*self._simplified_tokens(*earlier, batch.first(before)))
            priors = states.gather(1, batch.num_visible[..., None].expand_as(context))
            prior = of_item = priors[selected]
            if self.target_attention is not None:
                memory = self.target_attention.memory(earlier[1], states, earlier[2])
                of_item = prior + self.target_attention(item, priors, memory, batch.num_visible)[selected]
        c, i = context[selected], item[selected]
        return self._queries(prior, c), self.feedback(of_item, c, i)

    def states(self, batch: SequenceBatch) -> Float[Tensor, "B moments D"]:
        """The state after the first k events of each row, before any request: (B, L+1, D), [:, 0] after none."""
        parts = self._parts(batch)
        if self.config.form == "full":
            return self._transform(*self._full_tokens(*parts, batch))[:, ::3]
        return self._transform(*self._simplified_tokens(*parts, batch))

    def num_activations(self, tokens: int) -> int:
        """How many float32 numbers training holds for T events: T · D · (19 · layers + 13) per token, and the heads'.

        The full form has three tokens per event. Encoders, what they are joined to, and the two heads keep about 40 D
        for each event in either form; target attention keeps about 12 D more.
        """
        per_event = 3 if self.config.form == "full" else 1
        heads = 52 if self.config.target_attention else 40
        return tokens * self.config.width * (per_event * (19 * self.config.layers + 13) + heads)

    def vectors_of(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """Vectors of items of the catalogue, with gradients."""
        return self._encode_items(self.items.take(items))

    # What recommending asks for.

    @torch.no_grad()
    def encode(self, histories: SequenceBatch) -> State:
        """Encode histories: the last state, or, in the full form, keys and values of every token."""
        histories = histories.view(self.view).last(self.max_length)
        parts = self._parts(histories)
        lengths = histories.lengths
        rows = torch.arange(len(histories), device=lengths.device)
        last_ms = last_item = histories.time_ms.new_zeros(len(histories))
        if histories.item.shape[1]:
            last_ms = torch.where(lengths > 0, histories.time_ms[rows, (lengths - 1).clamp(min=0)], last_ms)
            last_item = histories.item[rows, (lengths - 1).clamp(min=0)]  # 0 in a row without events
        known = {"length": lengths, "last_ms": last_ms}
        if self.config.recent is not None and self.config.recent.follows:
            known[LAST_ITEM] = last_item
        if self.config.form == "simplified":
            return State(known | self._simplified_state(parts, histories))
        caches = [KeyValueCache() for _ in self.layers]
        self._transform(*self._full_tokens(*parts, histories), caches)
        keys = torch.stack([_held(cache.keys) for cache in caches], dim=2)  # (B, H, layers, T, D/H)
        values = torch.stack([_held(cache.values) for cache in caches], dim=2)
        # Tokens come second, where states of different lengths are padded when they are joined.
        return State(known | {"keys": keys.permute(0, 3, 2, 1, 4), "values": values.permute(0, 3, 2, 1, 4)})

    def _simplified_state(self, parts: tuple[Tensor, Tensor, Tensor], histories: SequenceBatch) -> dict[str, Tensor]:
        """The last state, and what candidates attend to, if they do."""
        x, layout = self._simplified_tokens(*parts, histories)
        if self.target_attention is None:
            for layer in self.layers[:-1]:
                x = layer(x, layout)
            last = cast("TransformerLayer", self.layers[-1])
            return {"hidden": self.norm(last.last(x, layout.lengths))}
        states = self._transform(x, layout)
        keys, values = self.target_attention.memory(parts[1], states, parts[2])
        return {"hidden": states[torch.arange(len(x)), histories.lengths], "keys": keys, "values": values}

    @property
    def shares_prefixes(self) -> bool:
        """Whether one pass over a history gives the states after every event of it, as `encode_prefixes` does."""
        recent = self.config.recent
        return self.config.form == "simplified" and not self.config.target_attention and recent is None

    @torch.no_grad()
    def encode_prefixes(self, histories: SequenceBatch, row: Int[Tensor, " n"], count: Int[Tensor, " n"]) -> State:
        """What `encode` makes of the first `count` events of some rows, from one pass over all.

        Args:     histories: at most `max_length` events each, of the model's view.
        """
        last = (count - 1).clamp(min=0)
        last_ms = histories.time_ms[row, last] if histories.item.shape[1] else torch.zeros_like(count)
        known = {"length": count, "last_ms": last_ms.where(count > 0, 0)}
        return State(known | {"hidden": self.states(histories)[row, count]})

    def query_vectors(self, state: State, request: Request) -> Float[Tensor, "B D"]:
        """The next-item query under the request's context."""
        context = self._request_context(state, request)
        if self.config.form == "simplified":
            return self._queries(state.tensors["hidden"], context)
        return self._queries(self._ask(state, context, context[:, None][:, :0])[:, 0], context)

    def item_vectors(self, items: ItemTable) -> Float[Tensor, "V D"]:
        """What the item tower makes of items, known or not; zeros for those that cannot be scored."""
        return self._encode_items(items) * self.can_score(items)[:, None]

    def can_score(self, items: ItemTable) -> Bool[Tensor, " V"]:
        """(V,) bool: items with a training event, those of which some feature is known, and with a prior all others."""
        known = self._is_trained(items) | (self.recent is not None)
        for column in items.features.values():
            known = known | (column.observed if column.observed.dim() == 1 else column.observed.any(1))
        return known & (items.item_hash != 0)

    def score(self, state: State, request: Request, items: Int[Tensor, "_ C"]) -> Float[Tensor, "B C"]:
        """Logits of the next item, the prior's included; -inf for items that cannot be scored."""
        queries, vectors, can = self.query_vectors(state, request), self.vectors(), self.can_score(self.items)
        if len(items) == 1:
            scores = queries @ vectors[items[0]].T
        else:
            scores = torch.einsum("bd,bcd->bc", queries, vectors[items])
        if (prior := self.offsets(state, request)) is not None:
            scores = scores + (prior[:, items[0]] if len(items) == 1 else prior.expand(len(items), -1).gather(1, items))
        return scores.masked_fill(~can[items], -torch.inf)

    def offsets(self, state: State, request: Request) -> Float[Tensor, "_ W"] | None:
        """What is added to the dot products with every item, by dense id: the logarithm of its prior."""
        return None if self.recent is None else self.recent.log_q(request, state.tensors.get(LAST_ITEM))

    def top_k(
        self, state: State, request: Request, k: int, allowed: Tensor | None = None
    ) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"]]:
        """The k most probable next items."""
        everything = torch.arange(len(self.items), device=self.items.item.device)[None]
        return top_k_of_scores(self.score(state, request, everything), k, allowed)

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Float[Tensor, "B C"]]:
        """Feedback logits of each candidate, which sees the history, the context and itself, and no other candidate."""
        context, item = self._request_context(state, request), self.candidate_vectors(candidates)
        if self.config.form == "simplified":
            prior = state.tensors["hidden"][:, None]
            if self.target_attention is not None:
                memory = state.tensors["keys"], state.tensors["values"]
                prior = prior + self.target_attention(item, prior, memory, state.tensors["length"][:, None])
        else:
            # In parts: candidates do not see each other, and the mask that says so grows with their square.
            parts = torch.split(item, _CANDIDATES, dim=1)
            prior = torch.cat([self._ask(state, context, part)[:, 1:] for part in parts], dim=1)
        logits = self.feedback(prior, context[:, None], item)
        return {name: logits[..., number] for number, name in enumerate(self.inputs.feedback)}

    def candidate_vectors(self, candidates: Candidates) -> Float[Tensor, "B C D"]:
        """Item vectors of candidates; those outside the catalogue are known by hash and the features they bring."""
        return candidate_vectors(self._encode_items, self.items, self.vectors(), candidates)

    def vectors(self) -> Float[Tensor, "V D"]:
        """Vectors of the whole catalogue; in evaluation they are computed once."""
        if self._vectors is not None:
            return self._vectors
        vectors = self._encode_items(self.items)
        if not self.training:
            self._vectors = vectors.detach()
        return vectors

    def _is_trained(self, items: ItemTable) -> Bool[Tensor, " V"]:
        return self.trained[torch.where(items.item < len(self.trained), items.item, 0)]

    def _encode_items(self, items: ItemTable) -> Float[Tensor, "V D"]:
        """Item vectors; of a model with a prior, what it never trained has no id, and in training some others."""
        known = None
        if self.config.recent is not None:
            known = self._is_trained(items)
            if self.training:
                known = known & (torch.rand(len(known), device=known.device) >= self.config.recent.strangers)
        vectors: Tensor = self.item_encoder(items, known)
        return vectors

    # How events become tokens.

    def _parts(self, batch: SequenceBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Context, item and feedback of every event: (B, L, D) each."""
        if self.training or torch.is_grad_enabled():
            item = vectors_by_hash(self._encode_items, self.items, batch.item, batch.item_hash)
        else:
            item = self.candidate_vectors(as_candidates(batch))
        visible = batch.num_visible
        has_earlier = visible > 0
        last_ms = batch.time_ms.gather(1, (visible - 1).clamp(min=0)) if visible.shape[1] else batch.time_ms
        context = self.context_encoder(batch.columns, gap_bucket(batch.time_ms - last_ms, has_earlier))
        return context, item, self.feedback_encoder(batch.columns, batch.item.shape)

    def _simplified_tokens(
        self, context: Tensor, item: Tensor, feedback: Tensor, batch: SequenceBatch
    ) -> tuple[Tensor, Layout]:
        """A start token, then one per event."""
        B, L, D = context.shape
        scale = D**0.5
        events = self.token(torch.cat([context, item, feedback], dim=-1)) + item
        x = torch.cat([self.start.expand(B, 1, -1), events], dim=1) * scale + self.positions[: L + 1]
        event = torch.arange(L + 1, device=x.device).expand(B, -1)
        return x, Layout(batch.lengths + 1, _prepend(batch.time_ms, 0), event, _prepend(batch.request, -1))

    def _full_tokens(
        self, context: Tensor, item: Tensor, feedback: Tensor, batch: SequenceBatch
    ) -> tuple[Tensor, Layout]:
        """A start token, then context, item and feedback of each event."""
        B, _, D = context.shape
        triples = torch.stack([context, item, feedback], dim=2) * D**0.5 + self.token_kinds
        # Siblings share a position: each stands where it would be asked for.
        triples = triples + self.positions[batch.num_visible + 1][:, :, None]
        x = torch.cat([(self.start * D**0.5 + self.positions[0]).expand(B, 1, -1), triples.flatten(1, 2)], dim=1)

        def spread(values: Tensor, first: int) -> Tensor:
            return _prepend(values.repeat_interleave(3, dim=1), first)

        event, request = spread(batch.layout.event, -1), spread(batch.request, -1)
        same = (batch.request[:, 1:] == batch.request[:, :-1]) & batch.mask[:, 1:]
        times = spread(batch.time_ms, 0)
        return x, Layout(3 * batch.lengths + 1, times, event, request, siblings_apart=bool(same.any()))

    def _transform(self, x: Tensor, layout: Layout, caches: list[KeyValueCache] | None = None) -> Tensor:
        x = self.dropout(x)
        for number, layer in enumerate(self.layers):
            x = layer(x, layout, None if caches is None else caches[number])
        out: Tensor = self.norm(x)
        return out

    def _queries(self, prior: Tensor, context: Tensor) -> Tensor:
        query: Tensor = prior + self.query(torch.cat([prior, context], dim=-1))
        return query

    def _request_context(self, state: State, request: Request) -> Tensor:
        gap = request.time_ms - state.tensors["last_ms"]
        context: Tensor = self.context_encoder(request.context, gap_bucket(gap, state.tensors["length"] > 0))
        return context

    def _ask(self, state: State, context: Float[Tensor, "B D"], items: Float[Tensor, "B C D"]) -> Tensor:
        """Put a context and candidates after a history, in the full form: (B, 1 + C, D) hidden states."""
        (B, C, D), lengths = items.shape, state.tensors["length"]
        tokens = torch.cat([context[:, None], items], dim=1) * D**0.5 + self.positions[lengths + 1][:, None]
        kinds = torch.tensor([_CONTEXT] + [_ITEM] * C, device=context.device)
        x = tokens + self.token_kinds[kinds]
        keys, values = (state.tensors[name].permute(2, 0, 3, 1, 4) for name in ("keys", "values"))
        caches = [KeyValueCache(k, v) for k, v in zip(keys, values, strict=True)]
        past = torch.arange(keys.shape[3], device=x.device) < (3 * lengths + 1)[:, None]
        own = torch.eye(1 + C, dtype=torch.bool, device=x.device)
        own[:, 0] = True  # the context comes first and sees only itself; each candidate sees it and itself
        visible = torch.cat([past[:, None].expand(B, 1 + C, -1), own.expand(B, -1, -1)], dim=2)
        nothing = lengths.new_zeros(B, 1 + C)
        return self._transform(x, Layout(lengths, nothing, nothing, nothing, visible), caches)

    @classmethod
    def from_tensors(cls, config: ARGUSConfig, inputs: Inputs, items: ItemTable, tensors: dict[str, Tensor]) -> "ARGUS":
        """Rebuild a model from its `state_dict`, for a catalogue that extends the one it was trained on."""
        model = cls(config, inputs, items, tensors["trained"])
        model.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(STREAM)})
        if model.recent is not None:
            model.recent.load(tensors)
        return model.eval()


def _known_values(inputs: Inputs, items: ItemTable) -> dict[str, Tensor]:
    """Every distinct value of the id and of each feature that has values to look up."""
    known = {"item": items.item_hash[FIRST:]}
    for name, kind in inputs.item_features.items():
        if kind in ("categorical", "multi", "text"):
            known[name] = items.features[name].values[items.features[name].observed]
    return known


def _prepend(values: Tensor, first: int) -> Tensor:
    return torch.cat([values.new_full((len(values), 1), first), values], dim=1)


def _held(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
