"""Events and batches of histories: gathering equals slow loops, over ragged lengths, empty rows included."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.batches import (
    CORE,
    Candidates,
    Column,
    Events,
    FlatColumn,
    ItemTable,
    OnDevice,
    Request,
    SequenceBatch,
    State,
)
from upnext.base.errors import BadBatch

BIG = 2**53 + 1  # the first integer that no float64 holds
property_test = settings(max_examples=60, deadline=None)


class Ragged(NamedTuple):
    events: Events
    starts: np.ndarray
    ends: np.ndarray


def make_events(lengths: list[int], seed: int) -> Events:
    """Users with so many events each; items above 2^53, siblings, unobserved feedback, a view of half of them."""
    generator = np.random.default_rng(seed)
    N = sum(lengths)

    def integers(low: int, high: int) -> np.ndarray:
        return generator.integers(low, high, N)

    new_group = integers(0, 2) == 1
    new_group[np.cumsum([0, *lengths[:-1]])[np.array(lengths, int) > 0]] = True  # users share no group
    observed = integers(0, 2) == 1
    return Events(
        item=integers(BIG, BIG + 99),
        item_hash=integers(-(2**63), 2**63 - 1),
        time_ms=integers(-5, 2**53 + 9),
        order=np.arange(N),
        request=np.cumsum(new_group),
        columns={
            "feedback.played": FlatColumn(np.where(observed, generator.random(N), 0).astype(np.float32), observed),
            "context.device": FlatColumn(integers(0, 9), integers(0, 2) == 1),
        },
        views={"all": np.ones(N, bool), "watched": integers(0, 2) == 1, "none": np.zeros(N, bool)},
    )


@st.composite
def ragged(draw: st.DrawFn) -> Ragged:
    """A few users, and ranges inside them: whole, parts, empty, repeated, in any order."""
    lengths = draw(st.lists(st.integers(0, 7), min_size=0, max_size=5))
    events = make_events(lengths, draw(st.integers(0, 99)))
    bounds = np.cumsum([0, *lengths])
    ranges = []
    for user in draw(st.lists(st.integers(0, len(lengths) - 1), max_size=4)) if lengths else []:
        start = draw(st.integers(bounds[user], bounds[user + 1]))
        ranges.append((start, draw(st.integers(start, bounds[user + 1]))))
    starts, ends = (np.array([r[side] for r in ranges], np.int64) for side in (0, 1))
    return Ragged(events, starts, ends)


def flat_parts(events: Events) -> dict[str, np.ndarray]:
    parts = {name: getattr(events, name) for name in CORE}
    for name, column in events.columns.items():
        parts |= {name: column.values, name + "?": column.observed}
    return parts | {"view " + name: view for name, view in events.views.items()}


def padded_parts(batch: SequenceBatch) -> dict[str, torch.Tensor]:
    parts = {name: getattr(batch, name) for name in CORE}
    for name, column in batch.columns.items():
        parts |= {name: column.values, name + "?": column.observed}
    return parts | {"view " + name: view for name, view in batch.views.items()}


def rows_of(batch: SequenceBatch) -> dict[str, list[list[Any]]]:
    """The real events of each row, part by part."""
    lengths = batch.lengths.tolist()
    return {
        name: [row[:length] for row, length in zip(part.tolist(), lengths, strict=True)]
        for name, part in padded_parts(batch).items()
    }


def check_form(batch: SequenceBatch) -> None:
    """(B, L) with L the longest row, zero at padding, whole numbers as int64, masks as bool."""
    lengths = batch.lengths.tolist()
    assert batch.lengths.dtype == torch.int64
    assert len(batch) == len(lengths)
    for name, part in padded_parts(batch).items():
        assert part.shape == (len(lengths), max(lengths, default=0)), name
        assert all(not any(row[length:]) for row, length in zip(part.tolist(), lengths, strict=True)), name
        if name in CORE or name == "context.device":
            assert part.dtype == torch.int64, name
        elif name == "feedback.played":
            assert part.dtype == torch.float32
        else:
            assert part.dtype == torch.bool, name
    assert batch.mask.tolist() == [[t < length for t in range(batch.item.shape[1])] for length in lengths]


@property_test
@given(ragged())
def test_batch_equals_a_loop(data: Ragged) -> None:
    batch = data.events.batch(data.starts, data.ends)
    check_form(batch)
    ranges = list(zip(data.starts, data.ends, strict=True))
    for name, part in flat_parts(data.events).items():
        assert rows_of(batch)[name] == [part.tolist()[start:end] for start, end in ranges], name


@property_test
@given(ragged())
def test_batching_leaves_the_events_alone(data: Ragged) -> None:
    before = {name: part.copy() for name, part in flat_parts(data.events).items()}
    batch = data.events.batch(data.starts, data.ends)
    for padded in padded_parts(batch).values():
        padded.zero_()
    for name, part in flat_parts(data.events).items():
        np.testing.assert_array_equal(part, before[name])


def test_read_only_events_can_be_batched() -> None:
    """A memory-mapped log is read-only."""
    events = make_events([3, 0, 2], 0)
    for part in flat_parts(events).values():
        part.flags.writeable = False
    assert events.batch(np.array([0, 3]), np.array([3, 5])).item.tolist() == [
        events.item[:3].tolist(),
        [*events.item[3:].tolist(), 0],
    ]


@property_test
@given(ragged(), st.sampled_from(["all", "watched", "none"]))
def test_a_view_equals_a_loop(data: Ragged, name: str) -> None:
    batch = data.events.batch(data.starts, data.ends)
    view = batch.view(name)
    check_form(view)
    before, after = rows_of(batch), rows_of(view)
    chosen = before["view " + name]
    for part, rows in before.items():
        expected = [
            [value for value, is_in in zip(row, inside, strict=True) if is_in]
            for row, inside in zip(rows, chosen, strict=True)
        ]
        assert after[part] == expected, part


@property_test
@given(ragged(), st.integers(0, 9))
def test_last_equals_a_loop(data: Ragged, length: int) -> None:
    batch = data.events.batch(data.starts, data.ends)
    last = batch.last(length)
    check_form(last)
    after = rows_of(last)
    for part, rows in rows_of(batch).items():
        assert after[part] == [row[max(0, len(row) - length) :] for row in rows], part


@property_test
@given(ragged(), st.integers(0, 9))
def test_first_equals_a_loop(data: Ragged, length: int) -> None:
    batch = data.events.batch(data.starts, data.ends)
    first = batch.first(length)
    check_form(first)
    after = rows_of(first)
    for part, rows in rows_of(batch).items():
        assert after[part] == [row[:length] for row in rows], part


@property_test
@given(ragged(), st.integers(1, 4))
def test_num_visible_counts_the_events_before_the_request(data: Ragged, length: int) -> None:
    whole = data.events.batch(data.starts, data.ends)
    for batch in (whole, whole.view("watched"), whole.last(length)):
        num_visible = batch.num_visible
        assert num_visible.dtype == torch.int64
        assert num_visible.shape == batch.item.shape
        for row, length_of_row in enumerate(batch.lengths.tolist()):
            request = batch.request[row, :length_of_row].tolist()
            expected = [sum(other != mine for other in request[:t]) for t, mine in enumerate(request)]
            assert num_visible[row, :length_of_row].tolist() == expected


def test_num_visible_by_hand() -> None:
    events = make_events([6], 0)
    events.request[:] = [4, 4, 5, 6, 6, 6]
    batch = events.batch(np.array([0, 1, 0]), np.array([6, 4, 0]))
    assert batch.num_visible[0].tolist() == [0, 0, 2, 3, 3, 3]
    assert batch.num_visible[1, :3].tolist() == [0, 1, 2]


def test_the_layout_is_one_token_per_event() -> None:
    batch = make_events([3, 1], 1).batch(np.array([0, 3]), np.array([3, 4]))
    layout = batch.layout
    assert layout.event.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert torch.equal(layout.mask, batch.mask)
    assert layout.request is batch.request
    assert layout.time_ms is batch.time_ms


def test_an_unknown_view_is_told_with_those_that_exist() -> None:
    batch = make_events([2], 0).batch(np.array([0]), np.array([2]))
    with pytest.raises(BadBatch, match=r"no view 'liked' in this batch; it has \['all', 'none', 'watched'\]"):
        batch.view("liked")


def test_all_is_a_view_of_every_batch() -> None:
    events = make_events([2], 0)
    bare = Events(*(getattr(events, name) for name in CORE))
    batch = bare.batch(np.array([0]), np.array([2]))
    assert batch.view("all").item.tolist() == [events.item.tolist()]


def test_ids_above_2_to_the_53_come_through_everything() -> None:
    events = make_events([3, 2], 2)
    events.item[:] = [BIG, BIG + 1, BIG + 2, 2**63 - 1, BIG]
    events.views["watched"][:] = [True, False, True, True, True]
    batch = Events.concatenate([events, events]).batch(np.array([0, 8]), np.array([3, 10]))
    assert batch.item.tolist() == [[BIG, BIG + 1, BIG + 2], [2**63 - 1, BIG, 0]]
    assert batch.view("watched").last(1).item.tolist() == [[BIG + 2], [BIG]]


@property_test
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_concatenate_equals_a_loop(lengths: list[int]) -> None:
    parts = [make_events([length], seed) for seed, length in enumerate(lengths)]
    joined = Events.concatenate(parts)
    assert len(joined) == sum(lengths)
    for name, values in flat_parts(joined).items():
        expected = [flat_parts(part)[name] for part in parts]
        assert values.tolist() == [value for part in expected for value in part.tolist()], name
        assert values.dtype == expected[0].dtype, name


def test_events_with_other_columns_or_views_do_not_join() -> None:
    events = make_events([2], 0)
    with pytest.raises(BadBatch, match=r"columns \[\] and views"):
        Events.concatenate([events, events.without_columns()])
    other = replace(events, views={})
    with pytest.raises(BadBatch, match=r"views \[\] cannot follow"):
        Events.concatenate([events, other])


@pytest.mark.parametrize(
    "rows", [slice(1, 3), np.array([4, 0, 0]), np.array([True, False, False, True, False]), slice(0, 0)]
)
def test_take_selects_rows_of_every_part(rows: Any) -> None:
    events = make_events([3, 2], 3)
    taken = events.take(rows)
    for name, part in flat_parts(events).items():
        np.testing.assert_array_equal(flat_parts(taken)[name], part[rows])


def test_without_columns_keeps_the_rest() -> None:
    events = make_events([3], 0)
    bare = events.without_columns()
    assert bare.columns == {}
    assert bare.views.keys() == events.views.keys()
    assert bare.item is events.item


def tensors_of(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, OnDevice):
        value = vars(value)
    return [tensor for part in value.values() for tensor in tensors_of(part)] if isinstance(value, dict) else []


def test_to_moves_every_tensor() -> None:
    """`meta` is a device that every machine has."""
    batch = make_events([3, 1], 0).batch(np.array([0, 3]), np.array([3, 4]))
    column = {"context.device": Column(torch.ones(2), torch.ones(2, dtype=torch.bool))}
    values: list[tuple[OnDevice, int]] = [
        (batch, 6 + 2 * 2 + 3),
        (batch.layout, 4),
        (Request(torch.zeros(2), torch.zeros(2), column, column), 2 + 4),
        (Candidates(torch.zeros(2, 1), torch.zeros(2, 1), torch.ones(2, 1), column), 3 + 2),
        (ItemTable(torch.zeros(2), torch.zeros(2), column), 2 + 2),
        (State({"hidden": torch.zeros(2, 3)}), 1),
    ]
    for value, count in values:
        moved = value.to(torch.device("meta"))
        assert type(moved) is type(value)
        assert [tensor.device.type for tensor in tensors_of(moved)] == ["meta"] * count
        assert [tensor.device.type for tensor in tensors_of(value)] == ["cpu"] * count


def test_states_are_taken_and_joined_by_row() -> None:
    state = State({"hidden": torch.arange(6.0).view(3, 2), "length": torch.tensor([5, 6, 7])})
    assert len(state) == 3
    taken = state.take(torch.tensor([2, 0, 2]))
    assert taken.tensors["hidden"].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert taken.tensors["length"].tolist() == [7, 5, 7]
    both = State.concatenate([taken, state])
    assert both.tensors["length"].tolist() == [7, 5, 7, 5, 6, 7]
    assert both.tensors["hidden"].shape == (6, 2)


def test_batch_types_are_frozen() -> None:
    events = make_events([2], 0)
    batch = events.batch(np.array([0]), np.array([2]))
    for value in (events, batch, batch.layout):
        with pytest.raises(AttributeError, match="cannot assign"):
            setattr(value, "request", None)  # noqa: B010
