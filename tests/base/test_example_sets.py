import numpy as np
import pytest

from upnext.base.batches import FlatColumn
from upnext.base.errors import BadArtifact
from upnext.base.example_sets import ExampleSets, SetData


def three_sets() -> ExampleSets:
    """Sets of 2, 1 and 3 candidates, with a number, a category above 2^53, and a value that is missing."""
    seen = np.array([True, True, False, True, True, True])
    return ExampleSets(
        {
            "number": FlatColumn(np.array([1, 2, 0, 4, 5, 6], np.float32), seen),
            "kind": FlatColumn(np.array([7, 7, 2**60 + 1, 7, 8, 9]), np.ones(6, bool)),
        },
        np.array([0, 2, 3, 6]),
        np.array([1.0, 0.0, 2.0, 0.0, 0.0, 1.0]),
        ["a", "b", "c"],
        np.array([4, 5, 4]),
        np.array([0, 1, 2], np.int8),
        np.arange(6),
        np.array([10, 20, 30]),
        of_request=["kind"],
    )


def test_what_is_saved_is_loaded(tmp_path):
    sets = three_sets()
    sets.save(tmp_path)
    loaded = ExampleSets.load(tmp_path)
    assert (loaded.name, loaded.of_request, loaded.relevant) == (["a", "b", "c"], ["kind"], 1.0)
    for key in ("first", "label", "owner", "part", "row", "time_ms"):
        np.testing.assert_array_equal(getattr(loaded, key), getattr(sets, key))
    for name, column in sets.features.items():
        np.testing.assert_array_equal(loaded.features[name].values, column.values)
        np.testing.assert_array_equal(loaded.features[name].observed, column.observed)


def test_a_damaged_file_is_named(tmp_path):
    three_sets().save(tmp_path)
    (tmp_path / "sets.arrow").write_bytes(b"no")
    with pytest.raises(BadArtifact, match="holds no whole example sets"):
        ExampleSets.load(tmp_path)


def test_sets_are_taken_with_their_candidates():
    some = three_sets().take(np.array([2, 0]))
    assert some.sizes.tolist() == [3, 2]
    assert some.row.tolist() == [3, 4, 5, 0, 1]
    assert some.set.tolist() == [0, 0, 0, 1, 1]
    assert some.is_positive.tolist() == [False, False, True, True, False]


def test_a_batch_holds_each_set_in_a_row():
    sets = three_sets()
    said = FlatColumn(np.arange(6.0), np.array([True, True, True, False, True, True]))
    batch = SetData.of(sets, said).batch(np.array([1, 2]))
    assert batch.mask.tolist() == [[True, False, False], [True, True, True]]
    assert batch.label.tolist() == [[2, 0, 0], [0, 0, 1]]
    assert batch.teacher.observed.tolist() == [[True, False, False], [False, True, True]]
    assert batch.lengths.tolist() == [1, 3]
    assert not SetData.of(sets).batch(np.array([0])).teacher.observed.any()
