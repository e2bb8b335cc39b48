from dataclasses import replace

import numpy as np
import pytest

from tests.fitting.planted import planted
from upnext.base.batches import FlatColumn
from upnext.base.errors import BadConfig
from upnext.evaluation.distilled import set_figures
from upnext.fitting.costs import cost_of, percentiles_ms, seconds_of_answers
from upnext.fitting.distillation import DistillConfig, fit_student, scores_of
from upnext.fitting.folds import FoldsConfig, out_of_fold
from upnext.models.boosted import Boosted
from upnext.training.loop import Start

SHAPES = [
    {"kind": "linear"},
    {"kind": "mlp", "hidden": [8]},
    {"kind": "towers", "hidden": [8], "dimensions": 4},
    {"kind": "boosted", "trees": 20, "least_in_leaf": 5, "learning_rate": 0.3},
]
QUICK = {"epochs": 6, "learning_rate": 0.05, "tokens_per_batch": 128}


def config(shape, *terms, **more) -> DistillConfig:
    training = {} if shape["kind"] == "boosted" else {"training": QUICK}
    named = {"examples": "x", "student": shape, "losses": list(terms)}
    return DistillConfig.model_validate(named | training | more)


def held_out(sets, scores):
    chosen = np.flatnonzero(sets.part == 2)
    return set_figures(sets.take(chosen), scores[sets.candidates_of(chosen)], are_logits=True)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda one: one["kind"])
@pytest.mark.parametrize("terms", [["label"], ["label", "label_list"], ["label", "label_pairs"]], ids="+".join)
def test_labels_alone_teach_a_planted_pattern(shape, terms, tmp_path):
    sets = planted(num_sets=240)
    model = fit_student(config(shape, *({"kind": one} for one in terms)), sets, None, tmp_path, Start())
    found = held_out(sets, scores_of(model, sets))
    assert found["auc"] > 0.85
    assert found["log_loss"] < 0.45  # what is most likely for everybody costs 0.69


@pytest.mark.parametrize("shape", SHAPES, ids=lambda one: one["kind"])
def test_a_teacher_who_knows_more_than_few_labels_say_is_followed(shape, tmp_path):
    sets = planted(num_sets=240)
    truth = 3.0 * sets.features["signal"].values + (sets.features["kind"].values == 5)
    said = FlatColumn(truth.astype(np.float64), np.ones(len(truth), bool))
    blind = replace(sets, label=np.random.default_rng(1).integers(0, 2, len(sets.label)).astype(float))
    taught = config(shape, {"kind": "differences"}, {"kind": "label", "weight": 0.1}, teacher="oracle")
    model = fit_student(taught, blind, said, tmp_path, Start())
    assert held_out(sets, scores_of(model, sets))["auc"] > 0.85


def test_no_candidate_is_spoken_of_by_a_teacher_that_saw_its_label(tmp_path):
    """Other labels of a set, and of its owner's, change nothing of what is said of them, bit for bit."""
    sets = planted(num_sets=24, size=3)
    owner = sets.owner[np.flatnonzero(sets.part == 0)[0]]
    own = sets.candidates_of(np.flatnonzero((sets.owner == owner) & (sets.part == 0)))

    def said(of):
        def fit(chosen, fold):
            folder = tmp_path / f"{fold} {of.label.sum()}"
            folder.mkdir(exist_ok=True)
            numbers = np.union1d(chosen, np.flatnonzero(of.part == 1))
            return fit_student(config(SHAPES[1], {"kind": "label"}), of.take(numbers), None, folder, Start())

        return out_of_fold(FoldsConfig(count=3), of, fit, lambda model, asked: scores_of(model, of.take(asked))).values

    flipped = sets.label.copy()
    flipped[own] = 1 - flipped[own]
    flipped[own[0]] = flipped[own[0]] + 1  # the sum differs too, so that folders do
    before, after = said(sets), said(replace(sets, label=flipped))
    np.testing.assert_array_equal(before[own], after[own])
    assert (before != after).any()


