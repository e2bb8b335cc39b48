"""Candidates of a request: the best k, or all that are worth enough, in the order of expected utility."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from tests.end_to_end.test_tiny_project import succeed, upnext
from tests.serving.asking import NOW
from tests.serving.projects import Published
from upnext.base.ids import FIRST
from upnext.serving.app import create_app
from upnext.serving.choose import Choice, _wanted, choose
from upnext.serving.service import Service

SOME = ["i03", "i10", "i25", "i17"]


@pytest.fixture
def service(start: Callable[[Published], Service], hours: Published) -> Service:
    return start(hours)


def of(client, **body):
    return client.post("/v1/rank", json={"user_id": "u01", "candidates": SOME, "context": {"hour": "08"}} | body)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=9),
    st.none() | st.integers(1, 12),
    st.none() | st.floats(-5, 5),
)
def test_what_is_wanted_is_cut_from_the_best(scores, k, threshold):
    falling = np.sort(np.array(scores, np.float32))[::-1]
    found = _wanted(Choice("u", 0, [], k, threshold), np.arange(9), falling, len(scores))
    kept = [one for one in falling.tolist() if threshold is None or one >= np.float32(threshold)]
    assert found.scores == kept[:k]
    assert found.items == list(range(len(found.scores)))


def test_the_best_and_all_that_reach_a_threshold_over_http(service: Service, hours: Published) -> None:
    with TestClient(create_app(service)) as client:
        everybody = of(client).json()
        assert everybody["ranker"] == service.release.settings.ranker
        assert everybody["release"] == service.release.name
        ordered, scores = ([one[key] for one in everybody["items"]] for key in ("item_id", "score"))
        assert sorted(ordered) == sorted(SOME)
        assert scores == sorted(scores, reverse=True)
        assert of(client, k=2).json()["items"] == everybody["items"][:2]
        assert of(client, threshold=scores[1]).json()["items"] == everybody["items"][:2]
        assert of(client, threshold=scores[1], k=1).json()["items"] == everybody["items"][:1]
        assert of(client, threshold=scores[0] + 1).json()["items"] == []
        assert of(client, candidates=[*SOME, *SOME], k=8).json()["items"] == everybody["items"]
        assert of(client, user_id="a stranger").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"k": 0}, 400, "k is 0; allowed is an integer from 1"),
        ({"k": -3}, 400, "k is -3"),
        ({"k": 1.5}, 400, "$.k"),
        ({"threshold": "0.5"}, 400, "$.threshold"),
        ({"candidates": []}, 400, "ask about 1 to 2,000"),
        ({"candidates": ["i03", "zzz"]}, 404, "candidates[1] is 'zzz'"),
        ({"context": {"mood": "x"}}, 400, "mood"),
        ({"user_id": ""}, 400, "user_id has 0 characters"),
        ({"more": 1}, 400, "more"),
    ],
)
def test_what_cannot_be_answered_is_said(service: Service, body, status, words) -> None:
    with TestClient(create_app(service)) as client:
        answer = of(client, **body)
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]
        nan = client.post(
            "/v1/rank",
            content=b'{"user_id": "u", "candidates": ["i03"], "threshold": NaN}',
            headers={"Content-Type": "application/json"},
        )
        assert nan.status_code == 400
        schema = client.get("/schema").json()["paths"]["/v1/rank"]["post"]
        assert set(schema["requestBody"]["content"]["application/json"]["schema"]["properties"]) >= {"k", "threshold"}


def test_a_release_without_a_ranker_says_so(open_client, tiny: Published) -> None:
    client = open_client(tiny)
    item = client.app.state.service.histories.assortment.describe(FIRST)["item_id"]
    answer = client.post("/v1/rank", json={"user_id": "u1", "candidates": [item]})
    assert answer.status_code == 400
    assert "it has no ranker" in answer.json()["error"]["message"]


def test_requests_together_are_answered_as_each_alone(service: Service) -> None:
    generator = np.random.default_rng(0)
    V = len(service.release.catalogue)
    users = [*service.release.users.ids[:4], "a stranger"]
    choices = [
        Choice(user, NOW, generator.integers(FIRST, V, size).tolist(), context={"hour": "08"})
        for user, size in zip(users, (1, 7, 3, 9, 5), strict=True)
    ]
    together = choose(service.release, service.histories, choices)
    for choice, found in zip(choices, together, strict=True):
        (alone,) = choose(service.release, service.histories, [choice])
        assert alone.items == found.items
        np.testing.assert_allclose(alone.scores, found.scores, rtol=1e-5)
        assert sorted(found.items) == sorted(set(choice.items))


def test_the_command_line_answers_as_the_service_does(hours: Published, tmp_path) -> None:
    folder, file = hours.lend(tmp_path / "lent"), tmp_path / "ids.txt"
    file.write_text("\n".join(SOME[2:]) + "\n")
    asked = ("choose", folder, *SOME[:2], "--candidates", file, "--user", "u01", "--context", "hour=08", "--json")
    everybody = json.loads(succeed(*asked))
    assert sorted(one["item_id"] for one in everybody["items"]) == sorted(SOME)
    assert json.loads(succeed(*asked, "-k", "2"))["items"] == everybody["items"][:2]
    assert len(json.loads(succeed(*asked, "--threshold", str(everybody["items"][2]["score"])))["items"]) == 3
    for more, words in (
        (("-k", "0"), "-k is 0; allowed is an integer from 1"),
        (("--threshold", "nan"), "--threshold is nan; allowed is a finite number"),
        (("zzz",), "'zzz', and there is no such item"),
        (("--candidates", tmp_path / "none.txt"), "none.txt"),
    ):
        done = upnext(*asked, *more)
        assert done.returncode == 2
        assert words in " ".join(done.stderr.split())
