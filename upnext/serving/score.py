"""Score: what a release's models say of any (user, item, time): point in time, as features for other models.

For each row a model reads the user's events strictly before the row's time (less its lag), the row's contexts, and the
item: it may be one that nobody knows, and is then what its id alone makes of it. Shape letters: B rows of a table,
V catalogue, D vector width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.batches import Candidates, Column, ItemTable, Request, State
from upnext.base.errors import BadRequest
from upnext.base.ids import UNKNOWN, item_hash
from upnext.base.protocols import Link, Ranker, Retriever, VectorRetriever, expectation, offsets_of
from upnext.models.build import AnyRanker
from upnext.models.stream import stream_of
from upnext.serving.chain import with_scores
from upnext.serving.columns import columns_of
from upnext.serving.histories import Histories
from upnext.serving.pasts import Pasts
from upnext.serving.release import Release
from upnext.serving.retrieve import encode_ranges, lag_ms, make_request

__all__ = ["Asked", "Scorer"]

_TOKENS = 8192
"""So many are encoded together."""

_ROWS = 256
"""Of so many rows the offsets are computed together, where a model adds some to its dot products."""


@dataclass(frozen=True)
class Asked:
    """Rows of a table: who, what, when (B,), and in which contexts."""

    user_ids: pa.Array
    item_ids: pa.Array
    time_ms: NDArray[np.int64]
    contexts: Sequence[Mapping[str, str | float]]


class Scorer:
    """Scores rows with the models of a release: its retriever, all that its ranker asks, and its ranker.

    Args:     with_vectors: also give the vectors of user and item, of models whose score is their dot product.
    Raises:   BadRequest: a feedback is called as one of the columns beside it.
    """

    def __init__(self, release: Release, histories: Histories, with_vectors: bool) -> None:
        self.release, self.histories, self.with_vectors = release, histories, with_vectors
        self.models: dict[str, AnyRanker] = {release.settings.retriever: release.retriever}
        self.models |= {name: model for name, model in release.ordering.items() if name not in self.models}
        for name, model in self.models.items():
            _check_names(name, model)
        items = release.catalogue.items
        with torch.inference_mode():
            self._vectors = {
                name: (model.item_vectors(items), model.can_score(items))
                for name, model in self.models.items()
                if isinstance(model, VectorRetriever)
            }
        for model in self.models.values():
            if (counts := stream_of(model)) is not None:
                counts.cover(len(histories.assortment))

    def columns(self) -> dict[str, int]:
        """The columns that `score` gives, in order, with their widths; 0 for a number."""
        found: dict[str, int] = {}
        for name, model in self.models.items():
            if isinstance(model, Retriever):
                found[f"{name}.score"] = 0
            if isinstance(model, Ranker):
                found |= {f"{name}.{component}": 0 for component in model.components}
            if self.with_vectors and name in self._vectors:
                width = self._vectors[name][0].shape[1]
                found |= {f"{name}.user_vector": width, f"{name}.item_vector": width}
        return found

    def score(self, asked: Asked) -> dict[str, NDArray[np.float32]]:
        """Score some rows.

        Returns:  by column (B,) or (B, D) float32: each model's score as a retriever, -inf where it cannot score the
                  item; what it expects of each component, or its raw output where that only orders; vectors.
        """
        users = pc.dictionary_encode(asked.user_ids)
        place = users.indices.to_numpy()
        everything = self.histories.read_many(users.dictionary.to_pylist())
        pasts = everything.below(len(self.release.catalogue))
        dense = self.release.users.encode(asked.user_ids)
        request = make_request(self.release, asked.time_ms, dense, asked.contexts)
        items = self._items(asked.item_ids)
        columns = columns_of(self.histories, self.histories.assortment, everything, request, place)
        found: dict[str, NDArray[np.float32]] = {}
        with torch.inference_mode():
            states = {n: self._states(one, pasts, place, asked.time_ms) for n, one in self.models.items()}
            candidates = items.candidates()
            if columns is not None:
                candidates = columns.given_to(candidates, slice(None), items.of_all[:, None])
            candidates = with_scores(self.release, states, request, candidates)
            for name, model in self.models.items():
                found |= self._by(name, model, states[name], request, items, candidates)
        return found

    def _states(self, model: AnyRanker, pasts: Pasts, user: NDArray[np.int64], time_ms: NDArray[np.int64]) -> State:
        """The state of each row: of rows that know the same events it is computed once."""
        seen = (pasts if isinstance(model, Ranker) else pasts.without_columns()).in_view(model.view)
        starts = seen.offsets[user]
        ends = starts + seen.count_before(user, time_ms - lag_ms(model, self.release.settings.lag))
        ranges, row = np.unique(np.stack([starts, ends]), axis=1, return_inverse=True)
        state = encode_ranges(model, seen.events, ranges[0], ranges[1], _TOKENS)
        return state.take(torch.from_numpy(row.reshape(-1)))

    def _items(self, ids: pa.Array) -> "_Items":
        catalogue, assortment = self.release.catalogue, self.histories.assortment
        unique = pc.dictionary_encode(ids)
        hashes = item_hash(unique.dictionary.to_pylist())[unique.indices.to_numpy()]
        dense = catalogue.vocabulary.encode(ids)
        strange = np.flatnonzero(dense == UNKNOWN)
        names = ids.take(pa.array(strange)).to_pylist()
        numbers = [assortment.dense(name) for name in names]
        rows = [assortment.columns(number) if number != UNKNOWN else {} for number in numbers]
        table, of_all = catalogue.encode_told(names, rows), dense.copy()
        of_all[strange] = numbers
        return _Items(torch.from_numpy(dense), of_all, torch.from_numpy(hashes), torch.from_numpy(strange), table)

    @staticmethod
    def _offsets(model: VectorRetriever, state: State, request: Request, items: Tensor) -> Tensor:
        """What is added to the dot product of each row, (B,): computed for all items, so for some rows at a time."""
        parts = []
        for rows in torch.split(torch.arange(len(items)), _ROWS):
            found = offsets_of(model, state.take(rows), request.take(rows))
            assert found is not None  # a model with a stream has some
            parts.append(found.expand(len(rows), -1).gather(1, items[rows, None])[:, 0])
        return torch.cat([torch.empty(0), *parts])

    def _by(
        self,
        name: str,
        model: AnyRanker,
        state: State,
        request: Request,
        items: "_Items",
        candidates: Candidates,
    ) -> dict[str, NDArray[np.float32]]:
        found: dict[str, Tensor] = {}
        if name in self._vectors:
            vectors, can = self._vectors[name]
            retriever = cast("VectorRetriever", model)
            user, item = retriever.query_vectors(state, request), vectors[items.dense]
            can = can[items.dense]
            if len(items.strange):
                item[items.strange] = retriever.item_vectors(items.table)
                can[items.strange] = retriever.can_score(items.table)
            score = (user * item).sum(1)
            if stream_of(model) is not None:
                score += self._offsets(retriever, state, request, torch.from_numpy(items.of_all))
            found[f"{name}.score"] = score.masked_fill(~can, -torch.inf)
            if self.with_vectors:
                found |= {f"{name}.user_vector": user, f"{name}.item_vector": item}
        elif isinstance(model, Retriever):
            scores = model.score(state, request, items.dense[:, None])[:, 0]
            found[f"{name}.score"] = scores.masked_fill(items.dense == UNKNOWN, -torch.inf)
        if isinstance(model, Ranker):
            outputs = model.predict(state, request, candidates)
            for component, link in model.components.items():
                found.setdefault(f"{name}.{component}", expectation(outputs[component], link)[:, 0])
        return {column: values.numpy() for column, values in found.items()}


def _check_names(name: str, model: AnyRanker) -> None:
    links = model.components if isinstance(model, Ranker) else {}
    for component in ("score", "user_vector", "item_vector"):
        if links.get(component, Link.ORDER_ONLY) is not Link.ORDER_ONLY:
            raise BadRequest(
                f"{name!r} foresees a feedback {component!r}, and a column {name}.{component} stands for something"
                " else; rename the feedback in the source"
            )


@dataclass(frozen=True)
class _Items:
    """The items of B rows: dense ids and hashes (B,), those of all items too, also of new ones; the rows of those that
    the catalogue lacks, and their table."""

    dense: Tensor
    of_all: NDArray[np.int64]
    hashes: Tensor
    strange: Tensor
    table: ItemTable

    def candidates(self) -> Candidates:
        """One candidate per row; items that the catalogue lacks bring their features."""
        B = len(self.dense)
        features = {}
        for name, column in self.table.features.items() if len(self.strange) else ():
            values = column.values.new_zeros(B, 1, *column.values.shape[1:])
            observed = column.observed.new_zeros(B, 1, *column.observed.shape[1:])
            values[self.strange, 0], observed[self.strange, 0] = column.values, column.observed
            features[name] = Column(values, observed)
        mask = torch.ones(B, 1, dtype=torch.bool)
        return Candidates(torch.from_numpy(self.of_all)[:, None], self.hashes[:, None], mask, features)
