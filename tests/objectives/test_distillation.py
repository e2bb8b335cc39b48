from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from upnext.base.batches import Column
from upnext.base.example_sets import SetBatch
from upnext.losses.distillation import difference_loss, label_loss, score_loss
from upnext.losses.listwise import list_probability_loss, listwise_softmax_loss, multi_positive_loss
from upnext.losses.pairwise import label_pair_loss, pair_difference_loss, pair_probability_loss
from upnext.losses.ranks import rank_loss, rank_pair_weights, rank_step_loss
from upnext.losses.sets import as_one_set
from upnext.objectives.distillation import AnyTerm, Distillation, LabelTerm, Schedule

GENERATOR = torch.Generator().manual_seed(0)
SCORES, TEACHER = (torch.randn(3, 5, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
LABEL = torch.tensor([[2.0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 2]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
SAID = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
POSITIVE = (LABEL >= 1).double()


def term(**settings) -> AnyTerm:
    return TypeAdapter(AnyTerm).validate_python(settings)


def batch() -> SetBatch:
    return SetBatch((SCORES,), MASK, LABEL, Column(TEACHER, SAID))


def objective(*terms) -> Distillation:
    return Distillation(nn.Identity(), terms, relevant=1.0)


WEIGHTS = rank_pair_weights(SCORES, TEACHER, SAID, form="distance", by="both", exponent=2.0)
EXPECTED: list[tuple[dict[str, Any], tuple[Tensor, Tensor]]] = [
    ({"kind": "label"}, label_loss(SCORES, POSITIVE, MASK)),
    ({"kind": "label", "form": "squared"}, label_loss(SCORES, LABEL, MASK, form="squared")),
    ({"kind": "label_pairs", "ties": "keep"}, label_pair_loss(SCORES, LABEL, MASK, ties="keep")),
    ({"kind": "label_list"}, listwise_softmax_loss(SCORES, LABEL, MASK)),
    ({"kind": "multi_positive"}, multi_positive_loss(SCORES, POSITIVE, MASK)),
    ({"kind": "scores"}, score_loss(SCORES, TEACHER, SAID)),
    ({"kind": "scores", "form": "cross_entropy"}, score_loss(SCORES, TEACHER, SAID, form="cross_entropy")),
    ({"kind": "differences"}, difference_loss(SCORES, TEACHER, SAID)),
    (
        {"kind": "differences", "rank_weights": {"form": "distance", "by": "both", "exponent": 2}},
        pair_difference_loss(SCORES, TEACHER, SAID, pair_weights=WEIGHTS),
    ),
    ({"kind": "differences", "whole_batch": True}, difference_loss(*as_one_set(SCORES, TEACHER, SAID))),
    (
        {"kind": "pair_probabilities", "form": "conditional", "temperature": 2, "temperature_power": 2},
        pair_probability_loss(SCORES, TEACHER, SAID, form="conditional", temperature=2.0, temperature_power=2),
    ),
    (
        {"kind": "list_probabilities", "temperature": 3},
        list_probability_loss(SCORES, TEACHER, SAID, temperature=3.0),
    ),
    ({"kind": "ranks", "width": 0.5}, rank_loss(SCORES, TEACHER, SAID, width=0.5)),
    ({"kind": "rank_steps", "sign": True}, rank_step_loss(SCORES, TEACHER, SAID, sign=True)),
]


@pytest.mark.parametrize(("settings", "expected"), EXPECTED, ids=lambda one: str(one) if isinstance(one, dict) else "")
def test_every_term_is_the_loss_of_its_name_over_what_it_may_see(settings, expected):
    (found,) = objective(term(weight=0.5, **settings))(batch(), 0).values()
    torch.testing.assert_close(found[0], 0.5 * expected[0])
    torch.testing.assert_close(found[1], expected[1])


def test_every_kind_of_term_is_tried_above():
    kinds = {one[0]["kind"] for one in EXPECTED}
    schema = TypeAdapter(AnyTerm).json_schema()
    assert kinds == set(schema["discriminator"]["mapping"])


def test_terms_of_labels_do_not_ask_the_teacher():
    silent = SetBatch((SCORES,), MASK, LABEL, Column(TEACHER * torch.nan, SAID & False))
    terms = [term(**settings) for settings, _ in EXPECTED]
    labels = [one for one in terms if isinstance(one, LabelTerm)]
    assert len(labels) == 5
    heard = objective(*labels)
    for alone, taught in zip(heard(silent, 0).values(), heard(batch(), 0).values(), strict=True):
        torch.testing.assert_close(alone, taught)
    for one in [one for one in terms if not isinstance(one, LabelTerm)]:
        ((total, weight),) = objective(one)(silent, 0).values()
        assert (total.item(), weight.item()) == (0, 0)


def test_terms_of_one_kind_have_names_of_their_own():
    assert list(objective(term(kind="label"), term(kind="label", form="squared"))(batch(), 0)) == ["label", "label-1"]


def test_schedules_go_from_begin_to_end():
    line = Schedule(kind="linear", steps=4, begin=1, end=3)
    assert [line.factor(step) for step in (0, 1, 4, 9)] == [1, 1.5, 3, 3]
    half = Schedule(kind="cosine", steps=4)
    assert [round(half.factor(step), 12) for step in (0, 2, 4)] == [0, 0.5, 1]
    at_once = Schedule(kind="step", steps=4, begin=0.2)
    assert [at_once.factor(step) for step in (0, 3, 4)] == [0.2, 0.2, 1]
    scheduled = objective(term(kind="label", schedule={"kind": "linear", "steps": 10, "begin": 0, "end": 2}))
    full = objective(term(kind="label"))(batch(), 0)["label"][0]
    torch.testing.assert_close(scheduled(batch(), 5)["label"][0], full)
    torch.testing.assert_close(scheduled.of_scores(SCORES, batch(), None)["label"][0], 2 * full)
