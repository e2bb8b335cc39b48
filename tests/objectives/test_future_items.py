"""Contrastive training of two towers: equal to a loop over moments; positives are what the user chose next."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import EVENTS, log_of
from tests.objectives.test_pairwise import batch as impressions
from tests.objectives.test_pairwise import model as model  # the fixture
from tests.reference.impressions import prefixes
from upnext.base.configuration import parse_config
from upnext.events.impressions import Impressions
from upnext.fitting.impressions import ChunkLimits, FutureData, ImpressionData
from upnext.models.two_towers import TwoTowers
from upnext.objectives.future_items import FutureBatch, FutureItems, PositivesConfig
from upnext.objectives.softmax import FullSoftmax, FullSoftmaxConfig


def one_moment_at_a_time(model: TwoTowers, data: FutureBatch, weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of both losses, each user vector from a run of its own over what may be known."""
    shown, temperature = data.impressions, 0.5
    trained = model.trained.nonzero().squeeze(1)

    def user(number: int) -> torch.Tensor:
        one = torch.tensor([number])
        history = prefixes(shown.histories, shown.row[one], shown.state[one])
        return model.user_vectors(history)[0, shown.state[number]] / temperature

    future = torch.zeros(())
    for number, item in zip(data.chosen.tolist(), data.item.tolist(), strict=True):
        logits = model.vectors_of(trained) @ user(number)
        future = future - logits.log_softmax(0)[(trained == item).nonzero()[0, 0]]
    hard = torch.zeros(())
    for better, worse, w in zip(shown.better.tolist(), shown.worse.tolist(), shown.weight, strict=True):
        of = [user(number) @ model.vectors_of(shown.item[number : number + 1])[0] for number in (better, worse)]
        hard = hard + weight * w * torch.nn.functional.softplus(of[1] - of[0])
    return future, hard


def test_equals_one_moment_at_a_time_with_gradients(model):
    data = FutureBatch(impressions(), torch.tensor([0, 3, 5, 9]), torch.tensor([2, 5, 5, 3]))
    softmax = FullSoftmax(parse_config(FullSoftmaxConfig, {"temperature": 0.5}, "test"), int(model.trained.sum()))
    objective = FutureItems(model, softmax, PositivesConfig(hard_negatives=0.7))
    terms = objective(data, 0)
    assert terms["future_items"][1] == 4
    assert terms["hard_negatives"][1].item() == pytest.approx(float(data.impressions.weight.sum()))
    results = []
    for future, hard in (
        (terms["future_items"][0], terms["hard_negatives"][0]),
        one_moment_at_a_time(model, data, 0.7),
    ):
        model.zero_grad()
        (future + hard).backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        results.append((future.detach(), hard.detach(), gradients))
    (future, hard, gradients), (future2, hard2, gradients2) = results
    torch.testing.assert_close(future, future2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hard, hard2, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients2.items():  # sums over hundreds of tokens, in another order
        torch.testing.assert_close(gradients[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_without_a_weight_there_are_no_hard_negatives(model):
    softmax = FullSoftmax(FullSoftmaxConfig(), int(model.trained.sum()))
    data = FutureBatch(impressions(), torch.tensor([0]), torch.tensor([2]))
    assert FutureItems(model, softmax, PositivesConfig())(data, 0).keys() == {"future_items"}


@settings(deadline=None)
@given(EVENTS.filter(len), st.integers(1, 3), st.integers(0, 10**6))
def test_a_positive_is_one_of_the_users_next_choices(events, among_next, seed):
    log = log_of(events)
    rows = np.arange(len(log))
    chosen = log.views["watched"]
    shown = Impressions(rows, log.groups, chosen.astype(float))
    joined = ImpressionData.join(log, rows, shown, 0, ChunkLimits(99, 1, 3))
    if not len(joined.chunks):
        return
    data = FutureData.of(joined, log.rows.user, among_next)
    torch.manual_seed(seed)
    chunks = np.random.default_rng(seed).permutation(len(joined.chunks))
    batch = data.batch(chunks)
    asked = np.concatenate(
        [joined.chunks.impression[joined.chunks.first[r] : joined.chunks.first[r + 1]] for r in chunks]
    )
    assert asked[batch.chosen.numpy()].tolist() == [row for row in asked if chosen[row]]
    for row, item in zip(asked[batch.chosen.numpy()], batch.item.tolist(), strict=True):
        later = [r for r in range(row, len(log)) if chosen[r] and log.rows.user[r] == log.rows.user[row]]
        assert item in log.rows.item[later[:among_next]]
    pairs = batch.impressions
    for better, worse in zip(asked[pairs.better.numpy()], asked[pairs.worse.numpy()], strict=True):
        assert chosen[better]
        assert not chosen[worse]
        assert log.groups[better] == log.groups[worse]
