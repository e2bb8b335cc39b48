import numpy as np
import pytest
import torch

from tests.fitting.planted import planted
from upnext.base.batches import NO_ITEMS, Candidates, Column, FlatColumn, Request, State
from upnext.base.errors import BadBatch, BadConfig
from upnext.base.protocols import Link, Ranker
from upnext.models.build import load_any, save_any
from upnext.models.student import LayersConfig, LinearConfig, Student, TowersConfig, inputs_of

SHAPES = [LinearConfig(width=3), LayersConfig(width=3, hidden=[5]), TowersConfig(width=3, hidden=[5], dimensions=4)]


def fresh(config, base=-1.5) -> Student:
    sets = planted()
    inputs = inputs_of(config, sets.features, sets.of_request, [], "like", Link.SIGMOID)
    torch.manual_seed(0)
    return Student.fresh(config, inputs, sets.features, base).eval()


def asked(size=5, rows=3) -> Candidates:
    """Candidates of requests, each with one hour, some with what was not observed or never seen."""
    generator = torch.Generator().manual_seed(1)
    seen = torch.rand(rows, size, generator=generator) < 0.8
    everywhere = torch.ones(rows, size, dtype=torch.bool)
    ids = torch.arange(rows * size).reshape(rows, size)
    features = {
        "signal": Column(torch.randn(rows, size, generator=generator), seen),
        "noise": Column(torch.randn(rows, size, generator=generator), everywhere),
        "kind": Column(torch.randint(2, 7, (rows, size), generator=generator), everywhere),
        "hour": Column(torch.arange(float(rows))[:, None].expand(rows, size), everywhere),
    }
    return Candidates(ids, ids, everywhere, features)


def predicted(model, candidates):
    rows = len(candidates.item)
    nobody = torch.zeros(rows, dtype=torch.int64)
    with torch.inference_mode():
        (scores,) = model.predict(
            State({"nothing": torch.zeros(rows, 0)}), Request(nobody, nobody), candidates
        ).values()
    return scores


@pytest.mark.parametrize("config", SHAPES, ids=lambda one: one.kind)
def test_it_is_a_ranker_and_no_candidate_sees_another(config):
    model, candidates = fresh(config), asked()
    assert isinstance(model, Ranker)
    assert model.components == {"like": Link.SIGMOID}
    scores = predicted(model, candidates)
    order = torch.randperm(5)
    moved = {name: Column(c.values[:, order], c.observed[:, order]) for name, c in candidates.features.items()}
    ids = candidates.item
    torch.testing.assert_close(predicted(model, Candidates(ids, ids, ids >= 0, moved)), scores[:, order])
    first = {name: Column(c.values[:1, :2], c.observed[:1, :2]) for name, c in candidates.features.items()}
    few = predicted(model, Candidates(ids[:1, :2], ids[:1, :2], ids[:1, :2] >= 0, first))
    torch.testing.assert_close(few, scores[:1, :2])


@pytest.mark.parametrize("config", SHAPES, ids=lambda one: one.kind)
def test_what_is_saved_answers_alike(config, tmp_path):
    model, candidates = fresh(config), asked()
    save_any(model, tmp_path)
    loaded = load_any(tmp_path, NO_ITEMS)
    assert isinstance(loaded, Student)
    assert loaded.inputs == model.inputs
    torch.testing.assert_close(predicted(loaded, candidates), predicted(model, candidates))


def test_what_was_not_observed_and_what_was_never_seen_are_told_from_what_was():
    model, same = fresh(SHAPES[0]), asked(size=2, rows=1)
    alike = {n: Column(c.values[:, :1].expand(1, 2), c.observed[:, :1].expand(1, 2)) for n, c in same.features.items()}
    for name, values, observed in (
        ("signal", torch.zeros(1, 2), torch.tensor([[True, False]])),
        ("kind", torch.tensor([[4, 99]]), torch.ones(1, 2, dtype=torch.bool)),
    ):
        features = alike | {name: Column(values, observed)}
        scores = predicted(model, Candidates(same.item, same.item_hash, same.mask, features))
        assert scores[0, 0] != scores[0, 1], name
    features = alike | {"kind": Column(torch.tensor([[99, 2**63 - 1]]), torch.ones(1, 2, dtype=torch.bool))}
    scores = predicted(model, Candidates(same.item, same.item_hash, same.mask, features))
    assert scores[0, 0] == scores[0, 1]


def test_a_missing_feature_is_named():
    model, candidates = fresh(SHAPES[1]), asked()
    ids = candidates.item
    few = {name: column for name, column in candidates.features.items() if name != "kind"}
    with pytest.raises(BadBatch, match="the student reads the feature 'kind'; the candidates have"):
        predicted(model, Candidates(ids, ids, ids >= 0, few))


def test_what_does_not_fit_the_examples_is_refused():
    sets = planted()

    def of(config, of_request=()):
        return inputs_of(config, sets.features, of_request, [], "like", Link.SIGMOID)

    with pytest.raises(BadConfig, match=r"student\.ignore names 'nose'"):
        of(LinearConfig(ignore=["nose"]))
    with pytest.raises(BadConfig, match="nothing to read"):
        of(LinearConfig(ignore=list(sets.features)))
    with pytest.raises(BadConfig, match="two towers need features of the request and features of candidates"):
        of(TowersConfig())
    assert of(LinearConfig(ignore=["noise"])).numbers == ["signal", "hour"]


def test_each_category_is_looked_up_among_its_own_values():
    values = {"few": np.array([3, 7, 7]), "many": np.array([9, 5, 1]), "none": np.array([4, 4, 4])}
    seen = {"few": [True] * 3, "many": [True] * 3, "none": [False] * 3}
    features = {name: FlatColumn(of, np.array(seen[name])) for name, of in values.items()}
    inputs = inputs_of(LinearConfig(), features, [], [], "like", Link.SIGMOID)
    model = Student.fresh(LinearConfig(), inputs, features, 0.0)
    asked = {
        "few": Column(torch.tensor([7, 3, 5, 9]), torch.tensor([True, True, True, False])),
        "many": Column(torch.tensor([1, 9, 7, 5]), torch.tensor([True, True, True, True])),
        "none": Column(torch.tensor([4, 4, 0, 2**63 - 1]), torch.tensor([True, True, True, True])),
    }
    _, codes = model.digest(asked, (4,))
    assert codes.tolist() == [[2, 1, 0], [1, 3, 0], [0, 0, 0], [0, 2, 0]]
