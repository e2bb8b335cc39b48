from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.fitting.planted import planted
from upnext.base.batches import Column
from upnext.evaluation.distilled import set_figures
from upnext.fitting.distillation import DistillConfig, scores_of
from upnext.fitting.live import fit_live
from upnext.losses.distillation import difference_loss, label_loss
from upnext.objectives.distillation import LiveDistillation
from upnext.training.batches import ordered_batches
from upnext.training.loop import Start

SETTINGS = {
    "examples": "x",
    "student": {"kind": "linear"},
    "losses": [{"kind": "label"}, {"kind": "differences", "weight": 0.5}],
    "live": {"teacher": {"kind": "mlp", "hidden": [8], "dropout": 0.2}, "losses": [{"kind": "label"}], "until": 0.6},
    "training": {"learning_rate": 0.05, "tokens_per_batch": 60, "checkpoint_every": 2, "warmup_steps": 0},
}
CONFIG = DistillConfig.model_validate(SETTINGS)


def fit(sets, folder, resume=False):
    assert CONFIG.live is not None
    folder.mkdir(exist_ok=True)
    return fit_live(CONFIG, CONFIG.live, sets, folder, Start(recipe="live", resume=resume))


def test_a_stream_keeps_its_order():
    lengths = np.array([3, 1, 9, 0, 2, 2, 5])
    batches = ordered_batches(lengths, 5)
    assert np.concatenate(batches).tolist() == list(range(7))
    assert [batch.tolist() for batch in batches] == [[0, 1], [2], [3, 4, 5], [6]]


def test_both_learn_a_planted_pattern_in_one_pass(tmp_path):
    sets = planted(num_sets=600)
    student, teacher = fit(sets, tmp_path)
    chosen = np.flatnonzero(sets.part == 2)
    for model in (student, teacher):
        scores = scores_of(model, sets.take(chosen))
        assert set_figures(sets.take(chosen), scores, are_logits=True)["auc"] > 0.85


def test_the_stream_comes_in_the_order_of_time(tmp_path):
    """Sets in another order, with the same times, are learnt alike, bit for bit, where no two have one time."""
    sets = planted(num_sets=30)
    sets = replace(sets, time_ms=np.random.default_rng(0).permutation(30))
    other = sets.take(np.random.default_rng(1).permutation(30))
    first, second = (fit(of, tmp_path / name)[0] for name, of in (("a", sets), ("b", other)))
    for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_a_stream_that_was_interrupted_goes_on_bit_for_bit(tmp_path, monkeypatch):
    sets = planted(num_sets=60)
    whole = fit(sets, tmp_path / "whole")
    forward = LiveDistillation.forward

    def dies(self, batch, step):
        if step == 3:
            raise KeyboardInterrupt
        return forward(self, batch, step)

    monkeypatch.setattr(LiveDistillation, "forward", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(sets, tmp_path / "killed")
    monkeypatch.undo()
    resumed = fit(sets, tmp_path / "killed", resume=True)
    for before, after in zip(whole, resumed, strict=True):
        for name, tensor in before.state_dict().items():
            torch.testing.assert_close(tensor, after.state_dict()[name], rtol=0, atol=0)
    assert (tmp_path / "whole" / "history.jsonl").read_bytes() == (tmp_path / "killed" / "history.jsonl").read_bytes()


def test_a_batch_is_scored_before_the_teacher_learns_from_it_and_at_last_by_nobody(tmp_path, monkeypatch):
    seen = []
    forward = LiveDistillation.forward

    def spied(self, batch, step):
        found = forward(self, batch, step)
        seen.append((step, sorted(found), self.until))
        if step == 1:
            self.eval()  # dropout draws once for each call
            again = forward(self, batch, step)
            said, scores = self.teacher.model(*batch.inputs[:2]), self.student.model(*batch.inputs[2:])
            torch.testing.assert_close(again["differences"][0], 0.5 * difference_loss(scores, said, batch.mask)[0])
            positive = (batch.label >= 1).to(scores.dtype)
            torch.testing.assert_close(again["label"][0], label_loss(scores, positive, batch.mask)[0])
            assert isinstance(batch.teacher, Column)
            assert not batch.teacher.observed.any()
            self.train()
        return found

    monkeypatch.setattr(LiveDistillation, "forward", spied)
    fit(planted(num_sets=60), tmp_path)
    until = seen[0][2]
    assert 0 < until < len(seen)
    for step, names, _ in seen:
        assert names == (["differences", "label", "teacher.label"] if step < until else ["label"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"teacher": "t"}, "give one of 'teacher', 'scores' and 'live'"),
        ({"student": {"kind": "boosted"}, "training": {}}, "a boosted student cannot learn live"),
        ({"losses": [{"kind": "scores"}]}, "goes on alone from labels"),
        ({"losses": [{"kind": "label"}]}, "no loss listens to the teacher"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(more, said):
    with pytest.raises(ValueError, match=said):
        DistillConfig.model_validate(SETTINGS | more)
