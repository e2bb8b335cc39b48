import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fitting.planted import planted
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.fitting.folds import FoldsConfig, folds_of, mean_scores, out_of_fold


@given(st.integers(2, 6), st.sampled_from(["owner", "set", "time"]), st.integers(0, 5))
def test_no_teacher_speaks_of_what_it_was_trained_on(count, by, seed):
    """A teacher here is the labels that it saw, and says of a candidate 1 if it saw anything of it, of its owner …"""
    sets = planted(num_sets=30, size=2, seed=seed)

    def predict(trained, asked):
        for key in {"owner": [sets.owner], "set": [np.arange(len(sets))], "time": [np.arange(len(sets))]}[by]:
            assert not np.isin(key[asked[sets.part[asked] == 0]], key[trained]).any()
        if by == "time":
            assert sets.time_ms is not None
            times = sets.time_ms[asked[sets.part[asked] == 0]]
            assert times.min(initial=10**9) > sets.time_ms[trained].max()
        assert (sets.part[trained] == 0).all()
        return np.repeat(asked, sets.sizes[asked]).astype(float)

    said = out_of_fold(FoldsConfig(count=count, by=by, seed=seed), sets, lambda trained, _: trained, predict)
    np.testing.assert_array_equal(said.values[said.observed], sets.set[said.observed])
    first = folds_of(FoldsConfig(count=count, by=by, seed=seed), sets) == 0
    silent = np.repeat(first & (by == "time"), sets.sizes)
    np.testing.assert_array_equal(said.observed, ~silent)


def test_the_whole_training_part_teaches_what_is_held_out():
    sets, trained = planted(num_sets=12, size=1), {}

    def fit(chosen, fold):
        trained[fold] = chosen.tolist()
        return fold

    said = out_of_fold(
        FoldsConfig(count=2), sets, fit, lambda fold, asked: np.full(len(asked), -1 if fold is None else 1)
    )
    assert trained[None] == np.flatnonzero(sets.part == 0).tolist()
    assert sorted(trained[0] + trained[1]) == trained[None]
    assert (said.values == np.where(sets.part == 0, 1, -1)).all()


def test_folds_that_cannot_be_cut_are_refused():
    sets = planted(num_sets=6, size=1)
    with pytest.raises(BadConfig, match="the training part has 2 to draw from"):
        folds_of(FoldsConfig(count=3, by="time"), sets)
    with pytest.raises(BadConfig, match=r'folds\.by = "time" needs times'):
        folds_of(FoldsConfig(by="time"), sets.__class__(**{**vars(sets), "time_ms": None}))


def test_an_ensemble_says_the_mean_where_all_say_something():
    both = np.array([True, True, False]), np.array([True, False, True])
    found = mean_scores([FlatColumn(np.array([1.0, 2, 3]), both[0]), FlatColumn(np.array([3.0, 9, 5]), both[1])])
    assert found.values.tolist() == [2, 0, 0]
    assert found.observed.tolist() == [True, False, False]
