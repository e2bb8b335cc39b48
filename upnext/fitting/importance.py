"""Permutation importance of neural rankers: how much worse an answer is when one input says what it says of others.

Shape letters: B rows of requests, C candidates, n of them real, D width, A aggregators.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from upnext.base.batches import Candidates, Column, Request, State
from upnext.base.schema import vector_columns
from upnext.fitting.shown import ShownSets
from upnext.models.main_model import MainModel
from upnext.models.youtube import YouTubeRanker
from upnext.objectives.ranking import NeuralRanker, OrderRanking, PointwiseRanking, RankingBatch
from upnext.training.batches import length_batches

__all__ = ["permutation_importance"]


@dataclass(frozen=True)
class _Inputs:
    """What a model predicts from: states and requests (B), candidates (B, C)."""

    state: State
    request: Request
    candidates: Candidates


_Shuffle = Callable[[_Inputs, torch.Generator], _Inputs]


@torch.no_grad()
def permutation_importance(
    ranking: PointwiseRanking | OrderRanking, held: ShownSets, num_sets: int, tokens_per_batch: int
) -> dict[str, dict[str, float]]:
    """By how much each loss rises, as a share of what it is, when one input is permuted across what was held out.

    What a candidate has (its item, a number, the vectors of a model) is permuted across candidates; what a request has
    (an aggregator, the user, time, place) across requests. What was not observed is permuted with the rest.

    Args:     held: sets that were not trained on; num_sets: on so many, drawn once with a fixed seed.
    Returns:  by term of the loss, by input; inputs that share what they know hide each other.
    """
    model = ranking.model
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    chosen = np.sort(np.random.default_rng(0).permutation(len(held))[:num_sets])
    shuffles = {"": _as_it_is, **dict(_shuffles(model))}
    sums: dict[str, dict[str, list[float]]] = {name: {} for name in shuffles}
    generator = torch.Generator().manual_seed(0)
    for rows in length_batches(held.lengths[chosen], tokens_per_batch):
        batch = held.batch(chosen[rows]).to(device)
        inputs = _Inputs(model.encode(batch.histories).take(batch.set), batch.request, batch.candidates)
        for name, shuffle in shuffles.items():
            _add(sums[name], ranking, batch, shuffle(inputs, generator))
    model.train(was_training)
    losses = {
        name: {term: total / (weight or 1.0) for term, (total, weight) in of.items()} for name, of in sums.items()
    }
    whole = losses.pop("")
    return {
        term: {name: (of[term] - loss) / max(abs(loss), 1e-12) for name, of in losses.items()}
        for term, loss in whole.items()
    }


def _add(
    sums: dict[str, list[float]], ranking: PointwiseRanking | OrderRanking, batch: RankingBatch, inputs: _Inputs
) -> None:
    outputs = ranking.model.predict(inputs.state, inputs.request, inputs.candidates)
    for term, (total, weight) in ranking.losses_of(batch, outputs).items():
        found = sums.setdefault(term, [0.0, 0.0])
        found[0], found[1] = found[0] + total.item(), found[1] + weight.item()


def _as_it_is(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
    return inputs


def _shuffles(model: NeuralRanker) -> Iterator[tuple[str, _Shuffle]]:
    """Every input of a model by name, and what permutes it."""
    yield "item", _item
    for name in model.inputs.numbers:
        yield name, _of_candidates(name)
    for name in model.inputs.vectors:
        yield f"{name} (vectors)", _of_candidates(*vector_columns(name))
    if isinstance(model, YouTubeRanker):
        yield "watched", _of_state("watched")
    if isinstance(model, MainModel):
        for number, name in enumerate(model.config.aggregators):
            yield f"{name} (aggregator)", _aggregator(number, model.config.width)
        if model.clock is not None:
            yield "time", _time
    if model.inputs.user_features:
        yield "user", _user
    if model.inputs.events.contexts:
        yield "place", _place


def _item(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
    some, order = inputs.candidates, _order(int(inputs.candidates.mask.sum()), generator)
    item, hashes = (_mixed(of, some.mask, order) for of in (some.item, some.item_hash))
    return replace(inputs, candidates=replace(some, item=item, item_hash=hashes))


def _of_candidates(*names: str) -> _Shuffle:
    def shuffle(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
        some, order = inputs.candidates, _order(int(inputs.candidates.mask.sum()), generator)
        rows = _order(len(some.mask), generator)
        mixed = {}
        for name in names:
            values, observed = some.features[name].values, some.features[name].observed
            if name.endswith(".user_vector"):  # of a request, not of a candidate
                mixed[name] = Column(values[rows][:, :1].expand_as(values), observed)
            else:
                mixed[name] = Column(_mixed(values, some.mask, order), _mixed(observed, some.mask, order))
        return replace(inputs, candidates=replace(some, features={**some.features, **mixed}))

    return shuffle


def _of_state(*names: str) -> _Shuffle:
    def shuffle(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
        order = _order(len(inputs.state), generator)
        mixed = {name: inputs.state.tensors[name][order] for name in names}
        return replace(inputs, state=State({**inputs.state.tensors, **mixed}))

    return shuffle


def _aggregator(number: int, width: int) -> _Shuffle:
    def shuffle(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
        pooled, counts = (inputs.state.tensors[name].clone() for name in ("pooled", "counts"))
        order, own = _order(len(pooled), generator), slice(number * width, (number + 1) * width)
        pooled[:, own], counts[:, number] = pooled[order][:, own], counts[order][:, number]
        return replace(inputs, state=State({**inputs.state.tensors, "pooled": pooled, "counts": counts}))

    return shuffle


def _time(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
    order = _order(len(inputs.request), generator)
    known = {name: inputs.state.tensors[name][order] for name in ("last_ms", "length")}
    request = replace(inputs.request, time_ms=inputs.request.time_ms[order])
    return replace(inputs, state=State({**inputs.state.tensors, **known}), request=request)


def _user(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
    order = _order(len(inputs.request), generator)
    features = {name: column.take(order) for name, column in inputs.request.features.items()}
    return replace(inputs, request=replace(inputs.request, features=features))


def _place(inputs: _Inputs, generator: torch.Generator) -> _Inputs:
    order = _order(len(inputs.request), generator)
    context = {name: column.take(order) for name, column in inputs.request.context.items()}
    return replace(inputs, request=replace(inputs.request, context=context))


def _order(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)


def _mixed(values: Tensor, mask: Tensor, order: Tensor) -> Tensor:
    """What stands at real candidates, in another order."""
    out = values.clone()
    out[mask] = values[mask][order.to(mask.device)]
    return out
