from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.contract import check_retriever
from tests.models.histories import histories, request
from upnext.base.batches import CORE, ItemTable
from upnext.base.configuration import parse_config
from upnext.base.errors import BadArtifact, BadConfig
from upnext.models.build import load_model, save_model
from upnext.models.sasrec import SASRec, SASRecConfig

V = 11
TRAINED = torch.tensor([False, False, True, True, True, True, True, False, True, True, True])


@pytest.fixture(scope="module")
def model() -> SASRec:
    torch.manual_seed(0)
    made = SASRec(SASRecConfig(width=8, layers=2, heads=2, max_length=6, dropout=0.3), TRAINED)
    for parameter in made.parameters():  # larger than at the start, so that differences show
        parameter.data.mul_(5)
    return made.eval()


def test_keeps_the_contract(model):
    with torch.inference_mode():
        check_retriever(model, V)


items = st.lists(st.integers(2, V - 1), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(items, items, st.integers(0, 5))
def test_the_future_never_changes_a_state(model, first, second, cut):
    cut = min(cut, len(first), len(second))
    second[:cut] = first[:cut]
    with torch.inference_mode():
        a, b = model.states(histories([first])), model.states(histories([second]))
    torch.testing.assert_close(a[:, : cut + 1], b[:, : cut + 1], atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.lists(items, min_size=1, max_size=3), items)
def test_padding_and_neighbours_change_nothing(model, rows, longer):
    with torch.inference_mode():
        alone = model.states(histories([rows[0]]))
        together = model.states(histories([*rows, longer]))
    torch.testing.assert_close(together[0, : len(rows[0]) + 1], alone[0], atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(2, V - 1), max_size=8), st.integers(0, 2))
def test_a_history_alone_is_encoded_as_among_others(model, row, num_padding):
    """A single row takes a way of its own."""
    batch = histories([row, [2] * (len(row) + num_padding)])
    alone = replace(batch, lengths=batch.lengths[:1], **{name: getattr(batch, name)[:1] for name in CORE})
    with torch.inference_mode():
        found, expected = (model.encode(each).tensors["hidden"][0] for each in (alone, batch))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)  # float32, added up in another order


def test_order_matters(model):
    with torch.inference_mode():
        states = model.encode(histories([[2, 3, 4], [4, 3, 2]])).tensors["hidden"]
    assert not torch.allclose(states[0], states[1], atol=1e-3)


def test_a_long_history_counts_with_its_last_events(model):
    with torch.inference_mode():
        long = model.encode(histories([[9, 9, 9, 2, 3, 4, 5, 6, 8]])).tensors["hidden"]
        short = model.encode(histories([[2, 3, 4, 5, 6, 8]])).tensors["hidden"]
    torch.testing.assert_close(long, short)


def test_reads_its_view_only(model):
    seen = histories([[2, 3, 4], [5, 6, 8]])
    watched = torch.tensor([[True, False, True], [False, False, False]])
    batch = type(seen)(**(vars(seen) | {"views": {"watched": watched}}))
    viewer = SASRec(model.config.model_copy(update={"view": "watched"}), TRAINED)
    viewer.load_state_dict(model.state_dict())
    viewer.eval()
    with torch.inference_mode():
        states = viewer.encode(batch).tensors["hidden"]
        expected = model.encode(histories([[2, 4], []])).tensors["hidden"]
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


def test_what_was_never_trained_is_never_chosen(model):
    with torch.inference_mode():
        chosen, _ = model.top_k(model.encode(histories([[2, 3]])), request(1), V)
    assert 7 not in chosen[0].tolist()


def test_a_checkpoint_answers_alike(model, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, ItemTable(torch.arange(V), torch.arange(V)))
    assert isinstance(loaded, SASRec)
    assert loaded.config == model.config
    with torch.inference_mode():
        assert torch.equal(loaded.states(histories([[2, 3]])), model.states(histories([[2, 3]])))


def test_a_damaged_checkpoint_is_refused(model, tmp_path):
    save_model(model, tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BadArtifact, match="run pretrain again"):
        load_model(tmp_path, ItemTable(torch.arange(V), torch.arange(V)))


def test_heads_must_divide_the_width():
    with pytest.raises(BadConfig, match="width 10 is no multiple of heads 3"):
        parse_config(SASRecConfig, {"width": 10, "heads": 3}, "x.toml")