def test_it_costs_what_it_holds(tmp_path):
    sets = planted(num_sets=24)
    model = fit_student(config(SHAPES[0], {"kind": "label"}), sets, None, tmp_path, Start())
    costs = cost_of(model) | percentiles_ms(seconds_of_answers([model], sets, num_requests=20))
    # 3 numbers with 4 columns each, one category of 3 values and one more, 8 wide; a weight for each column, and a bias
    assert costs["parameters"] == 4 * 8 + (3 * 4 + 8) + 1
    assert 0 < costs["p50_ms"] <= costs["p99_ms"]
    assert costs["size_bytes"] > 4 * costs["parameters"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"losses": [{"kind": "scores"}]}, "the loss 'scores' needs a teacher"),
        ({"losses": [{"kind": "label"}], "teacher": "t"}, "no loss listens to the teacher"),
        ({"losses": [{"kind": "scores"}], "teacher": "t", "scores": ["f"]}, "give one of"),
        ({"losses": [{"kind": "label"}], "student": {"kind": "boosted"}, "training": {}}, "'training' has no effect"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(more, said):
    with pytest.raises(ValueError, match=said):
        DistillConfig.model_validate({"examples": "x", "student": {"kind": "linear"}} | more)


def test_an_empty_part_is_named(tmp_path):
    sets = planted(num_sets=12)
    with pytest.raises(BadConfig, match="the validation part of the examples is empty"):
        fit_student(
            config(SHAPES[0], {"kind": "label"}), sets.take(np.flatnonzero(sets.part != 1)), None, tmp_path, Start()
        )


@pytest.mark.parametrize("by", ["student", "both"])
@pytest.mark.parametrize("form", ["reciprocal", "reciprocal_log", "distance"])
def test_trees_go_on_where_pairs_weigh_by_their_own_ranks(by, form, tmp_path):
    """All scores are equal at first, and weights jump where scores change places: neither ends the growth."""
    sets = planted(num_sets=240)
    said = FlatColumn(3.0 * sets.features["signal"].values.astype(np.float64), np.ones(len(sets.label), bool))
    term = {"kind": "differences", "rank_weights": {"by": by, "form": form}}
    taught = config(SHAPES[3], term, {"kind": "label", "weight": 0.1}, teacher="oracle")
    model = fit_student(taught, sets, said, tmp_path, Start())
    plain = fit_student(
        config(SHAPES[3], {"kind": "differences"}, {"kind": "label", "weight": 0.1}, teacher="oracle"),
        sets,
        said,
        tmp_path,
        Start(),
    )
    assert isinstance(model, Boosted)
    assert isinstance(plain, Boosted)
    assert model.num_values > 0.8 * plain.num_values
    scores = [held_out(sets, scores_of(one, sets)) for one in (model, plain)]
    assert scores[0]["log_loss"] < scores[1]["log_loss"] + 0.05
    assert scores[0]["pair_accuracy"] > 0.9


def test_trees_go_on_by_steps_of_ranks(tmp_path):
    sets = planted(num_sets=240)
    said = FlatColumn(3.0 * sets.features["signal"].values.astype(np.float64), np.ones(len(sets.label), bool))
    taught = config(SHAPES[3], {"kind": "rank_steps"}, {"kind": "label"}, teacher="oracle")
    model = fit_student(taught, sets, said, tmp_path, Start())
    found = held_out(sets, scores_of(model, sets))
    assert found["pair_accuracy"] > 0.9
    assert found["log_loss"] < 0.5


def test_trees_of_too_few_examples_are_refused(tmp_path):
    sets = planted(num_sets=12, size=2)
    sets = replace(sets, features={"signal": sets.features["signal"]})
    with pytest.raises(BadConfig, match=r"grows no trees of .* a smaller least_in_leaf than 500"):
        fit_student(config({"kind": "boosted", "least_in_leaf": 500}, {"kind": "label"}), sets, None, tmp_path, Start())
