"""What a training step costs in arithmetic: the FLOPs of its matrix products, part by part.

A product of an (m, k) with a (k, n) matrix takes 2 · m · k · n FLOPs; norms, activations, lookups and the optimiser are
not counted. The backward pass takes twice the forward pass: a product for each of the two factors' gradients.

Shape letters: B rows, L events of a row, T tokens of a row, D width, N predicted events, V items, n negatives.
"""

from dataclasses import dataclass

from torch import nn

from upnext.models.argus import ARGUS
from upnext.objectives.argus import ARGUSObjective
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.recent import RecentSoftmax
from upnext.objectives.softmax import FullSoftmax

__all__ = ["Flops", "StepShape", "flops_of", "parameters_of"]


@dataclass(frozen=True)
class StepShape:
    """The shape of one step: B rows, padded to L events.

    Args:     predicted: N, the events that are targets; asked: those of them whose item is predicted; items: distinct
              items among all events.
    """

    rows: int
    length: int
    predicted: int
    asked: int
    items: int


@dataclass(frozen=True)
class Flops:
    """FLOPs of one forward pass, by part.

    `encoder`: the linear layers of the transformer. `attention`: products of queries with keys and of weights with
    values, over the pairs that a causal mask leaves. `inputs`: the item tower over the batch's items, numbers, and
    the joining of tokens. `heads`: query network and feedback head. `softmax`: logits, and the vectors they need.
    """

    encoder: int = 0
    attention: int = 0
    inputs: int = 0
    heads: int = 0
    softmax: int = 0

    @property
    def forward(self) -> int:
        """All parts, forward."""
        return self.encoder + self.attention + self.inputs + self.heads + self.softmax

    @property
    def training(self) -> int:
        """Forward and backward."""
        return 3 * self.forward

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.encoder + other.encoder,
            self.attention + other.attention,
            self.inputs + other.inputs,
            self.heads + other.heads,
            self.softmax + other.softmax,
        )


def flops_of(objective: NextItemPrediction | ARGUSObjective, shape: StepShape) -> Flops:
    """Count the FLOPs of a step's forward pass.

    encoder    B · T · layers · (8 + 4 F) D²           2 · weights of each linear layer, F the feed-forward's expansion
    attention  B · layers · 4 D · T (T + 1) / 2        half of what a kernel without causality computes
    heads      N · (12 D² + 16 D² + 6 D K)             ARGUS: the query network, the feedback head of K components
               + B · L · 14 D²                         target attention, which also counts as one layer's attention
    softmax    2 · D · N · V                           full; 2 · D · N · (n + 1) sampled or recent
               + V or (n + N) runs of the item tower   ARGUS: 10 D² each without features; recent: N · (n + 1)
                                                       at most

    with T = L in SASRec and the simplified form (a start token for the last event, which is not read), 3 L + 1 in the
    full form. The objective may be only its shapes, on the device `meta`.
    """
    model, B = objective.model, shape.rows
    is_full = isinstance(model, ARGUS) and model.config.form == "full"
    T = 3 * shape.length + 1 if is_full else max(1, shape.length)
    D = model.config.width
    num_attentions = len(model.layers) + (isinstance(model, ARGUS) and model.target_attention is not None)
    of_inputs, of_heads, of_vector = 0, 0, 0
    if isinstance(model, ARGUS):
        of_vector = _per_vector(model.item_encoder)
        events = B * shape.length
        of_inputs = shape.items * of_vector + events * _per_vector(model.context_encoder)
        if not is_full:
            of_inputs += B * (T - 1) * _per_vector(model.token)
        of_heads = shape.predicted * (_per_vector(model.query) + _per_vector(model.feedback))
        if model.target_attention is not None:
            of_heads += events * _per_vector(model.target_attention)
    return Flops(
        encoder=B * T * _per_vector(model.layers),
        attention=B * num_attentions * 2 * D * T * (T + 1),
        inputs=of_inputs,
        heads=of_heads,
        softmax=_of_softmax(objective, shape.asked, D, of_vector) if shape.asked else 0,
    )


def parameters_of(objective: NextItemPrediction | ARGUSObjective) -> dict[str, int]:
    """Count parameters by what they do.

    `encoder`: the transformer's layers, what the published sizes count. `embeddings`: everything that is looked up:
    ids, features, codes, positions. `inputs`: the item tower and what makes tokens. `heads`: query network, feedback
    head, a learned temperature.
    """
    model = objective.model
    tables = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
        for parameter in module.parameters()
    }
    tables |= {id(parameter) for parameter in model.parameters(recurse=False)}  # positions, start, kinds of token
    encoder = {id(parameter) for part in (model.layers, model.norm) for parameter in part.parameters()}
    heads = {id(parameter) for parameter in objective.softmax.parameters()}
    if isinstance(model, ARGUS):
        parts = [model.query, model.feedback, *([model.target_attention] if model.target_attention else [])]
        heads |= {id(parameter) for part in parts for parameter in part.parameters()}
    counts = {"encoder": 0, "embeddings": 0, "inputs": 0, "heads": 0}
    for parameter in objective.parameters():
        own = id(parameter)
        name = "encoder" if own in encoder else "heads" if own in heads else "embeddings" if own in tables else "inputs"
        counts[name] += parameter.numel()
    return counts


def _per_vector(module: nn.Module) -> int:
    """FLOPs of one vector through every linear layer of a module, each passed once."""
    return sum(2 * part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def _of_softmax(objective: NextItemPrediction | ARGUSObjective, positions: int, width: int, of_vector: int) -> int:
    V = len(objective.trained_items)
    if isinstance(objective.softmax, FullSoftmax):
        return 2 * positions * V * width + V * of_vector
    if isinstance(objective.softmax, RecentSoftmax):  # draws of its own for each position
        n = objective.softmax.config.num_drawn
        return 2 * positions * (n + 1) * width + min(positions * (n + 1), V) * of_vector
    distinct = min(objective.softmax.sampler.num_negatives(positions), V)  # repeats are merged
    return 2 * positions * (distinct + 1) * width + (distinct + positions) * of_vector
