"""Releases made once per session through the real stages, and services around them with a live store each."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.serving.projects import Published
from upnext.serving.app import create_app
from upnext.serving.service import Service

Client: TypeAlias = TestClient[Litestar]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Published], Service]]:
    """Start services one after the other on one live store: the next closes the one before, as a restart does."""
    services: list[Service] = []

    def start_one(published: Published) -> Service:
        for service in services:
            service.close()
        services.append(Service(published.release, tmp_path / "live"))
        return services[-1]

    yield start_one
    for service in services:
        service.close()


@pytest.fixture
def open_client(start: Callable[[Published], Service]) -> Iterator[Callable[[Published], Client]]:
    """Serve releases one after the other over HTTP, on one live store."""
    with contextlib.ExitStack() as stack:

        def open_one(published: Published) -> Client:
            stack.close()
            return stack.enter_context(TestClient(create_app(start(published))))

        yield open_one


@pytest.fixture
def service(start: Callable[[Published], Service], tiny: Published) -> Service:
    return start(tiny)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with TestClient(create_app(service)) as client:
        yield client
