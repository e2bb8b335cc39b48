import numpy as np
import pytest
import torch

from tests.models.test_argus import INPUTS, V, batch_of, catalogue, events
from tests.reference.impressions import impression_scores
from upnext.base.configuration import parse_config
from upnext.losses.pairwise import pairwise_logistic_loss
from upnext.models.two_towers import TwoTowers, TwoTowersConfig
from upnext.objectives.pairwise import ImpressionBatch, PairwiseRanking


@pytest.fixture(params=["simplified", "full"])
def model(request: pytest.FixtureRequest) -> TwoTowers:
    torch.manual_seed(0)
    encoder = {"form": request.param, "width": 8, "layers": 2, "heads": 2, "max_length": 9, "dropout": 0.0}
    encoder["embeddings"] = {"kind": "hashed", "rows": 64}
    config = parse_config(TwoTowersConfig, {"encoder": encoder, "width": 6}, "test")
    made = TwoTowers(config, INPUTS, catalogue(), torch.arange(V) >= 2)
    for parameter in made.parameters():
        parameter.data.mul_(3)
    return made


def batch() -> ImpressionBatch:
    g = np.random.default_rng(0)
    histories = batch_of(events(1, [0, 1, 1, 2, 3, 4, 5, 6]), events(2, [0, 1, 2]))
    row = torch.tensor([0] * 8 + [1] * 4)
    state = torch.tensor([0, 1, 3, 4, 4, 8, 8, 5, 0, 1, 3, 3])
    better, worse = torch.tensor([0, 3, 5, 6, 10, 9]), torch.tensor([1, 4, 6, 2, 11, 8])
    item = torch.from_numpy(g.integers(2, V, len(row)))
    return ImpressionBatch(histories, row, state, item, better, worse, torch.rand(6) + 0.5)


def test_one_pass_equals_a_run_per_impression_with_gradients(model):
    data = batch()
    one_pass = PairwiseRanking(model)
    results = []
    for scores in (one_pass.scores(data), impression_scores(model, data, at_once=5)):
        loss = pairwise_logistic_loss(scores[data.better], scores[data.worse], data.weight)
        model.zero_grad()
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        results.append((scores.detach(), loss.detach(), gradients))
    (scores, loss, gradients), (scores2, loss2, gradients2) = results
    torch.testing.assert_close(scores, scores2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, loss2, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == gradients2.keys()
    for name, gradient in gradients.items():  # sums over hundreds of tokens, in another order
        torch.testing.assert_close(gradient, gradients2[name], atol=5e-5, rtol=1e-4, msg=name)


def test_the_loss_by_hand(model):
    data = batch()
    scores = PairwiseRanking(model).scores(data).tolist()
    total, weight = PairwiseRanking(model)(data, 0)["pairs"]
    expected = sum(
        float(w) * np.log1p(np.exp(scores[b] - scores[a]))
        for a, b, w in zip(data.better, data.worse, data.weight, strict=True)
    )
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert weight.item() == pytest.approx(float(data.weight.sum()))


def test_an_impression_knows_nothing_after_its_state(model):
    data = batch()
    scores = PairwiseRanking(model).scores(data)
    changed = batch()
    changed.histories.item[0, 5:] = 2
    changed.histories.item_hash[0, 5:] = catalogue().item_hash[2]
    changed.histories.columns["feedback.like"].values[0, 5:] = 1
    again = PairwiseRanking(model).scores(changed)
    early = (data.row == 1) | (data.state <= 5)
    torch.testing.assert_close(scores[early], again[early])
    assert not torch.allclose(scores[~early], again[~early])
