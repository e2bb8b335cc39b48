"""Ranking a retriever over cases: the whole catalogue is scored at each moment, as the server would.

Shape letters: K cases, T targets, B cases of a block, V catalogue.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.batches import Column, Request
from upnext.base.ids import FIRST
from upnext.base.protocols import Ranker, Retriever, lag_of
from upnext.base.schema import context_column
from upnext.evaluation.cases import Cases
from upnext.events.impressions import known_until
from upnext.events.log import EventLog
from upnext.metrics.ranking import rank_of_targets, top_k

__all__ = ["Histories", "Ranking", "contexts_of", "rank_cases", "retriever_scores"]

_SCORES_PER_BLOCK = 4_000_000
_TOKENS_PER_BLOCK = 25_600
_CPU = torch.device("cpu")

Scores = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Scores some cases, given by number: (B, V) over all dense ids."""


@dataclass(frozen=True)
class Ranking:
    """Where the targets came: ranks (T,), and the best items (K, k), -1 where there were fewer."""

    ranks: NDArray[np.float64]
    top: NDArray[np.int64]

    def first(self, k: int) -> "Ranking":
        """The same with lists of at most k items, in memory of their own."""
        return Ranking(self.ranks, self.top[:, :k].copy())


class Histories:
    """Reads from a log what lies before each case, in a view."""

    def __init__(self, log: EventLog, view: str, with_columns: bool = False) -> None:
        self.log = log
        self.rows, events = log.in_view(view)
        self.events = events if with_columns else events.without_columns()

    def ranges(self, cases: Cases, length: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each case's history lies in `events`: (K,) starts and ends; at most `length` events."""
        ends = np.searchsorted(self.rows, cases.history_end)
        starts = np.searchsorted(self.rows, self.log.offsets[cases.user])
        return (starts if length is None else np.maximum(starts, ends - length)), ends

    def known_ranges(
        self, cases: Cases, length: int, lag_ms: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same of what a model with a lag may know."""
        ends = known_until(self.log, self.rows, cases.user, cases.time_ms, cases.history_end, lag_ms)
        return np.maximum(np.searchsorted(self.rows, self.log.offsets[cases.user]), ends - length), ends

    def repeat_in(self, rows: NDArray[np.bool_]) -> bool:
        """Whether any of the log's rows (N,) repeats an item that its user chose before, in the view."""
        pairs = np.stack([self.log.rows.user[self.rows], self.log.rows.item[self.rows]])
        _, first = np.unique(pairs, axis=1, return_index=True)
        is_repeat = np.ones(len(self.rows), bool)
        is_repeat[first] = False
        return bool((is_repeat & rows[self.rows]).any())


def retriever_scores(
    model: Retriever,
    log: EventLog,
    cases: Cases,
    num_items: int,
    device: torch.device = _CPU,
    user_features: Mapping[str, Column] | None = None,
) -> Scores:
    """Score cases with a model, on its device: encode the history before each, then score the whole catalogue.

    Args:     user_features: by name, a row per dense user id.
    """
    histories = Histories(log, model.view, with_columns=isinstance(model, Ranker))
    starts, ends = histories.known_ranges(cases, model.max_length, lag_of(model))
    everything = torch.arange(num_items, device=device)[None]

    def scores(block: NDArray[np.int64]) -> NDArray[np.float32]:
        some = cases.take(block)
        with torch.inference_mode():
            state = model.encode(histories.events.batch(starts[block], ends[block]).to(device))
            user = torch.from_numpy(some.user)
            features = {name: column.take(user) for name, column in (user_features or {}).items()}
            context = contexts_of(log, some.first_target)
            request = Request(torch.from_numpy(some.time_ms), user, context, features).to(device)
            result: Tensor = model.score(state, request, everything)
        return result.cpu().numpy()

    return scores


def contexts_of(log: EventLog, rows: NDArray[np.int64]) -> dict[str, Column]:
    """The contexts of events, under their full names, as a request carries them."""
    columns = {name: log.rows.columns[name] for name in map(context_column, log.schema.contexts)}
    return {
        name: Column(torch.from_numpy(column.values[rows]), torch.from_numpy(column.observed[rows]))
        for name, column in columns.items()
    }


def rank_cases(
    scores: Scores,
    cases: Cases,
    histories: Histories,
    num_items: int,
    *,
    k: int,
    remove_history: tuple[bool, ...],
    max_length: int = 1,
) -> list[Ranking]:
    """Rank the targets of every case in the whole catalogue.

    Args:     histories: whose items are removed from the ranking, for each True in `remove_history`; max_length:
              the model's, to bound the memory of a block.
    Returns:  a Ranking per entry of `remove_history`, all from the same scores.
    """
    rankings = [Ranking(np.full(len(cases.target), np.inf), np.full((len(cases), k), -1)) for _ in remove_history]
    starts, ends = histories.ranges(cases, max_length)
    by_length = np.argsort(ends - starts, kind="stable")  # similar lengths together: little padding
    size = max(1, min(_SCORES_PER_BLOCK // num_items, _TOKENS_PER_BLOCK // max(1, max_length)))
    first_target = np.searchsorted(cases.case, np.arange(len(cases) + 1))
    for begin in range(0, len(cases), size):
        block = np.sort(by_length[begin : begin + size])
        some = cases.take(block)
        block_scores = scores(block)
        rows = np.concatenate([np.arange(first_target[case], first_target[case + 1]) for case in block])
        block_scores[:, :FIRST] = -np.inf
        for ranking, removes in sorted(zip(rankings, remove_history, strict=True), key=lambda pair: pair[1]):
            if removes:  # a target that was in the history is removed too: the server would not have shown it
                block_scores[_in_history(some, histories)] = -np.inf
            ranking.ranks[rows] = rank_of_targets(block_scores, some.case, some.target)
            ranking.top[block] = top_k(block_scores, k)
    return rankings


def _in_history(cases: Cases, histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which (case, item) pairs the histories hold: row and column numbers."""
    starts, ends = histories.ranges(cases)
    row = np.repeat(np.arange(len(cases)), ends - starts)
    rows = np.arange(len(row)) - np.repeat(np.cumsum(ends - starts) - (ends - starts), ends - starts) + starts[row]
    return row, histories.events.item[rows]
