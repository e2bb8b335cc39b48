import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.batches import FlatColumn
from upnext.events.impressions import cut_chunks, num_before, pairs_within, utility

users = st.lists(st.lists(st.integers(0, 30), max_size=12).map(sorted), min_size=1, max_size=4)


def flat(rows):
    return np.array([t for row in rows for t in row], np.int64), np.cumsum([0, *map(len, rows)])


@settings(deadline=None)
@given(users, st.integers(0, 10**6))
def test_the_last_state_strictly_before_a_moment(rows, seed):
    times, offsets = flat(rows)
    g = np.random.default_rng(seed)
    user, moment = g.integers(0, len(rows), 9), g.integers(-2, 33, 9)
    expected = [sum(t < m for t in rows[u]) for u, m in zip(user, moment, strict=True)]
    assert num_before(times, offsets, user, moment).tolist() == expected


def test_a_lag_is_respected_to_the_millisecond():
    times, offsets = np.array([1000, 2000, 3000]), np.array([0, 3])
    day = 86_400_000
    for shift, known in ((0, 1), (1, 2), (-1, 1)):
        moment = np.array([2000 + day + shift]) - day
        assert num_before(times, offsets, np.array([0]), moment).tolist() == [known]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=14))
def test_pairs_equal_a_loop(rows):
    rows.sort(key=lambda row: row[0])
    group, value = np.array([r[0] for r in rows], np.int64), np.array([float(r[1]) for r in rows])
    pairs = pairs_within(group, value)
    found = sorted(zip(pairs.better.tolist(), pairs.worse.tolist(), pairs.weight.tolist(), strict=True))
    expected = sorted(
        (i, j, value[i] - value[j])
        for i in range(len(rows))
        for j in range(len(rows))
        if group[i] == group[j] and value[i] > value[j]
    )
    assert found == expected


def test_utility_by_hand():
    like = FlatColumn(np.array([1.0, 0, 1]), np.array([True, True, False]))
    played = FlatColumn(np.array([0.5, 1, 1]), np.array([True, False, True]))
    assert utility({"like": like, "played": played}, {"like": 2, "played": 1}, 3).tolist() == [2.5, 0, 1]


@settings(deadline=None, max_examples=200)
@given(users, st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_chunks_hold_every_impression_once_with_its_own_past(rows, seed, shortest, more, most):
    longest = shortest + more
    times, offsets = flat(rows)
    g = np.random.default_rng(seed)
    n = 12
    moment = np.sort(g.integers(0, 33, n))
    user = np.sort(g.integers(0, len(rows), n))
    order = np.lexsort((moment, user))
    moment, user = moment[order], user[order]
    group = np.cumsum((np.diff(user, prepend=-1) != 0) | (np.diff(moment, prepend=-1) > 3))  # a few instants together
    known = num_before(times, offsets, user, moment)
    chunks = cut_chunks(user, known, group, offsets, longest=longest, shortest=shortest, most_impressions=most)
    assert sorted(chunks.impression.tolist()) == np.flatnonzero(known >= shortest).tolist()
    assert (chunks.end - chunks.start <= longest).all()
    assert len(chunks.first) == len(chunks) + 1
    chunk_of_group: dict[int, int] = {}
    for r in range(len(chunks)):
        inside = range(chunks.first[r], chunks.first[r + 1])
        owners = {int(user[chunks.impression[i]]) for i in inside}
        assert len(owners) == 1
        (owner,) = owners
        assert offsets[owner] <= chunks.start[r] <= chunks.end[r] <= offsets[owner + 1]
        groups = [int(group[chunks.impression[i]]) for i in inside]
        assert len(groups) <= most or len(set(groups)) == 1 or groups.count(groups[-1]) > len(groups) - most
        for i, one in zip(inside, groups, strict=True):
            assert chunk_of_group.setdefault(one, r) == r
            impression = chunks.impression[i]
            seen = chunks.start[r] - offsets[owner] + chunks.state[i]
            assert seen <= known[impression]  # never more than was known
            assert chunks.state[i] >= min(shortest, known[impression])
            is_first = group.tolist().index(one) == impression
            if is_first:  # exactly what was known, unless the chunk began later than the history
                assert seen == known[impression]


def test_nothing_to_cut():
    empty = np.empty(0, np.int64)
    assert len(cut_chunks(empty, empty, empty, np.array([0]), longest=4, shortest=1, most_impressions=3)) == 0
    assert len(pairs_within(empty, np.empty(0))) == 0
