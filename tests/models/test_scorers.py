"""What one model says of candidates, and how others read it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import test_main_model as main_model
from tests.models import test_youtube as youtube
from tests.models.test_argus import V, catalogue
from tests.models.test_main_model import B, C, answer, candidates, pasts, request
from upnext.base.batches import Candidates, Column, FlatColumn
from upnext.base.configuration import parse_config
from upnext.base.errors import BadBatch, BadConfig
from upnext.models.boosted import Boosted, Examples
from upnext.models.boosted_config import BoostedConfig
from upnext.models.build import load_any, save_model
from upnext.models.main_model import MainModel
from upnext.models.ordering import Ordering
from upnext.models.popularity import Popular, PopularConfig
from upnext.models.scorers import Asks, ReadsScores, Scorer, all_asked, chain_of
from upnext.models.youtube import YouTubeRanker

E = 3
INPUTS = main_model.RANKER_INPUTS.model_copy(
    update={"numbers": ["item.count", "argus.like"], "vectors": {"argus": E, "towers": E + 1}}
)
USER_ITEM = ("user", "item")


def with_dcn() -> MainModel:
    return main_model.make(INPUTS, joining={"kind": "dcn_v2", "hidden": [12, 6]})


def shown(seed: int = 0) -> Candidates:
    torch.manual_seed(seed)
    there, of_user = torch.ones(B, C, dtype=torch.bool), [torch.randn(B, 1, E + n).expand(B, C, -1) for n in range(2)]
    told = {
        "argus.like": Column(9 * torch.rand(B, C), there),
        "argus.user_vector": Column(of_user[0], there),
        "argus.item_vector": Column(torch.randn(B, C, E), there),
        "towers.user_vector": Column(of_user[1], there),
        "towers.item_vector": Column(torch.randn(B, C, E + 1), there),
    }
    return replace(candidates(), features={**candidates().features, **told})


@pytest.fixture(params=["main", "dcn", "youtube"])
def model(request: pytest.FixtureRequest) -> MainModel | YouTubeRanker:
    if request.param == "youtube":
        return youtube.make(INPUTS)
    return with_dcn() if request.param == "dcn" else main_model.make(INPUTS)


def test_networks_read_scores_and_vectors(model):
    before = answer(model, pasts(), request(), shown())
    assert model.reads == ["item.count", "argus.like", *(f"{n}.{v}_vector" for n in INPUTS.vectors for v in USER_ITEM)]
    for name in model.reads:
        other = {**shown().features, name: shown(1).features[name]}
        if name == "item.count":
            continue
        changed = answer(model, pasts(), request(), replace(shown(), features=other))
        assert not torch.allclose(changed, before), name
        lacks = {key: column for key, column in shown().features.items() if key != name}
        with pytest.raises(BadBatch, match=f"the ranker reads '{name}'"):
            answer(model, pasts(), request(), replace(shown(), features=lacks))


def test_no_candidate_sees_what_is_said_of_another(model):
    order = torch.randperm(C)
    some = shown()
    moved = {name: Column(c.values[:, order], c.observed[:, order]) for name, c in some.features.items()}
    swapped = Candidates(some.item[:, order], some.item_hash[:, order], some.mask[:, order], moved)
    before, after = (answer(model, pasts(), request(), one) for one in (some, swapped))
    torch.testing.assert_close(after, before[..., order], atol=1e-5, rtol=1e-5)


def test_it_comes_back_from_disk_with_what_it_divides_by(model, tmp_path):
    model.vectors.divide_by({"argus": (0.5, 3.0), "towers": (2.0, 0.1)})
    save_model(model, tmp_path)
    loaded = load_any(tmp_path, catalogue())
    assert isinstance(loaded, MainModel | YouTubeRanker)
    before, after = (answer(one, pasts(), request(), shown()) for one in (model, loaded))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)


def test_vectors_learn(model):
    outputs = model.train().predict(model.encode(pasts()), request(), shown())
    torch.autograd.backward(torch.stack(list(outputs.values())).square().sum())
    assert all(parameter.grad.abs().any() for parameter in model.vectors.parameters())


def test_trees_read_every_number_of_a_vector(tmp_path):
    rng = np.random.default_rng(0)
    vectors, there = rng.normal(size=(600, 4)).astype(np.float32), np.ones(600, np.bool_)
    there[::9] = False
    told = {
        "argus.item_vector": FlatColumn(vectors, there),
        "surface": FlatColumn(rng.integers(0, 3, 600), np.ones(600, np.bool_)),
        "argus.like": FlatColumn(rng.random(600).astype(np.float32), np.ones(600, np.bool_)),
    }
    liked = FlatColumn((vectors[:, 2] > 0).astype(np.float32), np.ones(600, np.bool_))
    examples = Examples(told, {"like": liked}, np.arange(600), liked.values.astype(np.float64))
    config = parse_config(BoostedConfig, {"training": {"trees": 20, "least_in_leaf": 5}}, "test")
    model = Boosted.fit(config, {"like": "binary"}, examples, examples)
    assert model.reads == list(told)
    shares = model.importance()["like"]
    assert shares.keys() == told.keys()
    assert shares["argus.item_vector"] > 0.9
    model.save(tmp_path)
    loaded = Boosted.load(tmp_path)
    assert loaded.features["argus.item_vector"] == 4
    batch = {
        n: Column(*(torch.from_numpy(a).unflatten(0, (200, 3)) for a in (c.values, c.observed)))
        for n, c in told.items()
    }
    item = torch.zeros(200, 3, dtype=torch.int64)
    ask = Candidates(item, item, item >= 0, batch)
    state, nobody = model.encode(pasts()), request()
    before, after = (one.predict(state, nobody, ask)["like"].flatten().numpy() for one in (model, loaded))
    np.testing.assert_array_equal(before, after)
    assert (before[there & (vectors[:, 2] > 0.2)] > before[there & (vectors[:, 2] < -0.2)].max()).all()


def test_a_retriever_says_its_score_and_nothing_of_items_it_never_met():
    popular = Popular(PopularConfig(), torch.arange(V))
    scorer = Scorer(Asks(name="popular"), popular, catalogue())
    assert scorer.numbers == ["popular.score"]
    ask = replace(candidates(), item=torch.tensor([[2, 3, V + 5]] * B), item_hash=torch.zeros(B, 3, dtype=torch.int64))
    (column,) = scorer.columns(popular.encode(pasts()), request(), ask).values()
    assert column.values.tolist() == [[2.0, 3.0, 0.0]] * B
    never = Ordering(popular)
    assert never.predict(popular.encode(pasts()), request(), candidates())["score"].shape == (B, C)
    with pytest.raises(BadConfig, match="vectors names 'popular', which has no user and item vectors"):
        Scorer(Asks(name="popular", vectors=True), popular, catalogue())


def test_each_model_is_asked_after_all_that_it_asks():
    readers = {
        "last": ReadsScores(scores=["b", "a"], vectors=["argus"]),
        "b": ReadsScores(scores=["a"]),
        "a": ReadsScores(scores=["now"]),
        "other": ReadsScores(vectors=["now"]),
    }
    assert [(one.name, one.scores, one.vectors) for one in chain_of(readers, "last")] == [
        ("now", True, False),
        ("a", True, False),
        ("b", True, False),
        ("argus", False, True),
    ]
    assert {(one.name, one.scores, one.vectors) for one in all_asked(readers)} == {
        ("b", True, False),
        ("a", True, False),
        ("argus", False, True),
        ("now", True, True),
    }
    with pytest.raises(BadConfig, match="scores names 'a' twice"):
        parse_config(ReadsScores, {"scores": ["a", "a"]}, "test")
