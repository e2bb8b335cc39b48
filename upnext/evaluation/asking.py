"""Asking a model about candidates of the past, as the server would have: what it knew, who asked, about what.

Shape letters: N things asked about, R requests, B requests of a block, C candidates.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import Candidates, Column, Events, FlatColumn, ItemTable, Request, State
from upnext.base.protocols import Model, lag_of, prefixes_of
from upnext.base.schema import context_column
from upnext.evaluation.cases import Cases
from upnext.evaluation.ranking import Histories, contexts_of
from upnext.events.impressions import known_until
from upnext.events.log import EventLog

__all__ = ["Asked", "Says", "ask_about_cases", "ask_about_rows", "column_at", "said"]

Ints = NDArray[np.int64]
_TOKENS_PER_BLOCK = 25_600
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Asked:
    """A block of requests: `place` (B, C) numbers what is asked about, where `mask` (B, C) says that there is any."""

    place: Ints
    mask: NDArray[np.bool_]
    state: State
    request: Request
    candidates: Candidates


class Says(Protocol):
    """What says something of candidates (B, C), by name: numbers (B, C), or vectors (B, C, D)."""

    def columns(self, state: State, request: Request, candidates: Candidates) -> dict[str, Column]:
        """It says so."""
        ...


def said(says: Says, blocks: Iterable[Asked], count: int) -> dict[str, FlatColumn]:
    """What is said of everything that is asked about, by name (N,) or (N, D)."""
    found: dict[str, FlatColumn] = {}
    for block in blocks:
        with torch.inference_mode():
            columns = says.columns(block.state, block.request, block.candidates)
        place, mask = block.place[block.mask], torch.from_numpy(block.mask)
        for name, column in columns.items():
            values, observed = column.values.cpu()[mask].numpy(), column.observed.cpu()[mask].numpy()
            if name not in found:
                shape = (count, *values.shape[1:])
                found[name] = FlatColumn(np.zeros(shape, values.dtype), np.zeros(count, np.bool_))
            found[name].values[place], found[name].observed[place] = values, observed
    return found


def ask_about_rows(
    model: Model,
    log: EventLog,
    rows: Ints,
    features: Mapping[str, FlatColumn] | None = None,
    device: torch.device = _CPU,
    known_at: Ints | None = None,
    users: Mapping[str, Column] | None = None,
) -> Iterator[Asked]:
    """Ask about events when they were shown.

    Events of one request with one context are candidates of one block's row. The history is everything of the model's
    view before the request, or before the model's lag, the last `max_length` events of it.

    Args:     rows: (N,) of the log; features: what is known of these events as candidates, (N,) by name.
              device: where the model is. known_at: (N,) moments, one for each request, as of which it is asked where
              they come before it: nothing from then on is known. users: what is known of them, by dense id.
    """
    in_view, events = log.in_view(model.view)
    number, first = _requests(log, rows)
    user, request_row = log.rows.user[rows[first]], log.request_start[rows[first]]
    ends = known_until(log, in_view, user, log.rows.time_ms[request_row], request_row, lag_of(model))
    if known_at is not None:
        ends = np.minimum(ends, known_until(log, in_view, user, known_at[first], request_row, 0))
    begins = np.maximum(np.searchsorted(in_view, log.offsets[user]), ends - model.max_length)
    by_request = np.argsort(number, kind="stable")
    sizes = np.bincount(number, minlength=len(first))
    starts = np.cumsum(sizes) - sizes
    for block, state in _states(model, events, begins, ends, sizes, device):
        place = starts[block, None] + np.arange(sizes[block].max())
        mask = np.arange(place.shape[1]) < sizes[block, None]
        place = by_request[np.where(mask, place, starts[block, None])]
        read = {name: column_at(column, place) for name, column in (features or {}).items()}
        item, hashes = (torch.from_numpy(of[rows[place]]) for of in (log.rows.item, log.rows.item_hash))
        candidates = Candidates(item, hashes, torch.from_numpy(mask), read)
        request = _request(log, rows[first[block]], None if known_at is None else known_at[first[block]], users)
        yield Asked(place, mask, state, request.to(device), candidates.to(device))


def ask_about_cases(
    model: Model,
    log: EventLog,
    cases: Cases,
    items: Ints,
    catalogue: ItemTable,
    features: Mapping[str, FlatColumn] | None = None,
    user_features: Mapping[str, Column] | None = None,
) -> Iterator[Asked]:
    """Ask about items at each of R cases, shown or not.

    Args:     items: (R, C) dense ids, -1 for none; features: (R · C,) what is known of them as candidates;
              user_features: by name, a row per dense user id.
    """
    histories = Histories(log, model.view, with_columns=True)
    starts, ends = histories.known_ranges(cases, model.max_length, lag_of(model))
    C = items.shape[1]
    for block, state in _states(model, histories.events, starts, ends, np.full(len(cases), C), _CPU):
        mask, some = items[block] >= 0, np.maximum(items[block], 0)
        place = block[:, None] * C + np.arange(C)
        user = torch.from_numpy(cases.user[block])
        of_user = {name: column.take(user) for name, column in (user_features or {}).items()}
        context = contexts_of(log, cases.first_target[block])
        request = Request(torch.from_numpy(cases.time_ms[block]), user, context, of_user)
        item = torch.from_numpy(some)
        read = {name: column_at(column, place) for name, column in (features or {}).items()}
        candidates = Candidates(item, catalogue.item_hash[item], torch.from_numpy(mask), read)
        yield Asked(place, mask, state, request, candidates)


def column_at(column: FlatColumn, places: Ints) -> Column:
    """The values of a flat column at places of any shape."""
    return Column(torch.from_numpy(column.values[places]), torch.from_numpy(column.observed[places]))


def _states(
    model: Model, events: Events, begins: Ints, ends: Ints, sizes: Ints, device: torch.device
) -> Iterator[tuple[Ints, State]]:
    """Encode histories in blocks of similar lengths: (B,) the requests of a block, and their states.

    Args:     begins, ends: (R,) where histories lie in events; sizes: (R,) candidates of each request.
    """
    sharing = prefixes_of(model)
    if sharing is None:
        for block in _blocks(ends - begins, sizes):
            with torch.inference_mode():
                yield block, model.encode(events.batch(begins[block], ends[block]).to(device))
        return
    # Histories that begin at the same event share one pass: only where `max_length` cuts do they begin at others.
    order = np.lexsort((ends, begins))
    starts, first = np.unique(begins[order], return_index=True)
    after = np.append(first[1:], len(order))
    longest = ends[order[after - 1]] if len(order) else ends
    for some in _blocks(longest - starts, 0 * starts):
        asked = np.concatenate([order[first[n] : after[n]] for n in some])
        row = torch.from_numpy(np.repeat(np.arange(len(some)), after[some] - first[some])).to(device)
        count = torch.from_numpy(ends[asked] - begins[asked]).to(device)
        with torch.inference_mode():
            states = sharing.encode_prefixes(events.batch(starts[some], longest[some]).to(device), row, count)
        for part in _blocks(0 * asked, sizes[asked]):
            yield asked[part], states.take(torch.from_numpy(part).to(device))


def _blocks(lengths: Ints, sizes: Ints) -> Iterator[Ints]:
    """Rows of similar lengths together, so many that a block, padding included, has few enough tokens.

    Args:     lengths, sizes: (n,) events and candidates of each.
    """
    order = np.lexsort((sizes, lengths))
    begin = 0
    while begin < len(order):
        # Each row of a block counts as long as its longest history, and its most candidates, and one more.
        left = order[begin : begin + _TOKENS_PER_BLOCK]
        most = np.maximum.accumulate(lengths[left]) + np.maximum.accumulate(sizes[left]) + 1
        fitting = most * np.arange(1, len(left) + 1) <= _TOKENS_PER_BLOCK
        block = left[: max(1, int(fitting.sum()))]
        yield block
        begin += len(block)


def _requests(log: EventLog, rows: Ints) -> tuple[Ints, Ints]:
    """Number the requests of events, contexts included: (N,) numbers, and an event of each."""
    columns = [log.events.request[rows]]
    for name in log.schema.contexts:
        column = log.rows.columns[context_column(name)]
        observed = column.observed[rows]
        code = np.unique(column.values[rows], return_inverse=True)[1]
        columns.append(np.where(observed, code, -1))
    _, first, number = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
    return number, first


def _request(log: EventLog, rows: Ints, known_at: Ints | None, users: Mapping[str, Column] | None) -> Request:
    time_ms = log.rows.time_ms[log.request_start[rows]]
    asked_ms = time_ms if known_at is None else np.minimum(time_ms, known_at)
    user = torch.from_numpy(log.rows.user[rows])
    features = {name: column.take(user) for name, column in (users or {}).items()}
    return Request(torch.from_numpy(asked_ms), user, contexts_of(log, rows), features)
