"""Side sequences: sorted, mapped, and what lies strictly before a moment as a slow loop finds it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.base.errors import BadArtifact, BadBatch
from upnext.events.sequences import SideSequence, open_sequences

ROWS = st.lists(st.tuples(st.integers(2, 5), st.sampled_from([0, 1, 2**40, 2**60])), max_size=12)


def sequence(rows: list[tuple[int, int]]) -> SideSequence:
    user, time_ms = np.array(rows, np.int64).reshape(-1, 2).T
    return SideSequence(user, time_ms, np.arange(len(rows))[:, None] + 1)


@settings(max_examples=150, deadline=None)
@given(ROWS, ROWS)
def test_what_lies_strictly_before_is_what_a_loop_finds(
    rows: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    stored = sequence(rows).sorted()
    user, time_ms = np.array(asked, np.int64).reshape(-1, 2).T
    starts, ends = stored.before(user, time_ms)
    for (who, when), start, end in zip(asked, starts, ends, strict=True):
        before = [(t, number) for number, (u, t) in enumerate(rows, 1) if u == who and t < when]
        assert stored.hashes[start:end, 0].tolist() == [number for _, number in sorted(before)]


def test_a_sequence_is_mapped_and_sorted_and_may_be_empty(tmp_path: Path) -> None:
    sequence([(4, 7), (2, 9), (4, 5), (2, 9)]).save(tmp_path, "searches")
    sequence([]).save(tmp_path, "nothing")
    opened = open_sequences(tmp_path)
    assert list(opened) == ["nothing", "searches"]
    assert isinstance(opened["searches"].hashes, np.memmap)
    assert opened["searches"].hashes[:, 0].tolist() == [2, 4, 3, 1]
    assert len(opened["nothing"]) == 0
    starts, ends = opened["nothing"].before(np.array([2]), np.array([5]))
    assert (starts.tolist(), ends.tolist()) == ([0], [0])
    assert open_sequences(tmp_path / "none") == {}


@pytest.mark.parametrize("damage", [b"", b"no array"])
def test_a_damaged_sequence_is_told(tmp_path: Path, damage: bytes) -> None:
    sequence([(4, 7)]).save(tmp_path, "searches")
    (tmp_path / "sequences" / "searches" / "user.npy").write_bytes(damage)
    with pytest.raises(BadArtifact, match=r"searches holds no whole side sequence .*run prepare again"):
        open_sequences(tmp_path)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadBatch, match=r"allowed are \(N,\), \(N,\) and \(N, M\)"):
        SideSequence(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros((3, 1), np.int64))
