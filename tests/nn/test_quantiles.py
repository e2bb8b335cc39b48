"""Numbers as quantile ranks with square and root: by definition, at the edges, and the same after saving."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.reference import side_features as reference
from upnext.base.batches import Column, FlatColumn
from upnext.features.quantiles import quantiles_of
from upnext.nn.quantiles import QuantileNumbers

numbers = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e9, 1e9, width=32)), min_size=1, max_size=40)

TINY, HUGE = float(np.nextafter(0.0, 1.0)), float(np.finfo(np.float64).max)
EDGY = [-torch.inf, -HUGE, -1.0, -TINY, -0.0, 0.0, TINY, 1.0, float(np.nextafter(1.0, 0.0)), HUGE, torch.inf]


def made(**values: list[float]) -> QuantileNumbers:
    columns = {name: flat(some) for name, some in values.items()}
    return QuantileNumbers(list(columns), torch.from_numpy(quantiles_of(columns)))


def flat(values: list[float]) -> FlatColumn:
    array = np.array(values, np.float32)
    return FlatColumn(array, np.ones(len(array), bool))


def read(model: QuantileNumbers, name: str, values: list[float]) -> torch.Tensor:
    found: torch.Tensor = model({name: Column(torch.tensor(values), torch.ones(len(values)).bool())}, (len(values),))
    return found


@given(numbers, numbers)
def test_equals_the_definition(trained, asked):
    bounds = reference.boundaries([float(np.float32(value)) for value in trained])
    expected = [reference.rank(float(np.float32(value)), bounds) for value in asked]
    found = read(made(x=trained), "x", asked).numpy()
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-7)
    np.testing.assert_allclose(found[:, 1], np.square(expected), atol=1e-7)
    np.testing.assert_allclose(found[:, 2], np.sqrt(expected), atol=1e-7)
    assert not found[:, 3].any()
    assert found.min() >= 0
    assert found.max() < 1


@given(
    st.lists(st.lists(st.sampled_from(EDGY[1:]), min_size=4, max_size=4).map(sorted), min_size=1, max_size=3),
    st.lists(st.sampled_from([*EDGY, torch.nan]), min_size=1, max_size=9),
)
def test_one_search_equals_two_bit_for_bit(bounds, asked):
    """Over ties, neighbours in float64, both zeros, infinities and NaN, and after the boundaries were loaded."""
    names = [f"x{number}" for number in range(len(bounds))]
    model = QuantileNumbers(names, torch.zeros(len(bounds), 4))
    model.load_state_dict({"bounds": torch.tensor(bounds, dtype=torch.float64)})
    values = torch.tensor(asked, dtype=torch.float64)
    found = model.ranks({n: Column(values, torch.ones(len(asked)).bool()) for n in names}, (len(asked),))
    below, upto = (
        torch.searchsorted(model.bounds, values.expand(len(bounds), -1).contiguous(), right=right)
        for right in (False, True)
    )
    assert torch.equal(found.values, (below + upto).to(torch.float32) / 10)
    assert torch.equal(found.observed, ~values.isnan().expand(len(bounds), -1))


def test_a_constant_tells_equal_from_smaller_and_larger():
    below, equal, above = read(made(x=[7.0] * 50), "x", [6.0, 7.0, 8.0])[:, 0].tolist()
    assert (below, equal, above) == (0, 255 / 512, 255 / 256)


def test_what_was_not_observed_is_a_flag_and_not_a_zero():
    model = made(x=[0.0, 1.0, 2.0])
    values = torch.tensor([[0.0, 0.0, torch.nan]])
    found = model({"x": Column(values, torch.tensor([[True, False, True]]))}, (1, 3))
    assert found.shape == (1, 3, 4)
    assert found[0, 1].tolist() == found[0, 2].tolist() == [0, 0, 0, 1]
    assert found[0, 0].tolist() == pytest.approx([85 / 512, (85 / 512) ** 2, (85 / 512) ** 0.5, 0])


def test_training_reads_only_what_was_observed():
    seen = FlatColumn(np.array([1.0, 2, np.nan, 99]), np.array([True, True, True, False]))
    nothing = FlatColumn(np.zeros(4), np.zeros(4, bool))
    bounds = quantiles_of({"seen": seen, "nothing": nothing})
    np.testing.assert_array_equal(bounds[0], quantiles_of({"x": FlatColumn(np.array([1.0, 2]), np.ones(2, bool))})[0])
    model = QuantileNumbers(["nothing"], torch.from_numpy(bounds[1:]))
    assert read(model, "nothing", [-1e30, 0.0, 1e30])[:, 0].tolist() == [0, 0, 0]


def test_columns_stand_beside_each_other_and_no_column_gives_none():
    model = made(x=[0.0, 1.0], y=[0.0, 10.0])
    columns = {
        name: Column(torch.tensor([[value]]), torch.ones(1, 1).bool()) for name, value in (("y", 11.0), ("x", 0.0))
    }
    found = model(columns, (1, 1))
    assert (model.width, found.shape) == (8, (1, 1, 8))
    assert (found[0, 0, 0].item(), found[0, 0, 4].item()) == (0.25, 255 / 256)
    assert made()({}, (2, 3)).shape == (2, 3, 0)


def test_the_boundaries_are_saved_with_the_weights(tmp_path: Path):
    model = made(x=[1e9, 3e9 + 512, 7.5])
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other = QuantileNumbers(["x"], torch.zeros_like(model.bounds))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    asked = [7.5, 8.0, 1e9, 2e9, 4e9]
    torch.testing.assert_close(read(other, "x", asked), read(model, "x", asked), atol=0, rtol=0)
