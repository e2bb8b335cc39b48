"""Vectors of other models as a network reads them."""

import torch

from upnext.base.batches import Column
from upnext.nn.slots import slot
from upnext.nn.vector_pairs import VectorPairs

B, C, E, D = 3, 4, 5, 2


def column(values: torch.Tensor) -> Column:
    return Column(values, torch.ones(values.shape[:2], dtype=torch.bool))


def test_each_goes_through_a_layer_and_their_product_stands_beside_them():
    torch.manual_seed(0)
    pairs = VectorPairs({"argus": E, "a.b": E + 1}, D)
    pairs.divide_by({"argus": (2.0, 4.0), "a.b": (1.0, 1.0)})
    user, item = torch.randn(B, E), torch.randn(B, C, E)
    others = torch.randn(B, C, E + 1)
    columns = {
        "argus.user_vector": column(user[:, None].expand(B, C, E)),
        "argus.item_vector": column(item),
        "a.b.user_vector": column(others),
        "a.b.item_vector": column(others),
    }
    of_request, of_candidate = pairs(columns)
    assert of_request.shape == (B, pairs.request_width) == (B, 2 * D)
    assert of_candidate.shape == (B, C, pairs.candidate_width) == (B, C, 4 * D)
    name = slot("argus")
    torch.testing.assert_close(of_request[:, :D], pairs.user[name](user / 2))
    torch.testing.assert_close(of_candidate[..., :D], pairs.item[name](item / 4))
    product = pairs.user[name](user / 2)[:, None] * pairs.item[name](item / 4)
    torch.testing.assert_close(of_candidate[..., D : 2 * D], product)


def test_what_it_divides_by_is_saved_with_it():
    pairs, again = VectorPairs({"argus": E}, D), VectorPairs({"argus": E}, D)
    pairs.divide_by({"argus": (2.0, 4.0)})
    again.load_state_dict(pairs.state_dict())
    assert again.scales.tolist() == [[2.0, 4.0]]
