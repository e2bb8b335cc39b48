"""The latency budget: a page that is not ready in time, or fails, is what is popular, and says so."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.serving.asking import ids, post, rows
from tests.serving.projects import Published
from upnext.base.batches import SequenceBatch, State
from upnext.serving.app import create_app
from upnext.serving.service import Service, ServiceSettings


class Slow:
    """Holds a service's retriever until it is let go."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.num_encoded = 0
        encode = type(service.release.retriever).encode

        def slowly(model: Any, histories: SequenceBatch) -> State:
            assert self.go_on.wait(60)
            self.num_encoded += len(histories)
            return encode(model, histories)

        monkeypatch.setattr(type(service.release.retriever), "encode", slowly)


@pytest.fixture
def hasty(tiny: Published, tmp_path: Path) -> Iterator[TestClient[Any]]:
    """A service with a budget of 200 ms."""
    service = Service(tiny.release, tmp_path / "live", ServiceSettings(budget_ms=200))
    with TestClient(create_app(service)) as client:
        yield client


def test_a_slow_model_is_not_waited_for(hasty: TestClient[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    service: Service = hasty.app.state.service
    user = service.release.users.ids[0]
    (_, disliked, *_) = ids(rows(hasty, "a stranger", k=200)["popular"])
    post(hasty, {"user_id": user, "item_id": disliked, "feedback": {"dislike": 1}})
    slow = Slow(service, monkeypatch)
    try:
        for number in range(3):
            answer = hasty.get("/v1/recommendations", params={"user_id": user, "k": 7})
            assert answer.status_code == 200
            page = answer.json()
            assert (page["fallback"], page["fallback_reason"]) == (True, "no answer within 200 ms")
            assert page["is_known"] is True
            assert [row["name"] for row in page["rows"]] == ["popular"], number
            shown = ids(page["rows"][0]["items"])
            assert len(shown) == 7
            ((past, _),) = service.histories.read([user])
            seen = {service.release.catalogue.describe(int(i))["item_id"] for i in past.item[past.views["watched"]]}
            assert not set(shown) & (seen | {disliked})
        # Events are taken meanwhile, and count at once.
        post(hasty, {"user_id": user, "item_id": shown[0], "feedback": {"dislike": 1}})
        assert shown[0] not in ids(rows(hasty, user, k=200)["popular"])
    finally:
        slow.go_on.set()
    service._inference.close()
    assert slow.num_encoded == 1  # what nobody waits for any more is not worked on


def test_a_failing_model_is_no_error(
    hasty: TestClient[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service: Service = hasty.app.state.service

    def fail(*_: Any) -> State:
        raise RuntimeError("out of order")

    with monkeypatch.context() as patch:
        patch.setattr(type(service.release.retriever), "encode", fail)
        page = hasty.get("/v1/recommendations", params={"user_id": "u"}).json()
        assert (page["fallback"], page["fallback_reason"]) == (True, "the ranking failed")
        assert page["rows"][0]["items"]
        assert "out of order" in caplog.text
    page = hasty.get("/v1/recommendations", params={"user_id": "u"}).json()
    assert (page["fallback"], page["fallback_reason"]) == (False, None)
    assert len(page["rows"]) > 2


def test_a_release_without_a_popular_row_falls_back_to_what_a_new_visitor_gets(
    strange: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(strange.release, tmp_path / "live", ServiceSettings(budget_ms=200))
    with TestClient(create_app(service)) as client:
        expected = ids(rows(client, "a stranger", k=3)["for-you"])
        slow = Slow(service, monkeypatch)
        try:
            page = client.get("/v1/recommendations", params={"user_id": "a stranger", "k": 3}).json()
        finally:
            slow.go_on.set()
        assert (page["fallback"], page["is_known"]) == (True, False)
        assert [row["name"] for row in page["rows"]] == ["for-you"]
        assert ids(page["rows"][0]["items"]) == expected
