"""The softmax that a configuration asks for: what it reads, what it refuses, what it costs."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.histories import histories
from tests.reference.sampled import sampled_softmax_loss as slow
from upnext.base.batches import SequenceBatch
from upnext.base.configuration import Config, parse_config
from upnext.base.errors import BadConfig
from upnext.base.views import TARGET
from upnext.models.sasrec import SASRec, SASRecConfig
from upnext.nn.temperature import HIGHEST, LOWEST, Temperature
from upnext.objectives.next_item import NextItemPrediction
from upnext.objectives.softmax import LossConfig, SampledSoftmax, SampledSoftmaxConfig, make_softmax
from upnext.training.optimizers import adamw, clip_gradients

V, D = 9, 4


class Wrapper(Config):
    loss: LossConfig


def parsed(**keys: Any) -> LossConfig:
    return parse_config(Wrapper, {"loss": {"kind": "sampled", **keys}}, "project.toml").loss


@pytest.mark.parametrize("negatives", ["uniform", "in_batch", "popularity", "mixed"])
@pytest.mark.parametrize("correction", ["none", "corrected"])
def test_equals_the_slow_loop_over_what_was_drawn(negatives, correction):
    counts = torch.tensor([5, 1, 1, 9, 2, 2, 3, 1, 1])
    generator = np.random.default_rng(0)
    items, queries, targets = generator.normal(size=(V, D)), generator.normal(size=(6, D)), [3, 0, 3, 6, 4, 0]
    softmax = make_softmax(parsed(negatives=negatives, correction=correction, temperature=0.5), counts)
    assert isinstance(softmax, SampledSoftmax)
    table, query, target = (
        torch.tensor(items, requires_grad=True),
        torch.tensor(queries, requires_grad=True),
        torch.tensor(targets),
    )
    torch.manual_seed(0)
    softmax(query, target, lambda rows: table[rows]).backward()
    torch.manual_seed(0)
    drawn = softmax.sampler(target)
    q = np.ones(V)
    q[drawn.ids.numpy()], q[targets] = drawn.log_q.exp().numpy(), drawn.target_log_q.exp().numpy()
    expected = slow(2 * queries, items, targets, drawn.ids.tolist(), q, correction)
    assert query.grad is not None
    assert table.grad is not None
    np.testing.assert_allclose(query.grad.numpy(), 2 * expected.d_queries, atol=1e-5)  # Q is float32
    np.testing.assert_allclose(table.grad.numpy(), expected.d_items, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"negatives": "uniform", "num_in_batch": 3}, "num_in_batch has no effect with uniform negatives"),
        ({"negatives": "popularity", "num_in_batch": 3}, "num_in_batch has no effect with popularity negatives"),
        ({"negatives": "in_batch", "num_drawn": 3}, "num_drawn has no effect with in_batch negatives"),
        ({"mask_hits": False}, "'corrected' masks hits; remove mask_hits"),
        ({"negatives": "uniform", "correction": "standard"}, "'standard' has no effect with uniform negatives"),
        ({"negatives": "uniform", "sketch": {}}, "sketch has no effect with uniform negatives"),
        ({"correction": "none", "sketch": {}}, "sketch has no effect with mixed negatives"),
        ({"temperature": 0.001}, "greater than or equal to 0.01"),
        ({"temperature": 101}, "less than or equal to 100"),
        ({"temperature": "warm"}, "temperature"),
        ({"num_drawn": 0}, "greater than or equal to 1"),
        ({"negatives": "hard"}, "'uniform', 'in_batch', 'popularity' or 'mixed'"),
        ({"sketch": {"width": 100}, "negatives": "popularity"}, "128 is the next"),
        ({"kind": "hinge"}, "hinge"),
    ],
)
def test_what_cannot_be_or_has_no_effect_is_refused(keys, words):
    with pytest.raises(BadConfig) as refused:
        parsed(**keys)
    assert words in str(refused.value)


def test_the_full_softmax_takes_no_key_of_the_sampled_one():
    with pytest.raises(BadConfig, match=r"unknown key 'loss\.num_drawn'"):
        parsed(kind="full", num_drawn=3)


def test_standard_and_none_are_one_loss_where_all_items_are_as_likely():
    counts, targets = torch.ones(V, dtype=torch.int64), torch.tensor([1, 2, 3])
    table, queries = torch.randn(V, D), torch.randn(3, D)
    losses = []
    for correction in ("none", "standard"):  # popularity with equal counts, which the configuration cannot know
        torch.manual_seed(0)
        softmax = make_softmax(parsed(negatives="popularity", correction=correction), counts)
        losses.append(softmax(queries, targets, lambda rows: table[rows]).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_learned_temperature_gets_its_gradient_and_stays_in_its_range():
    temperature = Temperature("learned")
    queries = torch.tensor([2.0, 3.0])
    temperature(queries).sum().backward()
    assert temperature.log_value is not None
    assert temperature.log_value.grad is not None
    assert temperature.log_value.grad.item() == pytest.approx(-5.0)  # d (5/T) / d log T at T = 1
    for far, end in ((-50.0, LOWEST), (50.0, HIGHEST)):
        temperature.log_value.data.fill_(far)
        assert temperature.value == end  # as it will be used
        assert temperature(queries).tolist() == pytest.approx([2 / end, 3 / end], rel=1e-5)
        assert temperature.log_value.exp().item() == pytest.approx(end)
    assert Temperature(0.5)(queries).tolist() == [4.0, 6.0]
    assert not list(Temperature(0.5).parameters())


def test_clamping_where_it_is_used_is_clamping_after_the_step():
    late, early = Temperature("learned"), Temperature("learned")
    optimizers = [torch.optim.SGD(one.parameters(), lr=10.0) for one in (late, early)]
    for target in (5.0, -4.0, 3.0, 200.0):
        for one, optimizer in zip((late, early), optimizers, strict=True):
            optimizer.zero_grad()
            (one(torch.ones(1)) - target).square().sum().backward()
            optimizer.step()
        assert early.log_value is not None
        with torch.no_grad():
            early.log_value.clamp_(np.log(LOWEST), np.log(HIGHEST))
        assert late.value == pytest.approx(early.value)


def made(num_items: int, loss: SampledSoftmaxConfig) -> NextItemPrediction:
    torch.manual_seed(0)
    config = SASRecConfig(width=8, layers=1, max_length=10, dropout=0.0)
    model = SASRec(config, torch.arange(num_items) >= 2, sparse_gradients=True)
    return NextItemPrediction(model, make_softmax(loss, torch.ones(num_items - 2, dtype=torch.int64)))


def batch_of(rows: int) -> SequenceBatch:
    batch = histories([[2 + (row + step) % 50 for step in range(10)] for row in range(rows)])
    return SequenceBatch(**(vars(batch) | {"views": {TARGET: batch.mask}}))


def test_only_the_rows_that_occur_get_gradients():
    objective = made(5000, SampledSoftmaxConfig(negatives="uniform", num_drawn=7))
    torch.manual_seed(1)
    objective(batch_of(4), 0)["next_item"][0].backward()
    torch.manual_seed(1)
    assert isinstance(objective.softmax, SampledSoftmax)
    drawn = objective.softmax.sampler(torch.zeros(40, dtype=torch.int64)).ids
    gradient = objective.model.item_embedding.weight.grad
    assert gradient is not None
    rows = set(gradient.coalesce().indices()[0].tolist())
    assert rows == {*(drawn + 2).tolist(), *range(2, 15)}


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor) and not one.is_sparse and not self._is_old(one, args):
                self.numel = max(self.numel, one.numel())
        return out

    @staticmethod
    def _is_old(out: torch.Tensor, args: Any) -> bool:
        """Whether it is a view of an argument, or an argument that was changed in place."""
        given = [one for one in args if isinstance(one, torch.Tensor) and not one.is_sparse]
        return any(out.untyped_storage().data_ptr() == one.untyped_storage().data_ptr() for one in given)


@pytest.mark.parametrize("negatives", ["uniform", "in_batch", "popularity", "mixed"])
def test_a_step_makes_no_tensor_that_grows_with_the_catalogue_or_with_positions_times_negatives(negatives):
    counts: dict[str, Any] = {} if negatives == "in_batch" else {"num_drawn": 300}
    largest = {}
    for num_items, rows in ((20_000, 60), (40_000, 60), (20_000, 240)):
        objective = made(num_items, SampledSoftmaxConfig(negatives=negatives, **counts))
        optimizer = adamw(objective, 1e-3, 0.01)
        for _ in range(2):  # the first step also makes the moments
            with Largest() as seen:
                optimizer.zero_grad()
                objective(batch_of(rows), 0)["next_item"][0].backward()
                clip_gradients(objective.parameters(), 1.0)
                optimizer.step()
        largest[num_items, rows] = seen.numel
    assert largest[40_000, 60] <= 1.02 * largest[20_000, 60]  # fewer draws repeat
    assert largest[20_000, 60] < 600 * 300  # positions x negatives
    assert largest[20_000, 240] <= 4.2 * largest[20_000, 60]  # linear in positions: four times as many


def test_the_largest_tensor_of_the_full_softmax_does_grow():
    # So that the test above is known to see what it looks for.
    largest = []
    for num_items in (20_000, 40_000):
        objective = NextItemPrediction(made(num_items, SampledSoftmaxConfig()).model)
        with Largest() as seen:
            nn.Module.zero_grad(objective)
            objective(batch_of(60), 0)["next_item"][0].backward()
        largest.append(seen.numel)
    assert largest[1] > 1.9 * largest[0]
