"""What a neural ranker learns from: who was shown what together, and what was known before."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, NUM_USERS, SCHEMAS, Event, log_of, schema
from tests.reference.shown import slow_sets
from upnext.base.batches import Column, FlatColumn
from upnext.events.log import EventLog
from upnext.fitting.shown import Drawings, Reads, ShownSets

USERS = {"age": Column(torch.arange(NUM_USERS) / 7, torch.arange(NUM_USERS) > 2)}


def sets_of(log: EventLog, window: int | None = None, most: int = 100, longest: int = 100) -> ShownSets:
    rows = np.arange(len(log))
    features = {"row": FlatColumn(rows.astype(np.float32), rows % 3 > 0)}
    reads = Reads("all", longest, ["watched"], ["device"], USERS, ["played"])
    return ShownSets.of(log, rows, features, reads, window, most)


@settings(max_examples=150, deadline=None)
@given(EVENTS, SCHEMAS, st.booleans())
def test_every_candidate_is_there_once_with_the_past_before_it(events, of, has_window):
    log = log_of(events, of)
    window = 2 if has_window and of.has_times else None
    data = sets_of(log, window)
    expected = slow_sets(log, list(range(len(log))), window)
    assert len(data) == len(expected)
    if not len(data):
        return
    order = np.random.default_rng(0).permutation(len(data))
    batch = data.batch(order)
    assert batch.lengths.tolist() == data.lengths[order].tolist()
    mask, rows = batch.candidates.mask, batch.candidates.features["row"].values
    found = {}
    for place in range(len(order)):
        here = batch.set == place
        shown = tuple(sorted(int(row) for row in rows[here][mask[here]]))
        past = batch.histories
        length = int(past.lengths[place])
        found[shown] = list(zip(past.item[place, :length].tolist(), past.order[place, :length].tolist(), strict=True))
    log_rows = log.rows
    told = {
        shown: [(int(log_rows.item[n]), int(log_rows.order[n])) for n in known] for shown, known in expected.items()
    }
    assert found == told
    flat = rows[mask].long().numpy()
    played = log_rows.columns["feedback.played"]
    assert batch.candidates.item[mask].tolist() == log_rows.item[flat].tolist()
    assert batch.candidates.item_hash[mask].tolist() == log_rows.item_hash[flat].tolist()
    assert batch.candidates.features["row"].observed[mask].tolist() == (flat % 3 > 0).tolist()
    assert batch.feedback["played"].observed[mask].tolist() == played.observed[flat].tolist()
    assert batch.feedback["played"].values[mask].tolist() == played.values[flat].tolist()
    assert not batch.feedback["played"].observed[~mask].any()
    number = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    assert batch.request.user[number].tolist() == log_rows.user[flat].tolist()
    device = log_rows.columns["context.device"]
    assert batch.request.context["context.device"].observed[number].tolist() == device.observed[flat].tolist()
    where = device.observed[flat]
    assert batch.request.context["context.device"].values[number][where].tolist() == device.values[flat][where].tolist()
    torch.testing.assert_close(batch.request.features["age"].values, USERS["age"].values[batch.request.user])
    asked = log_rows.time_ms[log.request_start[flat]]
    asked = asked if window is None else asked // window * window
    if window is not None or of.has_times:
        assert batch.request.time_ms[number].tolist() == asked.tolist()


def test_limits_keep_the_last_events_and_cut_large_sets():
    log = log_of([Event(2, 2 + n % 5, n, -1, 0.5) for n in range(8)] + [Event(2, 3 + n % 4, 9, 1) for n in range(5)])
    data = sets_of(log, most=2, longest=3)
    last = data.batch(np.arange(len(data))[-3:])
    assert data.num_candidates[-3:].tolist() == [2, 2, 1]
    assert last.histories.lengths.tolist() == [3, 3, 3]
    assert last.histories.time_ms.tolist() == [[5, 6, 7]] * 3  # no candidate of a set's other parts
    assert data.num_candidates.sum() == 13


def test_what_differs_in_context_has_rows_of_its_own_and_shares_its_past():
    # Items 3 and 6 have no device, 4 has device 1, and 5 and 8 have device 2.
    log = log_of([Event(2, 4, 0), *[Event(2, item, 5, 1) for item in (4, 3, 5, 6, 8)]])
    batch = sets_of(log).batch(np.array([1]))
    assert batch.set.tolist() == [0, 0, 0]
    assert batch.histories.lengths.tolist() == [1]
    device = batch.request.context["context.device"]
    rows = {
        (int(value) if seen else None): sorted(items[mask].tolist())
        for value, seen, items, mask in zip(
            device.values, device.observed, batch.candidates.item, batch.candidates.mask, strict=True
        )
    }
    assert rows == {None: [3, 6], 1: [4], 2: [5, 8]}


@pytest.mark.parametrize("window", [None, 10])
def test_nothing_after_the_request_changes_what_is_learnt(window):
    events = [Event(2, 2 + n % 6, 3 * n, -1, (n % 3) / 2) for n in range(12)]
    log, longer = log_of(events), log_of([*events, *[Event(2, 7, 36 + n, -1, 1.0) for n in range(4)]], schema())
    before, after = (sets_of(one, window) for one in (log, longer))
    last = len(before) - 1 if window is None else len(before) - 2
    one, other = (data.batch(np.arange(last)).histories for data in (before, after))
    for name in ("item", "time_ms", "lengths"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_drawn_candidates_share_the_past_and_the_context_of_their_choice():
    log = log_of([Event(2, 2 + n % 6, n, -1, n / 10) for n in range(9)])
    rows, count = np.array([4, 4, 4, 7, 7]), 5  # two sets, around the events in rows 4 and 7
    item, number = np.array([5, 3, 6, 7, 2]), np.array([0, 0, 0, 1, 1])
    chosen = FlatColumn(np.array([0, 1, 0, 0, 1], np.float32), np.ones(count, bool))
    features = {"place": FlatColumn(np.arange(count, dtype=np.float32), np.ones(count, bool))}
    reads = Reads("all", 3, ["watched"], ["device"], USERS, ["chosen"])
    drawings = Drawings(item, item * 1000, number, {"chosen": chosen})
    batch = ShownSets.of(log, rows, features, reads, None, 100, drawings).batch(np.array([1, 0]))
    mask = batch.candidates.mask
    assert [row[one].tolist() for row, one in zip(batch.candidates.item, mask, strict=True)] == [[7, 2], [5, 3, 6]]
    assert batch.candidates.item_hash[mask].tolist() == [7000, 2000, 5000, 3000, 6000]
    assert batch.candidates.features["place"].values[mask].tolist() == [3, 4, 0, 1, 2]
    assert batch.feedback["chosen"].values[mask].tolist() == [0, 1, 0, 1, 0]
    assert batch.histories.time_ms.tolist() == [[4, 5, 6], [1, 2, 3]]  # strictly before the choices
    assert batch.request.time_ms.tolist() == [7, 4]
    device = log.rows.columns["context.device"]
    assert batch.request.context["context.device"].values.tolist() == device.values[[7, 4]].tolist()
