"""What a training needs, by hand and against what autograd really keeps; and what a machine says is free."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.histories import histories
from upnext.base.batches import SequenceBatch
from upnext.base.errors import UserError
from upnext.base.views import TARGET
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.softmax import SampledSoftmaxConfig, make_softmax
from upnext.training import memory
from upnext.training.batches import shuffled_batches
from upnext.training.memory import Need, available_bytes, check_memory, largest_batch, need_of

CPU = torch.device("cpu")


def test_need_by_hand() -> None:
    need = Need(parameters=1000, activations=500, log=96)
    # Weights, gradients and two moments: 4 x 1000 floats; 500 activations; 4 bytes each.
    assert need.on_device == 16_000 + 2_000
    assert need.total == 18_096


def test_activations_by_hand() -> None:
    model = SASRec(SASRecConfig(width=8, layers=3, max_length=5), torch.arange(11) >= 2)
    assert model.num_activations(100) == 100 * 8 * (19 * 3 + 13)
    # Nine trained items: queries 2 x 100 x 8, a block 2 x 256 x 9, item vectors 4 x 9 x 8.
    assert NextItemPrediction(model).num_activations(100) == 56_000 + 1_600 + 4_608 + 288


def test_the_largest_batch_by_hand() -> None:
    # Of length 1: 4 rows in a budget of 4, but only 2 exist: 2 x 2. Of 2: 2 rows x 3. Of 9: alone, 10.
    assert largest_batch(np.array([1, 1, 2, 2, 2, 9]), 4) == 10
    assert largest_batch(np.array([1, 1, 2, 2, 2]), 4) == 6
    assert largest_batch(np.array([1] * 9), 4) == 8
    assert largest_batch(np.array([0, 0]), 4) == 4  # an empty row still has its start token
    assert largest_batch(np.array([], np.int64), 4) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 40), st.integers(0, 3))
def test_no_batch_is_larger(lengths: list[int], budget: int, seed: int) -> None:
    rows = np.array(lengths)
    batches = shuffled_batches(rows, budget, np.random.default_rng(seed))
    assert max(len(batch) * (rows[batch].max() + 1) for batch in batches) <= largest_batch(rows, budget)


@pytest.mark.parametrize(("layers", "width", "dropout"), [(1, 16, 0.2), (3, 32, 0.2), (2, 64, 0.0)])
def test_the_formula_covers_what_autograd_keeps_and_not_much_more(layers: int, width: int, dropout: float) -> None:
    model = SASRec(SASRecConfig(width=width, layers=layers, max_length=20, dropout=dropout), torch.arange(30) >= 2)
    objective = NextItemPrediction(model)
    batch = histories([[2 + (row + step) % 20 for step in range(20)] for row in range(40)])
    batch = SequenceBatch(**(vars(batch) | {"views": {TARGET: batch.mask}}))
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = objective(batch, 0)  # held, so that no storage is freed and its address used again
    assert len(terms) == 1
    formula = 4 * objective.num_activations(40 * 21)
    assert 0.5 * formula < sum(kept.values()) < formula


def test_what_does_not_fit_is_refused_with_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(parameters=10**9, activations=2 * 10**8, log=5 * 10**7)
    monkeypatch.setattr(memory, "available_bytes", lambda device: need.total)
    check_memory(need, CPU, "sasrec")
    monkeypatch.setattr(memory, "available_bytes", lambda device: need.total - 1)
    with pytest.raises(UserError) as refused:
        check_memory(need, CPU, "sasrec")
    message = str(refused.value)
    for words in ("training sasrec needs about 16.9 GB", "16.0 GB for 1,000,000,000 parameters", "0.8 GB for a batch"):
        assert words in message
    assert "50.0 MB for the log; lower model.width, model.layers or training.tokens_per_batch" in message
    check_memory(need, torch.device("cuda"), "sasrec")  # the log stays in the memory of the host
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    check_memory(need, CPU, "sasrec")  # where nothing is known, nothing is refused


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_free_memory_is_the_least_of_the_machine_and_its_control_groups(tmp_path: Path) -> None:
    assert available_bytes(CPU, tmp_path) is None
    write(tmp_path, {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"})
    assert available_bytes(CPU, tmp_path) == 8_192_000
    group = "sys/fs/cgroup/user.slice"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/run.scope\n",
            f"{group}/memory.max": "5000000\n",
            f"{group}/memory.current": "3000000\n",
            f"{group}/memory.stat": "anon 1\ninactive_file 400000\n",
            f"{group}/run.scope/memory.max": "max\n",
            f"{group}/run.scope/memory.current": "1000\n",
            f"{group}/run.scope/memory.stat": "inactive_file 0\n",
        },
    )
    assert available_bytes(CPU, tmp_path) == 5_000_000 - 3_000_000 + 400_000
    write(tmp_path, {f"{group}/run.scope/memory.max": "1500\n"})
    assert available_bytes(CPU, tmp_path) == 500
    old = "sys/fs/cgroup/memory/job"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n",
            f"{old}/memory.limit_in_bytes": "7000\n",
            f"{old}/memory.usage_in_bytes": "9000\n",
            f"{old}/memory.stat": "total_inactive_file 100\n",
        },
    )
    assert available_bytes(CPU, tmp_path) == 0


def test_this_machine_says_something() -> None:
    free = available_bytes(CPU)
    assert free is None or free > 0


def test_a_sampled_softmax_by_hand() -> None:
    model = SASRec(SASRecConfig(width=8, layers=3, max_length=5), torch.arange(1000) >= 2, sparse_gradients=True)
    config = SampledSoftmaxConfig(negatives="mixed", num_in_batch=30, num_drawn=20)
    objective = NextItemPrediction(model, make_softmax(config, torch.ones(998, dtype=torch.int64)))
    # 100 positions and 50 negatives: 8 x 150 x 8, a block 2 x 256 x 50; the input's sparse gradient 4 x 100 x 8.
    assert objective.num_activations(100) == 56_000 + 9_600 + 25_600 + 3_200
    need = need_of(objective, 500, 7)
    table = 1000 * 8
    assert need == Need(sum(parameter.numel() for parameter in model.parameters()), 500, 7 * 48, table)
    assert need.on_device == 16 * need.parameters - 4 * table + 2_000


def test_a_million_items_need_their_table_and_moments_and_little_more() -> None:
    trained = torch.arange(1_000_002) >= 2
    with torch.device("meta"):
        model = SASRec(SASRecConfig(), trained, sparse_gradients=True)
    full = NextItemPrediction(model)
    counts = torch.ones(1_000_000, dtype=torch.int64)
    sampled = NextItemPrediction(model, make_softmax(SampledSoftmaxConfig(), counts))
    table = 4 * 64 * 1_000_002
    needs = [need_of(one, one.num_activations(6_400), 0).on_device for one in (full, sampled)]
    assert 3 * table < needs[1] < 4 * table
    assert needs[0] > needs[1] + 3_000_000_000
