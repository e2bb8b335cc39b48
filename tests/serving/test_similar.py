"""Similar items: by cosine, never the item itself, and clear about what cannot be asked."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from litestar.testing import TestClient
from rich.console import Console

from tests.serving.projects import Published
from upnext.base.errors import BadRequest, NotFound
from upnext.commands.similar import print_similar
from upnext.models.sasrec import SASRec
from upnext.serving.app import create_app
from upnext.serving.service import Service
from upnext.serving.similar import find_item, similar_items


def test_equals_cosines_by_hand(service: Service) -> None:
    release = service.release
    assert isinstance(release.retriever, SASRec)
    with torch.inference_mode():
        vectors = release.retriever.item_vectors(release.catalogue.items).double().numpy()
    scorable = np.flatnonzero(release.can_retrieve())
    item = int(scorable[5])
    norms = np.linalg.norm(vectors[scorable], axis=1) * np.linalg.norm(vectors[item])
    cosines = dict(zip(scorable.tolist(), (vectors[scorable] @ vectors[item] / norms).tolist(), strict=True))
    del cosines[item]
    items, scores = similar_items(release, service.histories.assortment, item, 7)
    assert items == sorted(cosines, key=lambda one: -cosines[one])[:7]
    np.testing.assert_allclose(scores, [cosines[one] for one in items], atol=1e-5)
    everything, _ = similar_items(release, service.histories.assortment, item, 1000)
    assert sorted(everything) == sorted(cosines)


def test_an_item_without_a_vector_and_a_retriever_without_vectors(service: Service, strange: Published) -> None:
    release = service.release
    assert isinstance(release.retriever, SASRec)
    trained = release.retriever.trained.clone()
    item = int(np.flatnonzero(release.can_retrieve())[0])
    trained[item] = False
    model = SASRec.from_tensors(release.retriever.config, release.retriever.state_dict() | {"trained": trained})
    with pytest.raises(NotFound, match="no vector in 'sasrec'"):
        similar_items(replace(release, retriever=model), service.histories.assortment, item, 3)
    assert release.popular is not None
    with pytest.raises(BadRequest, match="has no item vectors"):
        similar_items(replace(release, retriever=release.popular), service.histories.assortment, item, 3)
    with pytest.raises(NotFound, match="check its id"):
        find_item(service.histories.assortment, "no such item")
    with pytest.raises(BadRequest, match="publish a retriever"):
        print_similar(strange.workspace, "a/b", 3, False, Console())


def test_the_route_and_the_command_agree(service: Service, tiny: Published) -> None:
    with TestClient(create_app(service)) as client:  # closed before the command opens the release
        answer = client.get("/v1/items/t000003/similar", params={"k": 4})
        assert answer.status_code == 200, answer.text
        facts = {"has_similar": True, "is_available": True, "is_ranked": True}
        assert answer.json()["item"] | facts == client.get("/v1/items/t000003").json()
        assert client.get("/v1/items/nothing/similar").status_code == 404
        assert client.get("/v1/items/t000003/similar", params={"k": 0}).status_code == 400
    screen = io.StringIO()
    print_similar(tiny.workspace, "t000003", 4, True, Console(file=screen, width=30), torch.get_num_threads())
    said = json.loads(screen.getvalue())
    assert said["item"] == answer.json()["item"]
    assert [one["item_id"] for one in said["similar"]] == [one["item_id"] for one in answer.json()["similar"]]
    assert len(said["similar"]) == 4
    assert "t000003" not in [one["item_id"] for one in said["similar"]]


def test_similar_says_so_where_there_are_no_vectors(open_client, strange: Published) -> None:
    client = open_client(strange)
    answer = client.get("/v1/items/a%2Fb/similar")
    assert (answer.status_code, answer.json()["error"]["kind"]) == (400, "BadRequest")
